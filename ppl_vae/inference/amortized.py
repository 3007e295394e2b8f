"""Amortized inference: theta and phi take one gradient step a batch (stochastic variational inference)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.inference.objectives import elbo
from ppl_vae.program import Batch, Program


class Step(NamedTuple):
    """One gradient step."""

    elbo: Tensor
    """Mean over the batch, before the step; a detached scalar on the device, so that no step waits for it."""
    num_data: int


def amortized_steps(
    program: Program, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, *, num_particles: int = 1
) -> Iterator[Step]:
    """Ascend the ELBO in theta and phi together, one step a batch.

    Modules are in the mode, and Pyro validates, as the caller has set it: ``program.scope(training=True)``.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), algorithm 1.

    Args:
        program: a program with a guide.
        batches: tuples of tensors, the arguments of ``model``.
        optimizer: over ``program.parameters(batch)``.
        num_particles: draws per datum in the objective.

    Yields:
        Step: the ELBO of the batch, nats per datum.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> program, x = Program(VAE(data_dim=6, latent_dim=2)), torch.ones(8, 6)
        >>> adam = torch.optim.Adam(program.parameters((x,)).values(), lr=1e-2)
        >>> steps = list(amortized_steps(program, [(x,)] * 50, adam))
        >>> bool(steps[-1].elbo > steps[0].elbo)
        True
    """
    for batch in batches:
        objective = elbo(program.weighted_draws(batch, num_particles, tempered=True)).mean()
        optimizer.zero_grad()
        (-objective).backward()
        optimizer.step()
        yield Step(objective.detach(), len(batch[0]))
