"""The search for a learning rate: steps at rising rates, until the objective falls again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ppl_vae.errors import InputError
from ppl_vae.inference.method import Step
from ppl_vae.program import Batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST, HIGHEST = 1e-6, 1.0
"""The first and the last rate of a search."""
SMOOTHED = 0.1
"""The share of all steps over which the objective is averaged, since a single one is noisy."""
LEAST_STEPS = 20
ERRORS = 3
"""The number of standard errors of the first steps by which the objective has to rise."""
MARGIN = 10
"""The factor by which the suggested rate is below the one at which the objective was highest: a training is longer."""


class RateSearch(NamedTuple):
    """The result of a search for a learning rate."""

    rates: np.ndarray
    """The rates of the steps that were taken, ``(n,)``, rising."""
    elbos: np.ndarray
    """What training ascends, before each of these steps, nats per datum, ``(n,)``: means over neighbouring steps."""

    @property
    def suggestion(self) -> float:
        """A tenth of the rate at which the objective was highest, that is, of the rate beyond which it falls."""
        return float(f"{self.rates[int(np.argmax(self.elbos))] / MARGIN:.2g}")

    def plot(self) -> Figure:
        """Draw the objective against the rate, with the suggestion."""
        from ppl_vae.plots import elbo_over_rates  # here, since matplotlib takes long to import

        return elbo_over_rates(self.rates, self.elbos, self.suggestion)

    def __repr__(self) -> str:
        first, last = self.rates[0], self.rates[-1]
        steps = f"{len(self.rates)} steps at rates from {first:.2g} to {last:.2g}"
        return f"learning rate {self.suggestion:g}, a tenth of the best of {steps}"


def search_rate(
    take_steps: Callable[[Iterable[Batch]], Iterator[Step]],
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    num_steps: int = 200,
) -> RateSearch:
    r"""Take steps at rates that rise by the same factor, until the objective has fallen far below its start.

    .. math:: \eta_i = \eta_1 (\eta_n / \eta_1)^{(i - 1) / (n - 1)}

    Parameters and state of the optimiser change: search with a copy.

    Source: Smith, Cyclical Learning Rates for Training Neural Networks (2017), section 3.3, with rates that rise
    exponentially rather than linearly.

    Args:
        take_steps: function that takes a gradient step for each batch, in Python, as the optimiser's groups say.
        optimizer: the optimiser, whose rate is set before each step.
        batches: the batches; if there are fewer than ``num_steps``, the rates end early.
        num_steps: n, the number of rates.

    Raises:
        InputError: there are too few steps; or the objective is not finite before the rates have any effect, or does
            not rise above its noise.
    """
    if num_steps < LEAST_STEPS:
        raise InputError(f"num_steps is {num_steps}: a search for a learning rate needs {LEAST_STEPS} or more")
    rates, elbos = np.geomspace(LOWEST, HIGHEST, num_steps), list[float]()

    def at_rising_rates() -> Iterator[Batch]:
        for rate, batch in zip(rates, batches, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate
            yield batch

    for step in take_steps(at_rising_rates()):
        elbo = float(step.elbo)
        if not math.isfinite(elbo) or (elbos and elbo < elbos[0] - max(max(elbos) - elbos[0], abs(elbos[0]))):
            break
        elbos.append(elbo)
    if len(elbos) < LEAST_STEPS:
        raise InputError(
            f"the search for a learning rate ended after {len(elbos)} steps, at a rate of {rates[len(elbos)]:.2g}: the "
            f"objective is not finite, or falls from the start; give a learning_rate"
        )
    reach = max(1, round(SMOOTHED * num_steps / 2))
    search = RateSearch(rates[: len(elbos)], _smoothed(np.array(elbos), reach))
    first = np.array(elbos[: 2 * reach + 1])
    if search.elbos.max() - first.mean() <= ERRORS * first.std(ddof=1) / math.sqrt(len(first)):
        raise InputError(
            f"the search for a learning rate saw no rise of the objective above its noise in {len(elbos)} steps; take "
            f"more steps or larger batches, or give a learning_rate"
        )
    return search


def _smoothed(values: np.ndarray, reach: int) -> np.ndarray:
    """Return means over the neighbours of each value on both sides, fewer at the ends."""
    last = len(values) - 1
    reaches = [min(reach, i, last - i) for i in range(len(values))]
    return np.array([values[i - near : i + near + 1].mean() for i, near in enumerate(reaches)])
