"""The verdict at the top of a report: that of the checks if there are any, else that of the evidence."""

from __future__ import annotations

import pytest

from ppl_vae.report.verdict import judge_run

HOLD, FAIL = {"holds": 12, "fails": 0, "not judged": 0}, {"holds": 8, "fails": 4, "not judged": 3}
NAMES = ["calibration (guide)", "weights (Pareto k)", "latents (z[3])", "surprise (test data)"]
NONE = {"holds": 0, "fails": 0, "not judged": 5}
CLEAN, DOUBTED = {"warnings": []}, {"warnings": ["iwae: Pareto k above 0.7 for 9.0% of the data", "another", "a third"]}


def checked(counts, names=()):
    return {"counts": counts, "names": list(names)}


@pytest.mark.parametrize(
    ("parts", "kind", "sentence"),
    [
        ({"ended": False}, "open", "was stopped before its end"),
        ({"ended": False, "evaluated": CLEAN}, "open", "was stopped before its end"),
        ({"ended": True}, "open", "neither the errors of its evidence nor its inference"),
        ({"ended": True, "evaluated": CLEAN}, "good", "it has not been checked"),
        (
            {"ended": True, "evaluated": DOUBTED},
            "doubtful",
            "in doubt: iwae: Pareto k above 0.7 for 9.0% of the data (2 more warnings below).",
        ),
        ({"ended": True, "checked": checked(HOLD)}, "good", "as far as 12 checks can tell: they all hold."),
        ({"ended": True, "evaluated": DOUBTED, "checked": checked(HOLD)}, "doubtful", "All 12 checks hold, but"),
        (
            {"ended": True, "evaluated": CLEAN, "checked": checked(FAIL, NAMES)},
            "bad",
            "4 of 12 checks fail: calibration (guide), weights (Pareto k), latents (z[3]) and 1 more; 3 more could not",
        ),
        ({"ended": True, "evaluated": DOUBTED, "checked": checked(FAIL, NAMES)}, "bad", "4 of 12 checks fail"),
        ({"ended": True, "checked": checked(NONE)}, "open", "could judge nothing"),
    ],
)
def test_the_verdict(parts, kind, sentence):
    verdict = judge_run("a run", **parts)
    assert verdict.kind == kind
    assert sentence in verdict.sentence
    assert verdict.sentence.endswith(".")
    asks = parts["ended"] and "checked" not in parts
    assert verdict.command == ("python -m ppl_vae check a run" if asks else "")
