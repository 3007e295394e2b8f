"""From a program and its data to the use of its latents: numbers for each latent dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.compile.private import tree_map
from ppl_vae.data import Batches
from ppl_vae.evaluation.evaluation import Diagnostics
from ppl_vae.evaluation.passes import Room, passes, room_for
from ppl_vae.evaluation.results import mean_and_error
from ppl_vae.evidence import active_units, marginal_divergence, marginal_divergence_error, prior_scales
from ppl_vae.parallel import ALL, RowSpan, seed_at
from ppl_vae.program import (
    Batch,
    BoundProgram,
    ElboTerms,
    classes_of,
    elbo_terms,
    gaussian_priors,
    indicators,
    names_of,
    posterior_moments,
    seeded,
)

DRAWS = 16
"""Draws per datum of the ELBO's two terms, at least."""
ELBO_DRAWS = 5000
"""Draws of the ELBO's two terms, at least, over all data: their sum stands beside an ELBO of many more."""
PRIOR_DRAWS = 2000
"""Draws from the prior, at least, over all data."""
UNIT_SCALE = 0.1
"""A prior whose draws' standard deviation is nearer to one than this counts as of unit scale: six of its errors."""


DIAGNOSED = 2**15
"""The number of data from which only a share of them is diagnosed: every second, third, ... batch."""


class LatentUse(NamedTuple):
    """The numbers from which the use of the latents is computed, for each of ``N`` data, in double precision."""

    reconstruction: Tensor
    """E log p(x | z), ``(N,)``."""
    divergence: Tensor
    """KL(q(z | x) || p(z)), ``(N,)``."""
    by_dimension: Tensor
    """The divergence of each dimension, ``(N, D)``."""
    means: Tensor
    """Posterior means, ``(N, D)``."""
    draws: Tensor
    """A draw from each datum's posterior, ``(N, D)``."""
    prior_draws: Tensor
    """Draws from the prior, ``(N * P, D)``."""


@torch.no_grad()
def look_at_latents(program: BoundProgram, batches: Batches, seed: int, place: RowSpan = ALL) -> LatentUse | None:
    """Compute the ELBO's terms, posterior means and draws of data; return None if the guide samples nothing.

    Of many data it takes a share, so that memory is bounded; it returns empty tensors if none of these are in it.

    Args:
        program: in evaluation mode and in its scope.
        batches: the data.
        seed: seed of the draws.
        place: the place of the data among all those that are evaluated.
    """
    sizes = _sizes(program, seed)
    if not sizes:
        return None
    total, rows = place.num_data or batches.num_data, rows_to_look_at(program)
    every = max(1, total // DIAGNOSED)
    num_draws, num_prior = max(DRAWS, math.ceil(ELBO_DRAWS / total)), math.ceil(PRIOR_DRAWS / total)
    at_once_of, start = _room(program), place.first_row // rows

    def look(batch: Batch) -> tuple[Tensor, ...]:
        at_once = at_once_of.draws(len(batch[0]))
        counts = passes(num_draws, at_once)
        terms = _averaged([elbo_terms(program, batch, count) for count in counts], counts)
        means = _columns(posterior_moments(program, batch).mean, sizes)
        draws = _columns({name: z[0] for name, z in program.posterior(batch).latents.items()}, sizes)
        priors = [program.prior(batch, k).latents for k in passes(num_prior, at_once)]
        prior_draws = torch.cat([_columns({n: z.flatten(0, 1) for n, z in p.items()}, sizes) for p in priors])
        by_dimension = torch.cat([_per_dimension(terms.by_site.get(n), len(means), s) for n, s in sizes.items()], 1)
        return terms.reconstruction, terms.divergence, by_dimension.to(means), means, draws, prior_draws

    parts = []
    for number, batch in enumerate(batches.in_order(batch_size=rows)):
        if (start + number) % every == 0:
            with seeded(seed_at(seed, place.first_row + number * rows)):
                parts.append(look(batch))
    if not parts:
        none, wide = torch.zeros(0).double(), torch.zeros(0, sum(size.numel() for size in sizes.values())).double()
        return LatentUse(none, none, wide, wide, wide, wide)
    return LatentUse(*(torch.cat(part).double().cpu() for part in zip(*parts, strict=True)))


def rows_to_look_at(program: BoundProgram) -> int:
    """Return the number of data that ``look_at_latents`` takes at once, a power of two."""
    return _room(program).rows(DRAWS)


def summarise_latents(program: BoundProgram, parts: Sequence[LatentUse], seed: int) -> Diagnostics:
    """Compute divergences and active units.

    Args:
        program: in evaluation mode and in its scope.
        parts: what ``look_at_latents`` has computed of parts of the data, in their order.
        seed: the seed with which it did so.
    """
    sizes, classes = _sizes(program, seed), classes_of(program)
    used = LatentUse(*(torch.cat(part) for part in zip(*parts, strict=True)))
    num_data = len(used.means)
    names = (name for site, size in sizes.items() for name in names_of(site, size, classes=site in classes))
    return Diagnostics(
        *mean_and_error(used.reconstruction),
        *mean_and_error(used.divergence),
        dimensions=tuple(names),
        divergence_by_dimension=used.by_dimension.mean(0),
        divergence_by_dimension_se=_errors(used.by_dimension),
        active=active_units(used.means / prior_scales(used.prior_draws, UNIT_SCALE)) if num_data > 1 else None,
        aggregated_divergence=marginal_divergence(used.draws, used.prior_draws),
        aggregated_divergence_se=marginal_divergence_error(used.draws, used.prior_draws),
        draws=used.draws,
        prior_draws=used.prior_draws,
        gaussian_prior=_gaussian_prior(program, sizes, seed),
    )


def _errors(values: Tensor) -> Tensor:
    """Return the standard errors of means over data ``(N, D)``, ``(D,)``; infinite if there is one datum."""
    if len(values) == 1:
        return torch.full_like(values[0], math.inf)
    return values.std(0) / math.sqrt(len(values))


def _gaussian_prior(program: BoundProgram, sizes: Mapping[str, torch.Size], seed: int) -> Tensor:
    """Return the moments of the prior of each dimension if it is the same Gaussian for all data, ``(2, D)``."""
    columns = []
    with seeded(seed), torch.no_grad():
        for parts in gaussian_priors(program, program.template):
            alike = {name: part[0] for name, part in parts.items() if bool((part == part[:1]).all())}
            columns.append([_in_shape(alike.get(name), size) for name, size in sizes.items()])
    return torch.stack([torch.cat(parts).double().cpu() for parts in columns])


def _in_shape(moment: Tensor | None, size: torch.Size) -> Tensor:
    """Return a moment of a latent as ``(D,)``; NaN if it is not known in this shape."""
    if moment is None or moment.shape != size:
        return torch.full((size.numel(),), math.nan)
    return moment.reshape(-1)


def _sizes(program: BoundProgram, seed: int) -> dict[str, torch.Size]:
    """Return the shape of each latent of a datum that the guide samples, by site."""
    with seeded(seed), torch.no_grad():
        means = posterior_moments(program, program.template, 1).mean
    return {name: mean.shape[1:] for name, mean in means.items()}


def _room(program: BoundProgram) -> Room:
    return room_for(partial(program.log_weights, program.template), len(program.template[0]))


def _averaged(parts: list[ElboTerms], counts: list[int]) -> ElboTerms:
    """Average over all draws, given the averages over each part of them and the numbers of draws in the parts."""
    shares = [count / sum(counts) for count in counts]
    return tree_map(
        lambda *terms: torch.stack([term * share for term, share in zip(terms, shares, strict=True)]).sum(0), *parts
    )


def _columns(latents: Mapping[str, Tensor], sizes: Mapping[str, torch.Size]) -> Tensor:
    """Join latents ``(N, ...)`` by site as columns ``(N, D)``, those that are classes as indicators."""
    values = (indicators(latents[name], size) for name, size in sizes.items())
    return torch.cat([value.reshape(len(value), -1).double() for value in values], 1)


def _per_dimension(divergence: Tensor | None, num_data: int, size: torch.Size) -> Tensor:
    """Return a latent's divergence by dimension, ``(N, D)``; NaN if it is known only for the latent as a whole."""
    if divergence is None or divergence.shape[1:] != size:
        return torch.full((num_data, size.numel()), math.nan)
    return divergence.reshape(num_data, -1)
