"""The verdict of a check about one thing: a number beside its threshold, what it means, and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Status = Literal["holds", "fails", "not judged"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verdict about one thing.

    Attributes:
        subject: the thing that is judged, in at most 30 characters, such as ``"validation bound"`` or ``"z[3]"``.
        status: ``"holds"``, ``"fails"``, or ``"not judged"``, for which ``meaning`` says in one sentence why.
        value: the number that is judged; None if there is none.
        doubt: the error of the value; None if it has none.
        threshold: the largest value that holds; with ``least``, the smallest.
        least: True if values above the threshold hold.
        unit: the unit of the value, such as ``"nats per datum"``.
        spec: the format in which value, doubt and threshold are printed.
        source: where the threshold comes from.
        meaning: what the value says about the fit, in one or two sentences.
        remedy: what to do if the verdict is ``"fails"``.
        p_value: for a test, the probability of such a value if all is well, adjusted for the number of tests of its
            check.
        rows: numbers of the data that are concerned, if there are any.

    Example:
        >>> Verdict.judged(subject="weights", value=0.9, threshold=0.7, meaning="Too few draws.").status
        'fails'
        >>> Verdict.not_judged("z", "the latent is discrete").status
        'not judged'
    """

    subject: str
    status: Status
    value: float | None = None
    doubt: float | None = None
    threshold: float | None = None
    least: bool = False
    unit: str = ""
    spec: str = ".2f"
    source: str = ""
    meaning: str = ""
    remedy: str = ""
    p_value: float | None = None
    rows: tuple[int, ...] = ()

    @classmethod
    def judged(
        cls, *, subject: str, value: float, threshold: float, meaning: str, least: bool = False, consequence: str = "",
        **fields: Any,
    ) -> Verdict:  # fmt: skip
        """Return a verdict that holds if the value is on the right side of the threshold; NaN fails.

        If it fails, ``meaning`` goes on with the ``consequence``.
        """
        holds = value >= threshold if least else value <= threshold
        status: Status = "holds" if holds else "fails"
        if not holds and consequence:
            meaning = f"{meaning} {consequence}"
        return cls(
            subject=subject, status=status, value=value, threshold=threshold, least=least, meaning=meaning, **fields
        )

    @classmethod
    def not_judged(cls, subject: str, reason: str) -> Verdict:
        """Return a verdict about something that a check cannot judge, with the reason as the end of a sentence."""
        return cls(subject=subject, status="not judged", meaning=reason)

    def numbers(self) -> dict[str, Any]:
        """Return what ``check.json`` holds of the verdict."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", ())}


class FigureData(NamedTuple):
    """A figure that has not been drawn yet: a function of ``ppl_vae.plots`` and its arguments."""

    draw: Callable[..., Figure]
    arguments: Mapping[str, Any]
    title: str = ""
    """The title for the report."""
    caption: str = ""
    """One or two sentences for the report: what is drawn, and how to read it."""

    def drawn(self) -> Figure:
        """Draw the figure."""
        return self.draw(**self.arguments)


class Findings(NamedTuple):
    """The findings of a check: verdicts, the most important one first, and figures by the names of their files."""

    verdicts: list[Verdict]
    figures: Mapping[str, FigureData] = {}


def holm(p_values: list[float]) -> list[float]:
    r"""Adjust the p values of several tests, so that the smallest is below a level with at most that chance.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min\bigl(1, (m - j + 1)\, p_{(j)}\bigr)

    It needs no independence of the tests. A p value that is NaN, of a test that could not be made, does not count and
    stays NaN. Source: Holm, A simple sequentially rejective multiple test procedure (1979).

    Example:
        >>> holm([0.01, 0.5, 0.02])
        [0.03, 0.5, 0.04]
    """
    known = [i for i, p_value in enumerate(p_values) if not math.isnan(p_value)]
    order = sorted(known, key=lambda i: p_values[i])
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
