"""From a program and its data to the use of its latents: numbers for each latent dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from ppl_vae.compile.private import tree_map
from ppl_vae.data import Batches
from ppl_vae.evaluation.evaluation import Diagnostics
from ppl_vae.evaluation.passes import passes, room_for
from ppl_vae.evaluation.results import mean_and_error
from ppl_vae.evidence import active_units, marginal_divergence, prior_scales
from ppl_vae.program import (
    BoundProgram,
    ElboTerms,
    classes_of,
    elbo_terms,
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


@torch.no_grad()
def diagnose(program: BoundProgram, batches: Batches, seed: int) -> Diagnostics | None:
    """Compute the ELBO's terms, divergences and active units; return None if the guide samples nothing.

    Args:
        program: in evaluation mode and in its scope.
        batches: all data.
        seed: seed of the draws.
    """
    num_data, classes = batches.num_data, classes_of(program)
    with seeded(seed):
        sizes = {name: mean.shape[1:] for name, mean in posterior_moments(program, program.template, 1).mean.items()}
        if not sizes:
            return None
        num_draws, num_prior = max(DRAWS, math.ceil(ELBO_DRAWS / num_data)), math.ceil(PRIOR_DRAWS / num_data)
        room = room_for(partial(program.log_weights, program.template), len(program.template[0]))
        parts = []
        for batch in batches.in_order(batch_size=room.rows(DRAWS)):
            at_once = room.draws(len(batch[0]))
            counts = passes(num_draws, at_once)
            terms = _averaged([elbo_terms(program, batch, count) for count in counts], counts)
            means = _columns(posterior_moments(program, batch).mean, sizes)
            draws = _columns({name: z[0] for name, z in program.posterior(batch).latents.items()}, sizes)
            priors = [program.prior(batch, k).latents for k in passes(num_prior, at_once)]
            prior_draws = torch.cat([_columns({n: z.flatten(0, 1) for n, z in p.items()}, sizes) for p in priors])
            by_dimension = torch.cat([_per_dimension(terms.by_site.get(n), len(means), s) for n, s in sizes.items()], 1)
            parts.append((terms.reconstruction, terms.divergence, by_dimension.to(means), means, draws, prior_draws))
    reconstruction, divergence, by_dimension, means, draws, prior_draws = (
        torch.cat(part).double().cpu() for part in zip(*parts, strict=True)
    )
    return Diagnostics(
        *mean_and_error(reconstruction),
        *mean_and_error(divergence),
        dimensions=tuple(
            name for site, size in sizes.items() for name in names_of(site, size, classes=site in classes)
        ),
        divergence_by_dimension=by_dimension.mean(0),
        active=active_units(means / prior_scales(prior_draws, UNIT_SCALE)) if num_data > 1 else None,
        aggregated_divergence=marginal_divergence(draws, prior_draws),
        draws=draws,
        prior_draws=prior_draws,
    )


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
