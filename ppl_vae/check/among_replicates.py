"""A statistic of data among those of replicated data, for one statistic and for several at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class AmongReplicates(NamedTuple):
    """Statistics of data beside those of replicated data, for ``S`` statistics."""

    z: np.ndarray
    """The distances from the mean of the replicates, in their standard deviations, ``(S,)``."""
    p_values: np.ndarray
    """The share of replicates that lie as far out as the data in one statistic, ``(S,)``, two-sided."""
    adjusted: np.ndarray
    """The share of replicates that lie as far out in any statistic, ``(S,)``: adjusted for their number."""


def among_replicates(observed: ArrayLike, replicated: ArrayLike) -> AmongReplicates:
    r"""Compare statistics of data with those of replicated data.

    .. math::
        t_{rs} = \frac{|T_{rs} - \bar T_s|}{\mathrm{sd}(T_s)}, \qquad
        \tilde p_s = \frac{\#\{r : \max_{s'} t_{rs'} \ge t_{0s}\}}{R + 1}

    Row 0 is the data, which count among the ``R + 1`` rows of the mean and the standard deviation. If data and
    replicates are exchangeable, as held-out data and prior predictive draws are, the smallest adjusted p value is below
    a level with at most that probability, however the statistics depend on each other.

    Source: Westfall and Young, Resampling-Based Multiple Testing (1993), section 2.3; Gelman, Meng and Stern, Posterior
    Predictive Assessment of Model Fitness via Realized Discrepancies (1996).

    Args:
        observed: the statistics of the data, ``(S,)``.
        replicated: those of replicated data sets, ``(R, S)``.

    Example:
        >>> random = np.random.default_rng(0)
        >>> result = among_replicates([0.1, 5.0], random.normal(size=(199, 2)))
        >>> result.adjusted[0] > 0.5, float(result.adjusted[1])
        (np.True_, 0.005)
    """
    rows = np.concatenate([np.asarray(observed, float)[None], np.asarray(replicated, float)])
    finite = np.where(np.isfinite(rows), rows, np.nan)
    centre, sd = np.nanmean(finite, 0), np.nanstd(finite, 0)
    away = np.abs(rows - centre)
    distances = np.where(away > 1e-9 * (1 + np.abs(centre)), away / np.where(sd > 0, sd, 1.0), 0.0)
    distances = np.where(np.isfinite(rows), distances, np.inf)
    tolerance = 1 - 1e-9
    p_values = (distances >= tolerance * distances[0]).mean(0)
    adjusted = (distances.max(1)[:, None] >= tolerance * distances[0]).mean(0)
    sign = np.sign(rows[0] - centre)
    return AmongReplicates(sign * distances[0], p_values, np.maximum(p_values, adjusted))
