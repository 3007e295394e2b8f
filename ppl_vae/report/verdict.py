"""The verdict about a run, in one sentence: what its checks say, else what its evidence says, and with what doubts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

NAMED = 3
"""The largest number of failing checks that the sentence names."""


class RunVerdict(NamedTuple):
    """The verdict about a run, and the command that would tell more."""

    kind: Literal["good", "doubtful", "bad", "open"]
    """``open`` if nothing has judged the fit yet."""
    sentence: str
    command: str = ""
    """The command that would tell more, or an empty text."""


def judge_run(
    folder: str,
    *,
    ended: bool,
    evaluated: Mapping[str, Any] | None = None,
    checked: Mapping[str, Any] | None = None,
) -> RunVerdict:
    """Return the verdict about a run: that of its checks if they were made, else that of its evidence and its doubts.

    Args:
        folder: the run folder, for commands.
        ended: True if the fit has come to its end.
        evaluated: the part of a report about the evidence, with its ``warnings``.
        checked: the part about the checks: ``counts`` of verdicts by their status, and ``names`` of those that fail.

    Example:
        >>> judge_run("run", ended=True, evaluated={"warnings": []}).sentence
        'Nothing speaks against this fit so far, but it has not been checked.'
        >>> counts = {"fails": 1, "holds": 9, "not judged": 0}
        >>> judge_run("run", ended=True, checked={"counts": counts, "names": ["weights (Pareto k)"]}).sentence
        'Do not rely on this fit yet, as 1 of 10 checks fails: weights (Pareto k).'
    """
    if not ended:
        return RunVerdict("open", "This run was stopped before its end, so that nothing has judged it yet.")
    warnings = [] if evaluated is None else list(evaluated["warnings"])
    if checked is not None:
        return _of_checks(checked["counts"], checked["names"], warnings)
    check = f"python -m ppl_vae check {folder}"
    if evaluated is None:
        sentence = "The fit has ended; neither the errors of its evidence nor its inference have been looked at yet."
        return RunVerdict("open", sentence, check)
    if warnings:
        return RunVerdict("doubtful", f"The evidence is in doubt: {_first_of(warnings)}", check)
    return RunVerdict("good", "Nothing speaks against this fit so far, but it has not been checked.", check)


def _of_checks(counts: Mapping[str, int], failing: Sequence[str], warnings: Sequence[str]) -> RunVerdict:
    judged, unknown = counts["fails"] + counts["holds"], counts["not judged"]
    others = f"; {unknown} more could not be judged" if unknown else ""
    if failing:
        more = f" and {len(failing) - NAMED} more" if len(failing) > NAMED else ""
        verb = "fails" if len(failing) == 1 else "fail"
        named = ", ".join(failing[:NAMED])
        of = "check" if judged == 1 else "checks"
        sentence = f"Do not rely on this fit yet, as {len(failing)} of {judged} {of} {verb}: {named}{more}{others}."
        return RunVerdict("bad", sentence)
    if not judged:
        return RunVerdict("open", f"The checks could judge nothing of this fit: {unknown} of {unknown} had no answer.")
    if warnings:
        return RunVerdict("doubtful", f"All {judged} checks hold, but the evidence is in doubt: {_first_of(warnings)}")
    return RunVerdict("good", f"You can rely on this fit as far as {judged} checks can tell: they all hold{others}.")


def _first_of(warnings: Sequence[str]) -> str:
    """Return the first warning as the end of a sentence, and the number of others."""
    others = len(warnings) - 1
    more = f" ({others} more {'warning' if others == 1 else 'warnings'} below)" if others else ""
    return f"{warnings[0].rstrip('.')}{more}."
