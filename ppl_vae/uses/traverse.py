"""One latent dimension at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.evidence import gaussian_divergence
from ppl_vae.program import Batch, Coordinates, LatentPoint
from ppl_vae.uses._points import coordinates, draws_of, means_at, middle, prior_of, whole, with_latents
from ppl_vae.uses.description import Caption, describe_use

PRIOR_DRAWS = 2048


class Traversal(NamedTuple):
    """What each latent dimension does, the most informative first."""

    names: tuple[str, ...]
    """Of the dimensions, ``D``."""
    divergence: np.ndarray
    """KL from the prior of each, nats, the average over the data, ``(D,)``; NaN of a code, which has no prior."""
    values: np.ndarray
    """Those that a dimension takes, ``(D, T)``: in unconstrained space, or the number of a discrete latent's value; NaN
    where a latent has fewer values."""
    discrete: np.ndarray
    """Which are discrete latents, Boolean, ``(D,)``."""
    means: dict[str, np.ndarray]
    """The mean of x given z there, ``(D, T, N, ...)`` by observed site; NaN likewise."""


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
    r"""Compute the means of x as one latent dimension moves and the others stay at a datum's posterior mean.

    A dimension moves from ``width`` standard deviations of the prior below its mean to as many above, latents before it
    at theirs; a discrete latent takes each of its values. An autoencoder's code, which has no prior, moves by the
    standard deviation of the data's codes. The dimensions are in the order of

    .. math::
        \frac1N \sum_i \mathrm{KL}\bigl(\mathcal N(\mu_i, \sigma_i^2) \,\|\, \mathcal N(\mu_0, \sigma_0^2)\bigr)

    of the moments of posterior and prior in unconstrained space; of a discrete latent, of the frequencies of its values
    among draws. Source: Higgins et al., beta-VAE (2017), figure 1, for the picture.

    Args:
        vi: a fitted program.
        arrays: data. The divergence is the average over all of them.
        around: so many of them are traversed around, the first ones.
        num_dimensions: at most so many dimensions; None for all.
        num_steps: ``T``.
        width: in standard deviations of the prior.

    Raises:
        InputError: no latent.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x = np.random.default_rng(0).integers(0, 2, (50, 6))
        >>> vi = VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=1).fit(x)
        >>> found = traverse(vi, x, num_steps=5)
        >>> found.means["x"].shape, bool(found.divergence[0] >= found.divergence[1])
        ((2, 5, 1, 6), True)
    """
    for name, number in (("num_steps", num_steps), ("around", around)):
        if number < 1:
            raise InputError(f"{name} is {number}: expected 1 or more")
    has_prior = bool(vi.program_.structure.latents)
    vi = with_latents(vi, arrays)
    batch = whole(vi, arrays)
    there = coordinates(vi)
    draws = draws_of(vi, arrays)
    if has_prior:
        divergence = divergences(vi, there, batch, draws)
        order = divergence.argsort(descending=True)[:num_dimensions].tolist()
    else:
        divergence = torch.full((len(there.names),), torch.nan)
        order = list(range(len(there.names)))[:num_dimensions]
    few = tuple(tensor[:around] for tensor in batch)
    loc, scale = prior_of(vi, there, few)
    centre = middle(LatentPoint(*(part[:, :around] for part in draws)))
    steps = max(num_steps, *(len(there.values[i - there.continuous]) for i in order if i >= there.continuous), 1)
    values = np.full((len(order), steps), np.nan)
    means: dict[str, list[np.ndarray]] = {}
    for row, index in enumerate(order):
        if index < there.continuous:
            u = centre.u.repeat(num_steps, 1, 1)
            u[:, :, index] = loc[:, index] + torch.linspace(-width, width, num_steps).to(loc)[:, None] * scale[:, index]
            point = LatentPoint(u, centre.choices.expand(num_steps, -1, -1))
            values[row, :num_steps] = u[:, 0, index].cpu().numpy()
        else:
            number = len(there.values[index - there.continuous])
            choices = centre.choices.repeat(number, 1, 1)
            choices[:, :, index - there.continuous] = torch.arange(number).to(choices)[:, None]
            point = LatentPoint(centre.u.expand(number, -1, -1), choices)
            values[row, :number] = np.arange(number)
        for name, mean in means_at(vi, there, few, point).items():
            padded = np.full((steps, *mean.shape[1:]), np.nan, dtype=np.result_type(mean, np.float32))
            padded[: len(mean)] = mean
            means.setdefault(name, []).append(padded)
    return Traversal(
        tuple(there.names[index] for index in order),
        divergence[order].cpu().numpy(),
        values,
        np.array([index >= there.continuous for index in order]),
        {name: np.stack(parts) for name, parts in means.items()},
    )


def divergences(vi: VariationalInference, there: Coordinates, batch: Batch, draws: LatentPoint) -> Tensor:
    """KL from the prior of each coordinate, nats, the average over the data: ``(D + C,)``."""
    program, num_data = vi.program_, len(batch[0])
    with torch.no_grad(), program.running(seed=vi.seed, training=False):
        few = tuple(tensor[: min(num_data, PRIOR_DRAWS)] for tensor in batch)
        latents = program.prior(few, -(-PRIOR_DRAWS // len(few[0]))).latents
        prior = there.locate(few, latents)
    parts = [gaussian_divergence(draws.u, prior.u.flatten(0, 1))]
    for choice, values in enumerate(there.values):
        share = _shares(draws.choices[..., choice], len(values), 0.0)
        base = _shares(prior.choices[..., choice].flatten(0, 1), len(values), 0.5)
        parts.append((torch.xlogy(share, share) - torch.xlogy(share, base)).sum(-1).mean().reshape(1))
    return torch.cat(parts)


def _shares(draws: Tensor, number: int, more: float) -> Tensor:
    """Shares of each value among draws ``(K, ...)``: ``(..., V)``; ``more`` is added to every count."""
    counts = torch.nn.functional.one_hot(draws, number).double().sum(0) + more
    return counts / counts.sum(-1, keepdim=True)
