"""The tail of importance weights: its shape says if their average can be believed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_BELIEVABLE_K = 0.7
FEWEST_IN_A_TAIL = 5
"""The length of the shortest tail that is fitted."""
DATA_AT_ONCE = 128


def threshold(num_samples: int) -> float:
    r"""Return the Pareto k above which the average of ``K`` weights should not be believed.

    .. math:: \min(1 - 1 / \log_{10} K,\; 0.7)

    Vehtari, Simpson, Gelman, Yao and Gabry, Pareto Smoothed Importance Sampling (2024), Journal of Machine Learning
    Research 25(72): a heavier tail takes more draws, :math:`10^{1 / (1 - k)}`, and above 0.7 more than is practical.

    Example:
        >>> round(threshold(100), 3), threshold(10_000), threshold(1)
        (0.5, 0.7, -inf)
    """
    return min(1 - 1 / math.log10(num_samples), MOST_BELIEVABLE_K) if num_samples > 1 else -math.inf


def tail_length(num_samples: int) -> int:
    r"""Return the length of the tail of ``K`` weights, :math:`M = \lceil\min(K / 5, 3 \sqrt K)\rceil`; the same source.

    Example:
        >>> tail_length(100), tail_length(5000)
        (20, 213)
    """
    return math.ceil(min(num_samples / 5, 3 * num_samples**0.5))


def can_tell(num_samples: int) -> bool:
    """Return True if ``K`` weights are enough for a Pareto k.

    Example:
        >>> can_tell(20), can_tell(21)
        (False, True)
    """
    return tail_length(num_samples) >= FEWEST_IN_A_TAIL


def pareto_k(tail: Tensor, num_samples: int) -> Tensor:
    r"""Fit the shape ``k`` of a generalised Pareto distribution to the largest of ``K`` weights.

    The weights have finite moments up to the order :math:`1/k`: their variance is finite below one half, and their
    mean, which is the evidence, below one. The fit is the empirical Bayes estimate of Zhang and Stephens, A New and
    Efficient Estimation Method for the Generalized Pareto Distribution (2009), Technometrics 51(3), with the weakly
    informative prior of the paper that :func:`threshold` names, which counts as ten weights with k = 1/2.

    Args:
        tail: the :math:`M + 1` largest log weights of every datum, ``(M + 1, B)``, the largest first; ``M`` is
            :func:`tail_length`.
        num_samples: ``K``.

    Returns:
        Tensor: ``(B,)``, double precision. NaN if nothing can be said: ``K`` is too small, or all weights are zero.
        Plus infinity if fewer than five weights stand above the rest of the tail, or above zero. Minus infinity if the
        weights of the tail are all equal, up to the rounding of their logarithms in single precision: the proposal is
        the posterior.

    Example:
        >>> exponential = -((torch.arange(5000, dtype=torch.double) + 0.5) / 5000).log()  # of weights with k = 1
        >>> tail = exponential[: tail_length(5000) + 1, None] * torch.tensor([0.3, 0.8, 0.0])
        >>> [round(k, 1) for k in pareto_k(tail, 5000).tolist()]
        [0.3, 0.8, -inf]
    """
    top, cutoff = tail[0], tail[-1]
    shape = torch.full(top.shape, math.nan, dtype=torch.double, device=tail.device)
    if can_tell(num_samples):
        shape = torch.cat([_fit(rows) for rows in tail.T.double().split(DATA_AT_ONCE)])
        shape = shape.masked_fill(top == -math.inf, math.nan)
        shape = shape.masked_fill(top - cutoff <= 1e-6 * (1 + top.abs()), -math.inf)
    return shape


def believable(k: Tensor, num_samples: int) -> Tensor:
    """Return True for every Pareto k of ``K`` weights that is known and not above the threshold, ``(B,)``.

    Example:
        >>> believable(torch.tensor([-math.inf, 0.6, 0.8, math.inf, math.nan]), 5000).tolist()
        [True, True, False, False, False]
    """
    return k <= threshold(num_samples)


def _fit(tail: Tensor) -> Tensor:
    """Fit log weights ``(B, M + 1)``, the largest first, and return k ``(B,)``.

    A tail may have fewer than ``M`` weights above its last one. The rest of its row counts as excesses of zero, which
    add nothing to any sum.
    """
    eps, tiny = torch.finfo(torch.double).eps, torch.finfo(torch.double).tiny
    log_weight = tail - tail[:, :1]
    cutoff = log_weight[:, -1:].clamp(min=math.log(tiny))
    above = log_weight > cutoff
    excess = (log_weight.exp() - cutoff.exp()).where(above, 0.0)
    count = above.sum(1, keepdim=True)

    quartile = excess.gather(1, (count - (count / 4 + 0.5).long()).clamp(0, tail.shape[1] - 1))
    grid_size = 30 + count.double().sqrt().floor()
    index = torch.arange(1, 31 + math.isqrt(tail.shape[1]), dtype=torch.double, device=tail.device)
    grid = (1 - (grid_size / (index - 0.5)).sqrt()) / (3 * quartile) + 1 / excess[:, :1]
    mean_log = (-grid[:, :, None] * excess[:, None]).log1p().sum(2) / count
    log_likelihood = count * ((-grid / mean_log).log() - mean_log - 1)
    weight = log_likelihood.masked_fill(index > grid_size, -math.inf).softmax(1)
    weight = weight.where(weight >= 10 * eps, 0.0)
    scale = (grid.where(weight > 0, 0.0) * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=tiny)

    k = (-scale * excess).log1p().sum(1) / count[:, 0]
    k = (count[:, 0] * k + 5) / (count[:, 0] + 10)
    return k.where(count[:, 0] >= FEWEST_IN_A_TAIL, math.inf)
