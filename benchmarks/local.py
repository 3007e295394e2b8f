"""Gradient steps in the lambda of 1000 data, theta fixed, in this project and through ``pyro.infer.SVI``.

The model is ``vae`` (784-400-20), q a diagonal Gaussian of each datum, with one particle. Both sides start from the
same lambda and have the same learning rate. Theta comes from a short training. The repetitions are interleaved, and
the ratio of neighbours is reported by its median, so that a noisy machine disturbs both sides alike.

    python benchmarks/local.py [--data-root FOLDER_WITH_MNIST] [--repetitions 5] [--steps 200]
"""

from __future__ import annotations

import ppl_vae.process  # noqa: F401

# isort: split
import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from results import cells, interleaved, keep, machine, mnist_or_bits, ratio
from torch import Tensor

from ppl_vae.data import Batches
from ppl_vae.inference import LocalSteps, Rows, amortized_steps, infer
from ppl_vae.inference.families import Diagonal
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program
from ppl_vae.program.latent_space import LatentSpace

NUM_DATA, LATENT_DIM, LEARNING_RATE = 1000, 20, 0.1


class Run(NamedTuple):
    seconds: float
    """A step."""
    lam: Tensor
    """``(B, 2 D)``: mean and logarithm of the standard deviation."""


def trained_vae(x: np.ndarray) -> VAE:
    """A VAE whose theta has seen some batches."""
    torch.manual_seed(0)
    vae = VAE(data_dim=784, latent_dim=LATENT_DIM, hidden=(400,))
    program, batches = Program(vae), Batches({"x": x}, ["x"], 128)
    parameters = program.parameters(next(batches.in_order())).values()
    adam = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    with program.scope(training=True):
        for _ in amortized_steps(program, batches.shuffled(0), adam):
            pass
    return vae.eval()


def ours(vae: VAE, x: Tensor, num_steps: int) -> Callable[[int], Run]:
    """A function of a seed that refines all data, and gives the time and where they have come to."""
    program = Program(vae.model)
    space = LatentSpace(program, (x,))
    family = Diagonal(space.size)

    def run(seed: int) -> Run:
        torch.manual_seed(seed)
        start = time.perf_counter()
        with program.scope(training=False):
            rows = Rows.at(family.start(*space.start((x,))))
            rows = infer(space, family, (x,), rows, LocalSteps(num_steps, LEARNING_RATE))
        return Run((time.perf_counter() - start) / num_steps, rows.lam)

    return run


def through_pyro(vae: VAE, x: Tensor, num_steps: int, *, validation: bool, frozen: bool) -> Callable[[int], Run]:
    """The same through ``pyro.infer.SVI``, with parameters in the data plate.

    Where the decoder is not frozen, SVI is not told of its parameters: their gradient is computed, and not used.
    """
    model = vae.model if frozen else poutine.block(vae.model, hide_types=["param"])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            loc = pyro.param("loc", x.new_zeros(len(x), LATENT_DIM))
            scale = pyro.param("scale", x.new_ones(len(x), LATENT_DIM), constraint=dist.constraints.positive)
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def run(seed: int) -> Run:
        torch.manual_seed(seed)
        vae.decoder.requires_grad_(not frozen)
        try:
            with (
                pyro.get_param_store().scope({"params": {}, "constraints": {}}),
                pyro.validation_enabled(validation),
            ):
                start = time.perf_counter()
                svi = SVI(model, guide, pyro.optim.Adam({"lr": LEARNING_RATE}), Trace_ELBO(num_particles=1))
                for _ in range(num_steps):
                    svi.step(x)
                seconds = (time.perf_counter() - start) / num_steps
                lam = torch.cat([pyro.param("loc"), pyro.param("scale").log()], -1).detach()
        finally:
            vae.decoder.requires_grad_(True)
            vae.decoder.zero_grad()
        return Run(seconds, lam)

    return run


@torch.no_grad()
def mean_elbo(vae: VAE, x: Tensor, lam: Tensor, num_samples: int = 20) -> float:
    """Nats per datum, from the same noise at each call."""
    program, q = Program(vae.model), Diagonal(LATENT_DIM).distribution(lam)
    space, generator = LatentSpace(program, (x,)), torch.Generator().manual_seed(0)
    loc, scale = q.base_dist.loc, q.base_dist.scale
    total = 0.0
    for _ in range(num_samples):
        u = loc + scale * torch.randn(1, *loc.shape, generator=generator)
        total += float((space.log_joint((x,), u) - q.log_prob(u)).mean())
    return total / num_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", help="folder with MNIST in torchvision's layout; random bits without it")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="gradient steps in a repetition")
    parser.add_argument("--output", default=Path(__file__).parent / "results.json", type=Path)
    options = parser.parse_args()
    torch.set_float32_matmul_precision("medium")  # as the commands do; for both sides
    data = mnist_or_bits(options.data_root)
    vae, x = trained_vae(data), torch.as_tensor(data[:NUM_DATA])

    def sides(num_steps: int) -> tuple[Callable[[int], Run], dict[str, Callable[[int], Run]]]:
        return ours(vae, x, num_steps), {
            "pyro.infer.SVI, default settings": through_pyro(vae, x, num_steps, validation=True, frozen=True),
            "pyro.infer.SVI, validation off": through_pyro(vae, x, num_steps, validation=False, frozen=True),
            "pyro.infer.SVI, default settings, decoder not frozen": through_pyro(
                vae, x, num_steps, validation=True, frozen=False
            ),
        }

    mine, peers = sides(options.steps)
    pairs = interleaved(mine, peers, options.repetitions)

    print(machine(options.repetitions, f"{options.steps} steps", options.data_root))
    start = mean_elbo(vae, x, torch.zeros(NUM_DATA, 2 * LATENT_DIM))
    print(f"mean ELBO where both start: {start:.2f} nats per datum\n")
    print(
        "| peer | ours, ms a step | peer, ms a step | ratio, median | range | our ELBO | peer's ELBO |\n"
        "|---|---|---|---|---|---|---|"
    )
    work, rows = f"step in lambda of {NUM_DATA} data, vae 784-400-20, one particle", []
    for name, runs in pairs.items():
        own, other = (mean_elbo(vae, x, run.lam) for run in runs[-1])
        row = ratio(work, name, [(a.seconds, b.seconds) for a, b in runs])
        rows.append(row | {"ours_elbo": own, "peer_elbo": other})
        print(f"{cells(row)} {own:.2f} | {other:.2f} |")
    keep(options.output, rows)


if __name__ == "__main__":
    main()
