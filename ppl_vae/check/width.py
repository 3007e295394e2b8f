"""The width and the shift of posteriors whose ranks are known."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.stats import norm


class WidthAndShift(NamedTuple):
    """The width of approximate posteriors, and their distance from the true ones."""

    width: float
    """Standard deviation of the approximation divided by that of the true posterior; below one, it is too narrow."""
    width_error: float
    shift: float
    """The mean of the approximation minus that of the true posterior, in standard deviations of the true one."""
    shift_error: float

    def in_words(self, digits: int = 0) -> str:
        """Describe a width that differs from one, and a shift that differs from zero, by more than two errors.

        Example:
            >>> WidthAndShift(0.7, 0.02, 0.01, 0.05).in_words(), WidthAndShift(1.5, 0.1, -0.5, 0.05).in_words()
            ('too narrow by 30 %', 'too wide by 50 %, and shifted by -0.5 sd')
        """
        parts = []
        if abs(self.width - 1) > 2 * self.width_error:
            kind = "narrow" if self.width < 1 else "wide"
            parts.append(f"too {kind} by {100 * abs(self.width - 1):.{digits}f} %")
        if abs(self.shift) > 2 * self.shift_error:
            parts.append(f"shifted by {self.shift:+.{digits + 1}f} sd")
        return ", and ".join(parts) or "of the right width and place, but of another shape"


def width_and_shift(ranks: ArrayLike, num_draws: float) -> WidthAndShift:
    r"""Estimate width and shift from ranks among draws, as if both posteriors were Gaussian.

    .. math::
        s_i = \Phi^{-1}(u_i) \sim \mathcal N(m, v^2) \quad\text{if}\quad
        q = \mathcal N(\mu + \delta \sigma, c^2 \sigma^2),\ p = \mathcal N(\mu, \sigma^2), \qquad
        c = 1 / v, \quad \delta = -m / v

    ``m`` and ``v`` have the greatest likelihood. Of a rank beyond all draws it is only known that it lies beyond
    :math:`\Phi^{-1}(1 / (K + 1))`, so it is censored there.

    Args:
        ranks: ranks in (0, 1), ``(N,)``; NaN does not count.
        num_draws: the number ``K`` of draws, or the effective number of weighted ones.

    Example:
        >>> random = np.random.default_rng(0)
        >>> z, draws = random.normal(size=2000), 0.7 * random.normal(size=(100, 2000))
        >>> from ppl_vae.check.ranks import randomised_ranks
        >>> fit = width_and_shift(randomised_ranks(z, draws, random), 100)
        >>> round(fit.width, 1), abs(fit.shift) < 0.1
        (0.7, True)
    """
    values = np.asarray(ranks, float).ravel()
    values = values[np.isfinite(values)]
    if len(values) < 5:
        return WidthAndShift(math.nan, math.inf, math.nan, math.inf)
    end = norm.isf(1 / (num_draws + 1))
    scores = norm.ppf(np.clip(values, 1e-12, 1 - 1e-12))
    inner = scores[np.abs(scores) < end]
    beyond = [(scores <= -end).sum(), (scores >= end).sum()]

    def minus_log_likelihood(parameters: np.ndarray) -> float:
        mean, log_sd = parameters
        sd = math.exp(log_sd)
        tails = norm.logcdf((-end - mean) / sd), norm.logsf((end - mean) / sd)
        return -float(norm.logpdf(inner, mean, sd).sum() + beyond[0] * tails[0] + beyond[1] * tails[1])

    start = np.array([scores.mean(), math.log(max(scores.std(), 1e-3))])
    mean, log_sd = minimize(minus_log_likelihood, start, method="Nelder-Mead", options={"xatol": 1e-3}).x.tolist()
    sd, count = math.exp(log_sd), len(values)
    known = max(0.05, len(inner) / count)
    shift = -mean / sd
    return WidthAndShift(
        1 / sd, 1 / sd / math.sqrt(2 * count * known), shift, math.sqrt((1 + shift**2 / 2) / (count * known))
    )
