"""Draws of a fitted program, and means of numbers over data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError


@readable
class PosteriorDraws(NamedTuple):
    """Draws for every datum, by site: arrays ``(num_samples, N, ...)``."""

    latents: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]
    """Draws of the observed sites given the latents: the posterior predictive."""
    means: dict[str, np.ndarray]
    """Means of the observed sites given the latents; of classes, their probabilities, ``(..., C)``."""
    data: dict[str, np.ndarray]
    """The data that the observed sites observe, ``(N, ...)``."""
    shared: Mapping[str, np.ndarray] = MappingProxyType({})
    """Draws of the latents that all data share, ``(num_samples, ...)`` by site: draw k of the others is given draw k of
    these."""
    average: Mapping[str, np.ndarray] = MappingProxyType({})
    """The means, averaged over the draws, ``(N, ...)``; in columns of a table that are categories, the most probable
    one."""


@readable
class PriorDraws(NamedTuple):
    """Draws of data and of what they were drawn from, by site: arrays ``(N, ...)``."""

    latents: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]
    """Draws of the observed sites given the latents: the prior predictive."""
    means: dict[str, np.ndarray]
    """Means of the observed sites given the latents; of classes, their probabilities, ``(..., C)``."""


def mean_and_error(per_datum: Tensor) -> tuple[float, float]:
    """Return the mean over data and its standard error, which is infinite for one datum or with a minus infinity.

    Example:
        >>> mean_and_error(torch.tensor([1.0, 2.0, 2.0, 1.0, 4.0])), mean_and_error(torch.tensor([-math.inf, 3.0]))
        ((2.0, 0.5477...), (-inf, inf))
    """
    values = per_datum.double()
    mean = values.mean().item()
    known = len(values) > 1 and math.isfinite(mean)
    return mean, values.std().item() / math.sqrt(len(values)) if known else math.inf


def error_of_mean(mcse: Tensor, *, of_logs: bool = False) -> float:
    r"""Return the Monte Carlo error of a mean over data.

    .. math::
        \mathrm{mcse}^2 = \frac1{N^2} \sum_i \mathrm{mcse}_i^2
        + \Bigl(\frac1N \sum_i \frac{\mathrm{mcse}_i^2}2\Bigr)^2

    The second term is there for logarithms of means, whose bias is half their variance to second order: the bias has
    one sign, so that averaging over data does not remove it.

    Args:
        mcse: the Monte Carlo error of every datum, ``(N,)``.
        of_logs: If True, the averaged values are logarithms of means.

    Example:
        >>> mcse = torch.tensor([0.3, 0.4])
        >>> round(error_of_mean(mcse), 3), round(error_of_mean(mcse, of_logs=True), 3)
        (0.25, 0.258)
    """
    variance = mcse.double().square()
    bias = variance.mean().item() / 2 if of_logs else 0.0
    return math.sqrt(variance.sum().item() / len(mcse) ** 2 + bias**2)


def join(parts: list[dict[str, Tensor]], axis: int = 0) -> dict[str, np.ndarray]:
    """Join named tensors of several batches."""
    for part in parts:
        if differing := sorted(part.keys() ^ parts[0].keys()):
            raise InputError(
                f"the site {differing[0]!r} is in some batches and not in others: loop over a fixed range, and mask "
                f"what lies past the end of a sequence"
            )
    return {name: torch.cat([part[name] for part in parts], axis).cpu().numpy() for name in parts[0]}


def single(named: dict[str, np.ndarray]) -> Any:
    """Return the array itself if there is only one."""
    return next(iter(named.values())) if len(named) == 1 else named
