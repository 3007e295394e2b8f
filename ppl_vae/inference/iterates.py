"""The iterates of a stochastic ascent: have they settled, and how exact is their average?"""

from __future__ import annotations

import torch
from torch import Tensor

SETTLED = 1.1
"""The largest split R-hat of iterates that have settled: Dhaka et al. (2020)."""


def split_rhat(iterates: Tensor) -> Tensor:
    r"""Return the split R-hat of series: the spread of all iterates beside that within each half.

    .. math::
        \hat R^2 = \frac{n - 1}n + \frac{B}{n W}, \qquad
        W = \frac{s_1^2 + s_2^2}2, \quad B = \frac n2 (\bar x_1 - \bar x_2)^2

    It is near one if a series has settled, and large if it still moves in one direction. Source: Dhaka, Catalina,
    Andersen, Magnusson, Huggins and Vehtari, Robust, accurate stochastic optimization for variational inference (2020).

    Args:
        iterates: the series, ``(T, ...)``, T at least 4; the last one is left out if T is odd.

    Returns:
        ``(...)``; one for a series that does not move at all.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> noise = torch.randn(1000, generator=generator)
        >>> bool(split_rhat(noise) < 1.01), bool(split_rhat(noise + torch.linspace(0, 9, 1000)) > 2)
        (True, True)
    """
    half = len(iterates) // 2
    first, second = iterates[:half].double(), iterates[half : 2 * half].double()
    within = (first.var(0) + second.var(0)) / 2
    between = half / 2 * (first.mean(0) - second.mean(0)).square()
    squared = (half - 1) / half + between / (half * within)
    return torch.where(between == 0, torch.ones_like(squared), squared.sqrt())


def average_error(iterates: Tensor, num_batches: int = 10) -> tuple[Tensor, Tensor]:
    r"""Return the Monte Carlo error of the average of series, and their effective size, by batch means.

    .. math::
        \mathrm{mcse}^2 = \frac1m \operatorname{Var}_j \bar x_j, \qquad \mathrm{ess} = \frac{s^2}{\mathrm{mcse}^2}

    Source: Welandawe, Andersen, Vehtari and Huggins, A framework for improving the reliability of black-box variational
    inference (2022), section 4.

    Args:
        iterates: the series, ``(T, ...)``; the first ones are left out if T is no multiple of the number of batches.
        num_batches: m, the number of batches of successive iterates.

    Example:
        >>> noise = torch.randn(1000, 200, generator=torch.Generator().manual_seed(0))
        >>> mcse, ess = average_error(noise)
        >>> bool(abs(mcse.square().mean() - 1 / 1000) < 1e-4)
        True
    """
    size = len(iterates) // num_batches
    kept = iterates[len(iterates) - size * num_batches :].double()
    means = kept.unflatten(0, (num_batches, size)).mean(1)
    squared = means.var(0) / num_batches
    return squared.sqrt(), kept.var(0) / squared
