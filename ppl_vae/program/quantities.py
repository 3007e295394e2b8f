"""Densities of a model at given latents, and what its sites observe, with the numbers that masks hide marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.global_posterior import SharedDraws
from ppl_vae.program.latent_space import hidden_part
from ppl_vae.program.predictions import laid_out
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import Site, Structure, sample_sites


class LatentQuantities(NamedTuple):
    """Log densities of data and latents, nats, for ``K`` values of the latents of each of ``B`` data."""

    log_likelihood: Tensor
    """log p(x | z), ``(K, B)``."""
    log_joint: Tensor
    """log p(x, z), ``(K, B)``."""
    hidden: dict[str, Tensor]
    """True for the numbers of a latent that a mask hides, such as those past the end of a sequence, ``(B, ...)``; only
    of latents with a mask."""


@torch.no_grad()
def latent_quantities(program: BoundProgram, batch: Batch, latents: Mapping[str, Tensor]) -> LatentQuantities:
    """Return log p(x | z) and log p(x, z) at given values of all latents, and the numbers that masks hide.

    Args:
        program: the program.
        batch: the arguments of ``model``.
        latents: a value of every latent of a datum by name, ``(K, B, ...)`` as in ``Draws``.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(3, 6)
        >>> program = Program(VAE(data_dim=6, latent_dim=2)).bind((x,))
        >>> latent_quantities(program, (x,), {"z": torch.zeros(5, 3, 2)}).log_joint.shape
        torch.Size([5, 3])
    """
    num_samples, num_data = len(next(iter(latents.values()))), len(batch[0])
    structure = program.structure
    with program.running():
        values = laid_out(program, batch, latents, num_samples)
        trace = program.run(program.model, batch, num_samples, values)
        log_joint = structure.log_density(trace, num_samples)
        log_prior = structure.log_density(trace, num_samples, leave_out=structure.observed)
        sites, hidden = sample_sites(trace), {}
        for name in structure.latents:
            if (part := _hidden(structure, sites[name], num_samples)) is not None:
                hidden[name] = part
        size = (num_samples, num_data)
        return LatentQuantities((log_joint - log_prior).expand(size), log_joint.expand(size), hidden)


@torch.no_grad()
def observed_values(program: BoundProgram, batch: Batch) -> dict[str, Tensor]:
    """Return what the observed sites observe of data, ``(B, ...)`` by site, NaN where it is missing or masked.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(3, 6)
        >>> observed_values(Program(VAE(data_dim=6, latent_dim=2)).bind((x,)), (x,))["x"].shape
        torch.Size([3, 6])
    """
    structure = program.structure
    with program.running(seed="current"):
        sites = sample_sites(program.run(program.model, batch))
        values = {}
        for name in structure.observed:
            site = sites[name]
            if not site["value"].numel():  # pyro.factor observes nothing
                continue
            site = site | {"value": site["value"].expand(site["fn"].shape())}
            value = structure.data(site, site["value"], 1)
            value = value if value.is_floating_point() else value.to(torch.get_default_dtype())
            if (hidden := _hidden(structure, site, 1)) is not None:
                value = torch.where(hidden, torch.nan, value)
            values[name] = value
        return values


@torch.no_grad()
def log_likelihoods(program: BoundProgram, batch: Batch, shared: Mapping[str, Tensor]) -> Tensor:
    """Return log p(x | w) at ``K`` values of the latents that all data share, ``(K, B)``, nats.

    Args:
        program: a program without other latents.
        batch: the arguments of ``model``.
        shared: the values by name, ``(K, ...)`` as ``draw_shared`` returns them.
    """
    structure, posterior = program.structure, program.global_posterior
    number = len(next(iter(shared.values())))
    runs = [{name: w[k : k + 1] for name, w in shared.items()} for k in range(number)]
    parts = []
    with program.running():
        for given in [shared] if not program.draws_take_runs else runs:
            count = number if given is shared else 1
            with SharedDraws(posterior, given):
                parts.append(structure.log_density(program.run(program.model, batch, count), count))
    return torch.cat(parts)


def _hidden(structure: Structure, site: Site, num_samples: int) -> Tensor | None:
    """Return True for the numbers of a site that a mask hides, ``(B, ...)``; None without a mask."""
    hidden = hidden_part(site, site["value"], site["fn"].event_dim)
    if hidden is None:
        return None
    shape = torch.broadcast_shapes(hidden.shape, site["value"].shape)
    return structure.value(site | {"value": hidden.expand(shape)}, num_samples)[0]
