"""Posterior means and standard deviations of the latents of each datum."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.evaluation.results import join
from ppl_vae.program import (
    Batch,
    BoundProgram,
    LatentMoments,
    has_exact_moments,
    marginals,
    names_of,
    posterior_moments,
)
from ppl_vae.uses.description import describe_use
from ppl_vae.uses.points import with_latents

DRAWS = 256
"""Number of draws for moments that are not known in closed form."""


@readable
class Embedding(NamedTuple):
    """Posterior moments, with a row for each datum and a column for each latent dimension."""

    names: tuple[str, ...]
    """Names of the columns: ``z[0]``, or ``c=2`` for a value of a discrete latent."""
    mean: np.ndarray
    """Posterior means, ``(N, D)``; for a value of a discrete latent, its posterior probability."""
    sd: np.ndarray
    """Posterior standard deviations, ``(N, D)``."""


@describe_use("latents")
def embed(vi: VariationalInference, *arrays: Any) -> Embedding:
    """Compute posterior means and standard deviations of the latents.

    A discrete latent that is summed out, or whose values are classes, has a column for each of its values, with the
    posterior probability p of the value, called responsibility in a mixture, and the standard deviation
    sqrt(p (1 - p)). The probability is exact if the latent is summed out. The code of an autoencoder, which its model
    records with ``pyro.deterministic``, has a standard deviation of zero.

    Args:
        vi: a fitted program.
        arrays: the data, in the order of the model's arguments, or one mapping.

    Raises:
        InputError: the program has no latents.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.mixture import Mixture
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> embed(VariationalInference(Mixture(num_components=3), max_epochs=1).fit(x), x).names
        ('c=0', 'c=1', 'c=2')
    """
    vi = with_latents(vi, arrays)

    def moments(program: BoundProgram, batch: Batch) -> tuple[LatentMoments, dict[str, Tensor]]:
        structure = program.structure
        if not structure.latents:
            raise InputError(f"{program.name} has no latents to embed data in")
        known = posterior_moments(program, batch, DRAWS) if len(structure.summed) < len(structure.latents) else None
        return known or LatentMoments({}, {}), marginals(program, batch)

    program = vi.inference_.posterior
    structure = program.structure
    is_exact = bool(structure.latents) and not structure.summed and has_exact_moments(program)
    moments_of, shares_of = zip(*vi.fitted.each_batch(arrays, moments, 1 if is_exact else DRAWS), strict=True)
    mean, sd = (join([getattr(part, field) for part in moments_of]) for field in ("mean", "sd"))
    share = join(list(shares_of))
    classes, moments_and_shares = share.keys() | vi.fitted.classes.keys(), {**mean, **share}.items()
    names = [n for site, array in moments_and_shares for n in names_of(site, array.shape[1:], classes=site in classes)]
    deviation = {site: np.sqrt((array * (1 - array)).clip(min=0)) for site, array in share.items()}
    columns = ([*mean.values(), *share.values()], [*sd.values(), *deviation.values()])
    flat = ([array.reshape(len(array), -1) for array in kind] for kind in columns)
    return Embedding(tuple(names), *(np.concatenate(kind, 1, dtype=float) for kind in flat))
