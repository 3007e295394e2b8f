"""The page of all verdicts about a fit."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from ppl_vae.check.checks import CHECKS
from ppl_vae.check.subject import TRAINED, CheckedFit, CheckSettings, Refit, choose_data
from ppl_vae.check.verdict import FigureData, Findings, Verdict
from ppl_vae.display.bars import progress_bar
from ppl_vae.errors import Diverged, InputError, nearest
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evaluation.table import ResultTable, text_table
from ppl_vae.inference.options import check_values

MARKS = {"holds": "ok", "fails": "FAILS", "not judged": "-"}
WIDTH = 80
WHOLE = "the fit"
"""The subject of a check that could judge nothing."""
MOST_ROWS = 10
"""The largest number of data that a text names."""


class CheckPage(NamedTuple):
    """The verdicts about a fit, by check, in the order in which one should act on them."""

    verdicts: Mapping[str, Sequence[Verdict]]
    figures: Mapping[str, FigureData]
    """By the name of the file, without ``check_``."""
    seconds: Mapping[str, float]
    """The time that each check took, by check."""
    settings: CheckSettings
    num_data: int
    level: float
    """The level of the tests of one check."""

    @property
    def holds(self) -> bool:
        """True if no verdict fails."""
        return not self.failures

    @property
    def failures(self) -> list[tuple[str, Verdict]]:
        """The verdicts that fail, each with the name of its check."""
        return [pair for pair in self._pairs if pair[1].status == "fails"]

    @property
    def unknown(self) -> list[tuple[str, Verdict]]:
        """The verdicts that are not judged, each with the name of its check."""
        return [pair for pair in self._pairs if pair[1].status == "not judged"]

    @property
    def _pairs(self) -> list[tuple[str, Verdict]]:
        return [(name, verdict) for name, verdicts in self.verdicts.items() for verdict in verdicts]

    def table(self) -> ResultTable:
        """Return a row for each verdict."""
        counts = {status: sum(v.status == status for _, v in self._pairs) for status in MARKS}
        words = {"holds": "hold", "fails": "fail", "not judged": "not judged"}
        caption = ", ".join(f"{count} {words[status]}" for status, count in counts.items() if count)
        rows = [(MARKS[v.status], name, v.subject, _value(v), _limit(v)) for name, v in self._pairs]
        return text_table(f"the checks: {caption}", ("", "check", "of", "value", "limit"), rows, left=3)

    def text(self) -> str:
        """Return the table, and below it what the failures mean and what to do, and why something is not judged."""
        lines = [self.table().text()]
        for name, verdict in self.failures:
            rows = ", ".join(map(str, verdict.rows[:MOST_ROWS])) + (" ..." if len(verdict.rows) > MOST_ROWS else "")
            paragraphs = [
                f"{name}, {verdict.subject}: {verdict.meaning}",
                *([f"Rows: {rows}."] if rows else []),
                *([f"What to do: {verdict.remedy}"] if verdict.remedy else []),
                *([f"The limit: {_reason_of_limit(verdict)}."] if verdict.source else []),
            ]
            wrapped = [textwrap.fill(text, WIDTH - 2, subsequent_indent="  ") for text in paragraphs]
            lines += ["", wrapped[0], *(textwrap.indent(text, "  ") for text in wrapped[1:])]
        reasons: dict[str, list[str]] = {}
        for name, verdict in self.unknown:
            reasons.setdefault(verdict.meaning, []).append(_full_name(name, verdict))
        if reasons:
            lines += [""]
        for reason, things in reasons.items():
            lines += [textwrap.fill(f"not judged: {', '.join(things)}: {reason}.".replace("..", "."), WIDTH)]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def numbers(self) -> dict[str, Any]:
        """Return what ``check.json`` holds."""
        return {
            "holds": self.holds,
            "num_data": self.num_data,
            "level": self.level,
            "verdicts": [{"check": name, **verdict.numbers()} for name, verdict in self._pairs],
            "figures": {name: [figure.title, figure.caption] for name, figure in self.figures.items()},
            "seconds": dict(self.seconds),
            "settings": asdict(self.settings),
        }


def page_of(numbers: Mapping[str, Any]) -> CheckPage:
    """Return the page whose ``numbers`` are given, without its figures."""
    verdicts: dict[str, list[Verdict]] = {}
    for fields in numbers["verdicts"]:
        given = {name: value for name, value in fields.items() if name != "check"}
        verdicts.setdefault(fields["check"], []).append(Verdict(**given | {"rows": tuple(given.get("rows", ()))}))
    settings = CheckSettings(**numbers["settings"])
    return CheckPage(verdicts, {}, numbers["seconds"], settings, numbers["num_data"], numbers["level"])


def check_fit(
    fitted: Fitted,
    arrays: tuple[Any, ...],
    train: tuple[Any, ...] = (),
    *,
    history: Sequence[Mapping[str, Any]] = (),
    settings: CheckSettings = CheckSettings(),
    only: Collection[str] = (),
    skip: Collection[str] = (),
    refit: Refit | None = None,
) -> CheckPage:
    """Check if a fit can be believed, and return the page of verdicts.

    Args:
        fitted: the fitted object.
        arrays: data that the fit has not seen, as ``Fitted.checked`` takes them.
        train: data that it has seen.
        history: the rows of the validations of training.
        settings: the settings of the checks.
        only: the checks that are made; by default all.
        skip: checks that are left out.
        refit: function that fits the guide anew to other data, from arrays and a seed to the new fit.

    Raises:
        InputError: bad data, an unknown check, or a setting that cannot be.
    """
    check_values(settings)
    names = choose_checks(only, skip)
    tests = sum(CHECKS[name].is_test for name in names)
    fit = CheckedFit(
        fitted,
        settings,
        choose_data(fitted, arrays, settings),
        choose_data(fitted, train, settings, TRAINED),
        history,
        settings.level / max(1, tests),
        refit,
    )
    verdicts: dict[str, Sequence[Verdict]] = {}
    figures: dict[str, FigureData] = {}
    seconds: dict[str, float] = {}
    with progress_bar("check", len(names), "check") as bar:
        for name in names:
            bar.set_postfix_str(name)
            started = time.perf_counter()
            findings = run_check(name, fit)
            verdicts[name], seconds[name] = findings.verdicts, time.perf_counter() - started
            figures |= findings.figures
            bar.update()
    return CheckPage(verdicts, figures, seconds, settings, len(fit.test), fit.level)


def run_check(name: str, fit: CheckedFit) -> Findings:
    """Run a check; what it lacks, or why it cannot judge the program, becomes its verdict."""
    check = CHECKS[name]
    missing = next((reason for need in check.needs if (reason := fit.lacks(need))), None)
    if missing is not None:
        return Findings([Verdict.not_judged(WHOLE, missing)])
    try:
        return check.function(fit)
    except (InputError, Diverged) as error:
        return Findings([Verdict.not_judged(WHOLE, str(error))])


def choose_checks(only: Collection[str] = (), skip: Collection[str] = ()) -> list[str]:
    """Return the names of the checks that are made, in their order.

    Raises:
        InputError: a name is unknown, or no check is left.

    Example:
        >>> choose_checks(only=["wieghts"])
        Traceback (most recent call last):
        ppl_vae.errors.InputError: --only: no check 'wieghts': did you mean 'weights'? ...
    """
    for option, given in (("--only", only), ("--skip", skip)):
        for name in given:
            if name not in CHECKS:
                raise InputError(f"{option}: no check {name!r}: {nearest(name, CHECKS)}")
    names = [name for name in CHECKS if (not only or name in only) and name not in skip]
    if not names:
        raise InputError("--skip leaves no check: name fewer")
    return names


def _full_name(check: str, verdict: Verdict) -> str:
    return check if verdict.subject == WHOLE else f"{check} ({verdict.subject})"


def _reason_of_limit(verdict: Verdict) -> str:
    if verdict.p_value is None:
        return verdict.source
    return f"this test's share of --level, the chance that the page fails if all is well. Source: {verdict.source}"


def _value(verdict: Verdict) -> str:
    if verdict.value is None:
        return ""
    doubt = "" if verdict.doubt is None else f" ± {verdict.doubt:{verdict.spec}}"
    return f"{verdict.value:{verdict.spec}}{doubt}"


def _limit(verdict: Verdict) -> str:
    if verdict.threshold is None:
        return ""
    return f"{'>' if verdict.least else '<'} {verdict.threshold:{verdict.spec}}"
