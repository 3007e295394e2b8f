"""A summary of how the lambda of all data has settled, for results and their warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ppl_vae.inference.settling import MOST_STEPS, Settling

MOST_NAMED = 10
"""The largest number of data that a sentence names."""


class SettledLambda(NamedTuple):
    """The number of data whose lambda has settled, and the numbers of the others."""

    num_data: int
    limit: int
    """The number of steps after which a datum is given up."""
    not_settled: tuple[int, ...]
    """The numbers of the data whose lambda has not settled by then."""
    steps: float
    """The median number of steps of a datum."""
    ess: float
    """The median effective number of the iterates that are averaged; NaN if none are."""
    error: float
    """The median of the largest Monte Carlo error of a datum's locations, in standard deviations of its posterior."""

    def numbers(self) -> dict[str, Any]:
        """Return what ``evidence.json`` holds of it."""
        return self._asdict() | {"not_settled": list(self.not_settled)}


def summarise_settling(settling: Settling, rows: np.ndarray | None = None) -> SettledLambda:
    """Return the summary of all data.

    Args:
        settling: the outcome of the steps of each datum.
        rows: the numbers by which the data are named, ``(N,)``; by default from 0.

    Example:
        >>> import torch
        >>> nan = torch.full((3,), torch.nan)
        >>> few = Settling(torch.tensor([True, False, True]), torch.tensor([400, 5000, 600]), nan, nan, nan)
        >>> summarise_settling(few, np.array([4, 7, 9])).not_settled
        (7,)
    """
    settled = settling.settled.numpy()
    numbers = np.arange(len(settled)) if rows is None else rows
    medians = (part.double().nanmedian().item() for part in (settling.steps, settling.ess, settling.error))
    return SettledLambda(len(settled), MOST_STEPS, tuple(numbers[~settled].tolist()), *medians)


def describe_steps(numbers: Mapping[str, Any]) -> str:
    """Return the steps of the lambda of all data as the end of a sentence, given what ``evidence.json`` holds."""
    settled = numbers["num_data"] - len(numbers["not_settled"])
    return f"in {numbers['steps']:.0f} steps (the median), and has settled for {settled} of {numbers['num_data']} data"


def warn_of_steps(numbers: Mapping[str, Any]) -> list[str]:
    """Return a sentence about the data whose lambda has not settled, if there are any."""
    rows = numbers["not_settled"]
    if not rows:
        return []
    named = ", ".join(map(str, rows[:MOST_NAMED])) + (", ..." if len(rows) > MOST_NAMED else "")
    return [
        f"lambda: that of {len(rows)} of {numbers['num_data']} data has not settled within the limit of "
        f"{numbers['limit']} steps (row{'s' if len(rows) > 1 else ''} {named}): their bounds and their posteriors may "
        f"be worse than their family allows"
    ]
