"""The plateau of a training: does the validation bound still rise, given its noise?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

HORIZONS = (0.1, 0.25)
"""The lengths of two adjacent blocks, as shares of the training so far, at which a rise is looked for."""
SMALL = 0.01
"""The share of the gain so far below which a rise is small."""
ERRORS = 2.5
"""The number of standard errors below which a rise is noise."""
LEAST = 2
"""The least number of validations that can be judged."""


class Rise(NamedTuple):
    """The rise of the validation bound from a block of validations to the next block, of the same length."""

    validations: int
    """The number of validations in each block."""
    rise: float
    """The difference of the means of both blocks, nats per datum."""
    error: float | None
    """Its standard error, for noise that is correlated from one validation to the next; None if both blocks together
    have fewer than four validations."""
    epochs: float
    """The distance of the middles of both blocks."""
    is_noise: bool
    is_small: bool
    """True if it is below a share of the gain so far."""

    @property
    def has_ended(self) -> bool:
        """True if the bound does not rise, or not by more than its noise or a small share of the gain so far."""
        return self.is_noise or self.is_small


class Convergence(NamedTuple):
    """A statement on whether training has converged, by its validation bound."""

    rises: tuple[Rise, ...]
    """At each horizon, the shorter first; empty if there are too few validations."""
    gain: float
    """The gain from the first validation to the last block, nats per datum."""

    @property
    def is_known(self) -> bool:
        """True if there were enough validations."""
        return bool(self.rises)

    @property
    def has_converged(self) -> bool:
        """True if the bound has stopped rising at every horizon."""
        return self.is_known and all(rise.has_ended for rise in self.rises)

    @property
    def rate(self) -> tuple[float, float | None]:
        """The rise per 100 epochs and its error, nats per datum; NaN and None if they are not known.

        They are those of the first horizon at which the bound still rises, or else of the last one.
        """
        if not self.rises:
            return math.nan, None
        rise = next((rise for rise in self.rises if not rise.has_ended), self.rises[-1])
        error = None if rise.error is None else 100 * rise.error / rise.epochs
        return 100 * rise.rise / rise.epochs, error

    def __str__(self) -> str:
        rate, error = self.rate
        if not self.is_known or (self.has_converged and error is None):
            return "too few validations to tell if training has converged"
        if error is None:
            return (
                f"training is still improving by {rate:.2g} nats per 100 epochs, from too few validations for an error"
            )
        if self.has_converged:
            most = max(rate + ERRORS * error, 0.0)
            return f"training has converged: it improves by at most {most:.2g} nats per 100 epochs"
        return f"training is still improving by {rate:.2g} ± {error:.2g} nats per 100 epochs"


def convergence(bounds: ArrayLike, epochs: ArrayLike | None = None, small: float = SMALL) -> Convergence:
    r"""Judge by its validation bounds if a training has converged.

    At two horizons h, shares of the training so far, the means of the last two adjacent blocks are compared:

    .. math::
        \Delta_h = \bar b_{(T - h, T]} - \bar b_{(T - 2h, T - h]}, \qquad
        \mathrm{se}_h^2 = \frac{2 s^2}{n_h} \frac{1 + \rho}{1 - \rho}

    Here s and :math:`\rho` are the standard deviation and the correlation, from one validation to the next, of the
    residuals of both blocks from a parabola, which follows the rise. The rise has ended if
    :math:`\Delta_h < 2.5\,\mathrm{se}_h`, or if it is below a share of the gain so far. The longer horizon is needed
    because a learning rate that falls to zero makes every bound level at the end.

    Args:
        bounds: validation bounds in their order, ``(n,)``, nats per datum.
        epochs: the epoch of each; by default 1, 2, ...
        small: the share of the gain so far below which a rise is small.

    Example:
        >>> steps = np.arange(1.0, 201.0)
        >>> noise = 0.01 * np.random.default_rng(0).normal(size=200)
        >>> bool(convergence(-10 * np.exp(-steps / 20) + noise).has_converged)
        True
        >>> print(convergence(-10 * np.exp(-steps / 200) + noise))
        training is still improving by 2 ± 0.0... nats per 100 epochs
    """
    b = np.asarray(bounds, dtype=float)
    at = np.arange(1.0, len(b) + 1) if epochs is None else np.asarray(epochs, dtype=float)
    known = np.isfinite(b)
    b, at = b[known], at[known]
    if len(b) < LEAST:
        return Convergence((), math.nan)
    rises = [_rise(b, at, horizon) for horizon in HORIZONS]
    gain = float(b[-rises[-1].validations :].mean() - b[0])
    return Convergence(
        tuple(
            r._replace(is_small=r.rise < small * abs(gain), is_noise=r.rise < ERRORS * (r.error or 0.0)) for r in rises
        ),
        gain,
    )


def convergence_of(rows: Sequence[Mapping[str, Any]]) -> Convergence:
    """Judge a training by the rows of its validations, such as those of ``metrics.jsonl``."""
    known = [row for row in rows if row.get("elbo_valid") is not None]
    if not known:
        return Convergence((), math.nan)
    last = known[-1]
    per_epoch = last["step"] / last["epoch"] if last.get("step") else 0.0  # there may be several rows of an epoch
    at = [row["step"] / per_epoch if per_epoch else row["epoch"] for row in known]
    return convergence([row["elbo_valid"] for row in known], at)


def more_epochs(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return twice the number of epochs of a training, for a training that should go on.

    Example:
        >>> more_epochs([{"epoch": 1}, {"epoch": 50}])
        100
    """
    return 2 * math.ceil(rows[-1]["epoch"])


def _rise(b: np.ndarray, at: np.ndarray, horizon: float) -> Rise:
    """Return the rise between the last two blocks that have this share of the epochs each."""
    span = (at[-1] - at[0]) * len(at) / (len(at) - 1)  # a history may begin where an older run was resumed
    first, middle = (int(np.searchsorted(at, at[-1] - k * horizon * span + 1e-9, side="right")) for k in (2, 1))
    middle = max(1, min(middle, len(b) - 1))
    first = max(0, min(first, middle - 1))
    before, after = b[first:middle], b[middle:]
    rise, error = float(after.mean() - before.mean()), _error(b[first:], at[first:], len(before), len(after))
    return Rise(len(after), rise, error, float(at[middle:].mean() - at[first:middle].mean()), False, False)


def _error(values: np.ndarray, at: np.ndarray, num_before: int, num_after: int) -> float | None:
    """Return the standard error of the difference of the means of two blocks of a series that follows a parabola."""
    degree = min(2, len(values) - 3)
    if degree < 1:
        return None
    residuals = values - np.polynomial.Polynomial.fit(at, values, degree)(at)
    squares = float((residuals**2).sum())
    if squares <= 1e-20 * float((values**2).sum()):
        return 0.0
    lagged = float((residuals[1:] * residuals[:-1]).sum()) / squares
    lost = (1 + degree) / len(values)  # the part of the correlation that the parabola takes away
    correlation = min(max(lagged + lost * (1 + lagged), 0.0), 0.95)
    variance = squares / (len(values) - 1 - degree)
    return math.sqrt(variance * (1 / num_before + 1 / num_after) * (1 + correlation) / (1 - correlation))
