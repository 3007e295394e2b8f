"""``pyro.infer.SVI`` with the same program."""

from __future__ import annotations

import protocol

# isort: split
import ppl_vae.cli.process  # noqa: F401

# isort: split
from collections.abc import Iterator

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from protocol import Turn, Work
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor
from torch_steps import clock, mean_elbo, start, training

from ppl_vae.models.vae import VAE


def make(work: Work, x: np.ndarray) -> Turn:
    pyro.enable_validation(work.options["validation"])
    vae = start(VAE(data_dim=x.shape[1], latent_dim=work.latent_dim, hidden=work.hidden), work)
    return (steps if work.kind == "step" else local_steps)(work, vae, x)


def steps(work: Work, vae: VAE, x: np.ndarray) -> Turn:
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": work.learning_rate}), Trace_ELBO(work.num_particles))

    def run(batches: Iterator[Tensor]) -> list[float]:
        return [svi.step(x) / work.batch_size for x in batches]

    return training(work, x, run)


def local_steps(work: Work, vae: VAE, x: np.ndarray) -> Turn:
    """Optimise parameters in the data plate.

    If the decoder is not frozen, its parameters are hidden from SVI: their gradient is computed but not used.
    """
    frozen, data = work.options["frozen"], torch.from_numpy(x).to(work.device)
    vae.decoder.requires_grad_(not frozen)
    model = vae.model if frozen else poutine.block(vae.model, hide_types=["param"])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            loc = pyro.param("loc", x.new_zeros(len(x), work.latent_dim))
            scale = pyro.param("scale", x.new_ones(len(x), work.latent_dim), constraint=dist.constraints.positive)
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def turn(seed: int, steps: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        pyro.clear_param_store()
        began = clock(work.device)
        svi = SVI(model, guide, pyro.optim.Adam({"lr": work.learning_rate}), Trace_ELBO())
        for _ in range(steps):
            svi.step(data)
        seconds = clock(work.device) - began
        lam = torch.cat([pyro.param("loc"), pyro.param("scale").log()], -1)
        return seconds, mean_elbo(vae.decoder, data, lam)

    return turn


if __name__ == "__main__":
    protocol.serve(make)
