"""Traversals of the latent space, one dimension at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from ppl_vae.display.readable import readable
from ppl_vae.estimator import VariationalInference
from ppl_vae.inference.options import Count, check_value
from ppl_vae.program import LatentPoint
from ppl_vae.uses.description import Caption, describe_use
from ppl_vae.uses.points import LatentMap, average, collect, with_latents


@readable
class Traversal(NamedTuple):
    """Data as one latent dimension moves, the dimension with the largest KL from the prior first."""

    names: tuple[str, ...]
    """Names of the dimensions, ``D`` of them."""
    divergence: np.ndarray
    """KL of each from the prior, averaged over the data, ``(D,)``, nats; NaN for a code, which has no prior."""
    values: np.ndarray
    """Values of each dimension, ``(D, T)``: in unconstrained space, or the number of a discrete latent's value. They
    are NaN if a latent has fewer values than ``T``."""
    discrete: np.ndarray
    """True for the dimensions that are discrete latents, ``(D,)``."""
    means: dict[str, np.ndarray]
    """Mean of x given z at each value, ``(D, T, N, ...)`` by observed site; NaN if there is no value. Of
    classes, it has their probabilities behind these dimensions."""


@describe_use(
    "latents",
    traverse=Caption(
        "uses", "Traversals", "One latent dimension at a time, those with the largest KL from the prior first."
    ),
)
def traverse(
    vi: VariationalInference,
    *arrays: Any,
    around: int = 1,
    num_dimensions: int | None = 8,
    num_steps: int = 9,
    width: float = 2.5,
) -> Traversal:
    r"""Decode one latent dimension at a time around a datum.

    A dimension moves from ``width`` standard deviations below the mean of its prior to as many above it; the prior is
    that given the latents before it. A discrete latent takes each of its values. An autoencoder's code has no prior, so
    that it moves by the standard deviation of the codes of data. The dimensions are in the order of

    .. math::
        \frac1N \sum_i \mathrm{KL}\bigl(\mathcal N(\mu_i, \sigma_i^2) \,\|\, \mathcal N(\mu_0, \sigma_0^2)\bigr)

    with the moments of the posterior and the prior in unconstrained space, or with the frequencies of the values of a
    discrete latent among draws. Source: Higgins et al., beta-VAE (2017), figure 1, for the picture.

    Args:
        vi: a fitted program.
        arrays: the data over which the KL from the prior is averaged.
        around: number of data to start from, ``N``, the first ones.
        num_dimensions: the most dimensions; None takes all.
        num_steps: number of values of a dimension, ``T``.
        width: distance to either side, in standard deviations of the prior.

    Raises:
        InputError: the program has no latents.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x = np.random.default_rng(0).integers(0, 2, (50, 6))
        >>> vi = VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=1).fit(x)
        >>> traversal = traverse(vi, x, num_steps=5)
        >>> traversal.means["x"].shape, bool(traversal.divergence[0] >= traversal.divergence[1])
        ((2, 5, 1, 6), True)
    """
    check_value("num_steps", num_steps, Count)
    check_value("around", around, Count)
    has_prior = bool(vi.program_.structure.latents)
    vi = with_latents(vi, arrays)
    batch = collect(vi, arrays)
    latent_map = LatentMap(vi)
    names, draws = latent_map.coordinates.names, latent_map.draw(arrays)
    divergence = latent_map.divergence(batch, draws) if has_prior else torch.full((len(names),), torch.nan)
    order = divergence.argsort(descending=True, stable=True)[:num_dimensions].tolist()
    few = tuple(tensor[:around] for tensor in batch)
    prior = latent_map.prior(few)
    centre = average(LatentPoint(*(part[:, :around] for part in draws)))
    away = torch.linspace(-width, width, num_steps).to(prior[0])
    places = [latent_map.places(index, prior, away) for index in order]
    steps = max([num_steps, *map(len, places)])
    values = np.full((len(order), steps), np.nan)
    means: dict[str, list[np.ndarray]] = {}
    for row, (index, place) in enumerate(zip(order, places, strict=True)):
        values[row, : len(place)] = place[:, 0].cpu().numpy()
        for name, mean in latent_map.decode(few, latent_map.move(centre, index, place)).items():
            padded = np.full((steps, *mean.shape[1:]), np.nan, dtype=np.result_type(mean, np.float32))
            padded[: len(mean)] = mean
            means.setdefault(name, []).append(padded)
    return Traversal(
        tuple(names[index] for index in order),
        divergence[order].cpu().numpy(),
        values,
        np.array(order) >= latent_map.coordinates.continuous,
        {name: np.stack(parts) for name, parts in means.items()},
    )
