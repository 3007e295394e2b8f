"""ppl_vae: a Pyro program, with or without compiled steps."""

from __future__ import annotations

import protocol

# isort: split
import ppl_vae.cli.process  # noqa: F401

# isort: split
from collections.abc import Iterator

import numpy as np
import torch
from protocol import Turn, Work
from torch import Tensor
from torch_steps import clock, mean_elbo, start, training

from ppl_vae import VariationalInference
from ppl_vae.estimator.options import HardwareOptions
from ppl_vae.estimator.precision import usable_precision
from ppl_vae.inference import AmortizedOptions, Compiler, LocalElbo, LocalSteps, amortized_steps
from ppl_vae.inference.families import Diagonal
from ppl_vae.models.vae import VAE
from ppl_vae.program import LatentSpace, Program


def make(work: Work, x: np.ndarray) -> Turn:
    vae = start(VAE(data_dim=x.shape[1], latent_dim=work.latent_dim, hidden=work.hidden), work)
    return {"step": steps, "lambda": local_steps, "iwae": evidence}[work.kind](work, vae, x)


def check(compiler: Compiler) -> None:
    """Raise an error if nothing was compiled; otherwise steps in Python would be reported as compiled ones."""
    if compiler.mode == "on" and not compiler.graphs:
        raise RuntimeError("nothing has been compiled")


def steps(work: Work, vae: VAE, x: np.ndarray) -> Turn:
    first = torch.from_numpy(x[: work.batch_size]).to(work.device)
    hardware = HardwareOptions(precision=work.options.get("precision", "32-true"))
    program = Program(vae).bind((first,), precision=usable_precision(hardware, torch.device(work.device)))
    compiler = Compiler(work.options["compile"])
    parameters = program.parameters().values()
    adam = torch.optim.Adam(parameters, lr=work.learning_rate, fused=True)

    def run(batches: Iterator[Tensor]) -> list[Tensor]:
        with program.running(training=True):
            training_steps = amortized_steps(
                program,
                ((x,) for x in batches),
                adam,
                AmortizedOptions(num_particles=work.num_particles),
                compiler=compiler,
            )
            losses = [step.elbo for step in training_steps]
        check(compiler)
        return losses

    turn = training(work, x, run)

    def negated(seed: int, steps: int) -> tuple[float, float]:
        seconds, elbo = turn(seed, steps)
        return seconds, -elbo

    return negated


def local_steps(work: Work, vae: VAE, x: np.ndarray) -> Turn:
    batch = (torch.from_numpy(x).to(work.device),)
    program = Program(vae.eval()).bind(batch)
    space, compiler = LatentSpace(program), Compiler(work.options["compile"])
    local = LocalElbo(space, Diagonal(space.size), compiler)

    def turn(seed: int, steps: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        began = clock(work.device)
        with program.running(training=False):
            rows = local.ascend(batch, local.at_prior(batch), LocalSteps(steps, work.learning_rate))
        seconds = clock(work.device) - began
        check(compiler)
        return seconds, mean_elbo(vae.decoder, *batch, rows.lam)

    return turn


def evidence(work: Work, vae: VAE, x: np.ndarray) -> Turn:
    vi = VariationalInference(vae, compile=work.options["compile"], accelerator=work.device)
    vi.prepare({"x": x})

    def turn(seed: int, steps: int) -> tuple[float, float]:
        vi.set_params(seed=seed)
        began = clock(work.device)
        row = vi.evaluate(x, estimators=("iwae",), num_samples=work.num_samples).rows["iwae"]
        return clock(work.device) - began, row.log_evidence

    return turn


if __name__ == "__main__":
    protocol.serve(make)
