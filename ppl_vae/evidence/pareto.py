"""How heavy the tail of the importance weights is: whether their average can be believed. The contact with ArviZ."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError

MOST_BELIEVABLE_K = 0.7
FEWEST_IN_A_TAIL = 5
"""The smallest tail that ``psislw`` fits."""

DATA_AT_ONCE = 1000
PsisLW = Callable[..., tuple[np.ndarray, np.ndarray]]


def threshold(num_samples: int) -> float:
    r"""The Pareto k above which the average of ``K`` weights is not to be believed.

    .. math:: \min(1 - 1 / \log_{10} K,\; 0.7)

    Vehtari, Simpson, Gelman, Yao and Gabry, Pareto Smoothed Importance Sampling (2024), Journal of Machine Learning
    Research 25(72): a heavier tail takes more draws, :math:`10^{1 / (1 - k)}`, and above 0.7 no number that can be had.

    Example:
        >>> round(threshold(100), 3), threshold(10_000), threshold(1)
        (0.5, 0.7, -inf)
    """
    return min(1 - 1 / math.log10(num_samples), MOST_BELIEVABLE_K) if num_samples > 1 else -math.inf


def tail_length(num_samples: int) -> int:
    r"""How many of ``K`` weights are the tail, :math:`M = \lceil\min(K / 5, 3 \sqrt K)\rceil`; the same source.

    Example:
        >>> tail_length(100), tail_length(5000)
        (20, 213)
    """
    return math.ceil(min(num_samples / 5, 3 * num_samples**0.5))


def can_tell(num_samples: int) -> bool:
    """Whether ``K`` weights are enough for a Pareto k.

    Example:
        >>> can_tell(20), can_tell(21)
        (False, True)
    """
    return tail_length(num_samples) >= FEWEST_IN_A_TAIL


def pareto_k(tail: Tensor, num_samples: int) -> Tensor:
    r"""The shape ``k`` of the generalised Pareto distribution that is fitted to the largest of ``K`` weights.

    The weights have finite moments up to the order :math:`1/k`: their variance is finite below one half, and their
    mean, which is the evidence, below one. The fit is ``arviz.psislw``'s, of the source that :func:`threshold` names.

    Args:
        tail: the :math:`M + 1` largest log weights of every datum, ``(M + 1, B)``, the largest first; ``M`` is
            :func:`tail_length`.
        num_samples: ``K``.

    Returns:
        Tensor: ``(B,)``, double precision. NaN where nothing can be told: ``K`` is too small, or all weights are zero.
        Plus infinity where fewer than five weights stand above the rest of the tail, or above zero. Minus infinity
        where the weights of the tail are all equal, up to what single precision leaves of their logarithms: such is
        a proposal that is the posterior.

    Raises:
        InputError: ArviZ is of another version than 0.22 or 0.23.

    Example:
        >>> exponential = -((torch.arange(5000, dtype=torch.double) + 0.5) / 5000).log()  # of weights with k = 1
        >>> tail = exponential[: tail_length(5000) + 1, None] * torch.tensor([0.3, 0.8, 0.0])
        >>> [round(k, 1) for k in pareto_k(tail, 5000).tolist()]
        [0.3, 0.8, -inf]
    """
    shape = torch.full((tail.shape[1],), math.nan, dtype=torch.double, device=tail.device)
    if not can_tell(num_samples):
        return shape
    top, cutoff = tail[0], tail[-1]
    equal = top - cutoff <= 1e-6 * (1 + top.abs())
    shape[equal] = -math.inf
    (to_fit,) = ((top > -math.inf) & ~equal).nonzero(as_tuple=True)
    for data in to_fit.split(DATA_AT_ONCE):
        shape[data] = torch.from_numpy(_fit(tail[:, data].T.double().cpu().numpy())).to(shape)
    return shape


def believable(k: Tensor, num_samples: int) -> Tensor:
    """Whether the Pareto k of ``K`` weights is known and not above the threshold, ``(B,)``, Boolean.

    Example:
        >>> believable(torch.tensor([-math.inf, 0.6, 0.8, math.inf, math.nan]), 5000).tolist()
        [True, True, False, False, False]
    """
    return k <= threshold(num_samples)


def _fit(tail: np.ndarray) -> np.ndarray:
    """Of ``(data, M + 1)`` log weights. The rest, which psislw sorts and does not look at, is filled up with zeros."""
    length = tail.shape[1] - 1
    log_weights = np.full((len(tail), 5 * length), -np.inf)
    log_weights[:, : length + 1] = tail
    efficiency = log_weights.shape[1] * (3 / (length - 0.5)) ** 2  # ceil(3 * sqrt(5 * length / efficiency)) == length
    with np.errstate(all="ignore"):
        return _psislw()(log_weights, reff=efficiency, normalize=False)[1]


@cache
def _psislw() -> PsisLW:
    """``arviz.psislw``, tried once on weights of a known tail: version 1 has a function of the other sign."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # announces the API of version 1
        import arviz
    pareto = -np.log((np.arange(1000) + 0.5) / 1000)  # k = 1; its reciprocal is uniform, k = -1
    try:
        psislw: PsisLW = arviz.psislw
        heavy, light = psislw(np.stack([pareto, -pareto]), reff=1.0, normalize=False)[1]
    except (AttributeError, TypeError):
        heavy, light = -math.inf, math.inf
    if not heavy > MOST_BELIEVABLE_K > light:
        raise InputError(
            f"ArviZ {arviz.__version__}'s psislw takes weights of the other sign, or other arguments, than that of "
            f"version 0.23: install 'arviz<1'"
        )
    return psislw
