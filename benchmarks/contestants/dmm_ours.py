"""ppl_vae: training steps of the deep Markov model."""

from __future__ import annotations

import protocol

# isort: split
import ppl_vae.cli.process  # noqa: F401

# isort: split
import numpy as np
import torch
from dmm_data import chorales
from protocol import Turn, Work
from torch_steps import clock

from ppl_vae.inference import AmortizedOptions, Compiler, amortized_steps
from ppl_vae.models.deep_markov_model import DeepMarkovModel
from ppl_vae.program import Program


def make(work: Work, x: np.ndarray) -> Turn:
    torch.manual_seed(0)
    batch = tuple(map(torch.from_numpy, chorales(work.batch_size, work.num_samples)))
    program = Program(DeepMarkovModel()).bind(batch)
    compiler = Compiler(work.options["compile"])
    adam = torch.optim.Adam(program.parameters().values(), lr=work.learning_rate, fused=True)

    def turn(seed: int, steps: int) -> tuple[float, float]:
        began = clock(work.device)
        with program.running(seed=seed, training=True):
            taken = amortized_steps(program, [batch] * steps, adam, AmortizedOptions(), compiler=compiler)
            elbos = torch.stack([step.elbo for step in taken])
        return clock(work.device) - began, -float(elbos.mean()) / work.num_samples

    return turn


if __name__ == "__main__":
    protocol.serve(make)
