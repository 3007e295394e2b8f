"""The iterates of a stochastic ascent: have they settled, and how exact is their average?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SETTLED = 1.1
"""The largest split R-hat of iterates that have settled: Dhaka et al. (2020)."""


class IterateBlocks(NamedTuple):
    """A summary of series by blocks of successive iterates, of the same length each.

    Attributes:
        size: the length of a block.
        mean: the mean of each block, ``(n, ...)``.
        square: the mean squared deviation from it, ``(n, ...)``.

    Example:
        >>> blocks = IterateBlocks.cut(torch.arange(6.0), 3)
        >>> blocks.mean.tolist(), blocks.joined(1).square.tolist()
        ([0.5, 2.5, 4.5], [2.9166...])
    """

    size: int
    mean: Tensor
    square: Tensor

    @classmethod
    def cut(cls, iterates: Tensor, count: int) -> IterateBlocks:
        """Return a number of blocks of series ``(T, ...)``; the first iterates are left out if T is no multiple."""
        size = len(iterates) // count
        blocks = iterates[len(iterates) - size * count :].double().unflatten(0, (count, size))
        return cls(size, blocks.mean(1), blocks.var(1, correction=0))

    def joined(self, count: int) -> IterateBlocks:
        """Return the same series in fewer blocks, a divisor of their number."""
        together = len(self.mean) // count
        means, squares = (part.unflatten(0, (count, together)) for part in (self.mean, self.square))
        return IterateBlocks(self.size * together, means.mean(1), squares.mean(1) + means.var(1, correction=0))

    def split_rhat(self) -> Tensor:
        """Return the split R-hat of the series, ``(...)``, see ``split_rhat``; the number of blocks is even."""
        half, mean, square = self.joined(2)
        within = square.mean(0) * half / (half - 1)
        between = half / 2 * (mean[0] - mean[1]).square()
        squared = (half - 1) / half + between / (half * within)
        return torch.where(between == 0, torch.ones_like(squared), squared.sqrt())

    def average_error(self) -> tuple[Tensor, Tensor]:
        """Return the Monte Carlo error of the average of the series, and their effective size, ``(...)`` each."""
        number = len(self.mean)
        squared, (total, _, variance) = self.mean.var(0) / number, self.joined(1)
        return squared.sqrt(), variance[0] * total / (total - 1) / squared


def split_rhat(iterates: Tensor) -> Tensor:
    r"""Return the split R-hat of series: the spread of all iterates beside that within each half.

    .. math::
        \hat R^2 = \frac{n - 1}n + \frac{B}{n W}, \qquad
        W = \frac{s_1^2 + s_2^2}2, \quad B = \frac n2 (\bar x_1 - \bar x_2)^2

    It is near one if a series has settled, and large if it still moves in one direction. Source: Dhaka, Catalina,
    Andersen, Magnusson, Huggins and Vehtari, Robust, accurate stochastic optimization for variational inference (2020).

    Args:
        iterates: the series, ``(T, ...)``, T at least 4; the first one is left out if T is odd.

    Returns:
        ``(...)``; one for a series that does not move at all.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> noise = torch.randn(1000, generator=generator)
        >>> bool(split_rhat(noise) < 1.01), bool(split_rhat(noise + torch.linspace(0, 9, 1000)) > 2)
        (True, True)
    """
    return IterateBlocks.cut(iterates, 2).split_rhat()


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
    return IterateBlocks.cut(iterates, num_batches).average_error()
