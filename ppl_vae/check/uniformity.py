"""Is a sample uniform? The difference of its distribution function, with bands that hold everywhere at once."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import binom, poisson

MOST_POINTS = 100
"""The most points at which the distribution function is compared; more of them find no other faults."""


class UniformityBands(NamedTuple):
    """Bands within which the distribution function of a uniform sample lies at all points at once."""

    points: np.ndarray
    """The points, evenly spaced from ``1/L`` to 1, ``(L,)``."""
    lower: np.ndarray
    """The least shares of the sample at or below the points, ``(L,)``."""
    upper: np.ndarray
    """The largest shares."""
    pointwise: float
    """The adjusted level: the chance of a uniform sample to leave the band at one point."""


def points_for(size: int) -> np.ndarray:
    """Return the points at which a sample of this size is compared.

    Example:
        >>> points_for(4)
        array([0.25, 0.5 , 0.75, 1.  ])
    """
    count = min(MOST_POINTS, max(2, size))
    return np.arange(1, count + 1) / count


@lru_cache(maxsize=256)
def uniformity_bands(size: int, level: float = 0.05) -> UniformityBands:
    r"""Return simultaneous bands of the empirical distribution function of a uniform sample.

    At each point the count is binomial. The bands are its central intervals of level :math:`1 - \gamma`, with
    :math:`\gamma` such that all intervals hold at once with probability :math:`1 - \alpha`:

    .. math:: P\bigl(l_i(\gamma) \le N \hat F(z_i) \le h_i(\gamma)\ \text{for all}\ i\bigr) = 1 - \alpha

    Source: Sailynoja, Buerkner and Vehtari, Graphical test for discrete uniformity and its applications in goodness of
    fit evaluation and multiple sample comparison (2022), section 2. The probability is computed exactly, see
    ``probability_inside``.

    Args:
        size: the size of the sample, ``N``.
        level: the probability :math:`\alpha` with which a uniform sample leaves the bands anywhere.

    Example:
        >>> bands = uniformity_bands(500)
        >>> bool(0.001 < bands.pointwise < 0.05), len(bands.points)
        (True, 100)
    """
    points = points_for(size)
    low, high = np.log(1e-3 * level / len(points)), np.log(level)
    if outside(size, points, np.exp(high)) > level:
        logarithm = brentq(lambda g: outside(size, points, np.exp(g)) - level, low, high, xtol=1e-4)
    else:
        logarithm = high
    while outside(size, points, np.exp(logarithm)) > level:  # the probability is a staircase
        logarithm -= 1e-3
    gamma = float(np.exp(logarithm))
    lower, upper = _intervals(size, points, gamma)
    return UniformityBands(points, lower / size, upper / size, gamma)


def outside(size: int, points: np.ndarray, gamma: float) -> float:
    """Return the probability that a uniform sample leaves the pointwise intervals of level ``1 - gamma`` anywhere."""
    return 1 - probability_inside(size, points, *_intervals(size, points, gamma))


def _intervals(size: int, points: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts from which, and up to which, neither tail is smaller than ``gamma / 2``."""
    lower = binom.ppf(gamma / 2, size, points)
    upper = binom.isf(gamma / 2, size, points)
    return np.where(points < 1, lower, size), np.where(points < 1, upper, size)


def probability_inside(size: int, points: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    r"""Return the probability that the counts of a uniform sample stay within bounds at all points.

    A uniform sample is a Poisson process on (0, 1), given its number of points. So the counts are a sum of independent
    Poisson numbers, which is followed from point to point, and

    .. math:: P(\text{inside}) = \frac{P(\text{Poisson path inside},\ N\ \text{at the end})}{P(\text{Poisson}(N) = N)}

    Source: Moscovich and Nadler, Fast calculation of boundary crossing probabilities for Poisson processes (2017).

    Args:
        size: the size of the sample, ``N``.
        points: increasing points, ``(L,)``, the last of which is 1.
        lower: the least counts, ``(L,)``.
        upper: the largest counts, ``(L,)``.

    Example:
        >>> inside = probability_inside(1, np.array([0.3, 1.0]), np.array([0, 1]), np.array([0, 1]))
        >>> round(inside, 6)  # the probability that the one number is above 0.3
        0.7
    """
    chances, first = np.ones(1), 0  # of the counts first, first + 1, ...
    for width, least, most in zip(np.diff(points, prepend=0.0), lower.astype(int), upper.astype(int), strict=True):
        if most < least:
            return 0.0
        steps = poisson_chances(float(size * width), most - first)
        after = np.convolve(chances, steps)[: most - first + 1]
        chances, first = after[max(0, least - first) :], max(least, first)
        if not len(chances):
            return 0.0
    return float(np.clip(chances[size - first] / poisson.pmf(size, size), 0, 1))


@lru_cache(maxsize=512)
def _poisson(mean: float) -> np.ndarray:
    return poisson.pmf(np.arange(int(mean + 12 * np.sqrt(mean) + 20)), mean)


def poisson_chances(mean: float, most: int) -> np.ndarray:
    """Return the chances of the Poisson numbers 0, 1, ..., up to one beyond which they are negligible."""
    return _poisson(round(mean, 9))[: most + 1]


def uniformity_p_value(sample: ArrayLike) -> float:
    r"""Return the probability that a uniform sample has a distribution function which is as far off at some point.

    .. math:: p = P\bigl(\min_i \gamma_i \le \gamma_{\text{observed}}\bigr), \qquad
        \gamma_i = 2 \min\bigl(P(X_i \le x_i), P(X_i \ge x_i)\bigr), \quad X_i \sim \mathrm{Binomial}(N, z_i)

    It is below a level exactly if the sample leaves ``uniformity_bands`` of that level.

    Args:
        sample: numbers in (0, 1), ``(N,)``; NaN does not count.

    Returns:
        float: NaN if there are fewer than two numbers.

    Example:
        >>> random = np.random.default_rng(0)
        >>> uniformity_p_value(random.uniform(size=500)) > 0.05, uniformity_p_value(random.beta(2, 2, 500)) < 1e-9
        (True, True)
    """
    values = np.sort(np.asarray(sample, float).ravel())
    values = values[: np.searchsorted(values, np.nan)]
    size = len(values)
    if size < 2:
        return float("nan")
    points = points_for(size)
    counts = np.searchsorted(values, points[:-1], side="right")
    tails = np.minimum(binom.cdf(counts, size, points[:-1]), binom.sf(counts - 1, size, points[:-1]))
    least = float(tails.min())
    if least < 1e-14:
        return float(min(1.0, 2 * least * len(points)))  # a bound, far below any level
    return outside_of_tails(size, points, least)


def outside_of_tails(size: int, points: np.ndarray, tail: float) -> float:
    """Return the probability that a tail at some point is as small as this one or smaller."""
    limit = tail * (1 + 1e-9)
    lower, upper = binom.ppf(limit, size, points), binom.isf(limit, size, points)
    lower = lower + (binom.cdf(lower, size, points) <= limit)
    upper = upper - (binom.sf(upper - 1, size, points) <= limit)
    lower, upper = np.where(points < 1, lower, size), np.where(points < 1, upper, size)
    return float(np.clip(1 - probability_inside(size, points, lower, upper), 0, 1))
