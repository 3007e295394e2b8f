"""Training epochs of ``vae``, 784-400-20 at batch 128, in this project and through ``pyro.infer.SVI``.

The same network, data, batches and learning rate in one process; the repetitions are interleaved, and the ratio of
neighbours is reported by its median, so that a noisy machine disturbs both sides alike.

    python benchmarks/step.py [--data-root FOLDER_WITH_MNIST] [--repetitions 9] [--batches 150]
"""

from __future__ import annotations

import ppl_vae.process  # noqa: F401

# isort: split
import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from results import cells, interleaved, keep, machine, mnist_or_bits, ratio

from ppl_vae.data import Batches
from ppl_vae.inference import amortized_steps
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program

BATCH_SIZE, LEARNING_RATE = 128, 1e-3


def make_vae() -> VAE:
    torch.manual_seed(0)
    return VAE(data_dim=784, latent_dim=20, hidden=(400,))


def ours(batches: Batches, num_batches: int) -> Callable[[int], float]:
    """A function of a seed that trains on some batches and gives seconds a step."""
    program = Program(make_vae())
    parameters = program.parameters(next(batches.in_order())).values()
    adam = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True)

    def run(seed: int) -> float:
        some = (batch for batch, _ in zip(batches.shuffled(seed), range(num_batches), strict=False))
        start = time.perf_counter()
        with program.scope(training=True):
            steps = list(amortized_steps(program, some, adam))
        float(steps[-1].elbo)
        return (time.perf_counter() - start) / len(steps)

    return run


def through_pyro(batches: Batches, num_batches: int, *, validation: bool) -> Callable[[int], float]:
    """The same through ``pyro.infer.SVI``."""
    vae, state = make_vae(), {"params": {}, "constraints": {}}
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": LEARNING_RATE}), Trace_ELBO())

    def run(seed: int) -> float:
        with pyro.get_param_store().scope(state), pyro.validation_enabled(validation):
            some = (batch for batch, _ in zip(batches.shuffled(seed), range(num_batches), strict=False))
            start = time.perf_counter()
            steps = [svi.step(*batch) for batch in some]
            return (time.perf_counter() - start) / len(steps)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", help="folder with MNIST in torchvision's layout; random bits without it")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--batches", type=int, default=150, help="batches in a repetition; an epoch of MNIST has 391")
    parser.add_argument("--output", default=Path(__file__).parent / "results.json", type=Path)
    options = parser.parse_args()
    torch.set_float32_matmul_precision("medium")  # as the commands do; for both sides
    x = mnist_or_bits(options.data_root)
    batches = Batches({"x": x}, ["x"], BATCH_SIZE)
    mine = ours(batches, options.batches)
    peers = {
        "pyro.infer.SVI, default settings": through_pyro(batches, options.batches, validation=True),
        "pyro.infer.SVI, validation off": through_pyro(batches, options.batches, validation=False),
    }
    pairs = interleaved(mine, peers, options.repetitions)

    print(machine(options.repetitions, f"{options.batches} batches", options.data_root))
    print("| peer | ours, ms a step | peer, ms a step | ratio, median | range |\n|---|---|---|---|---|")
    rows = [ratio("training step, vae 784-400-20, batch 128", name, seconds) for name, seconds in pairs.items()]
    print("\n".join(map(cells, rows)))
    keep(options.output, rows)


if __name__ == "__main__":
    main()
