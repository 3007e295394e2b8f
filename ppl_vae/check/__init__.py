"""The checks of a fit: is its inference right, and is its model any good? One check a file.

A check is a function from a ``CheckedFit`` to ``Findings``: verdicts, and the arrays of its figures. A fit that is
checked has some test data, some training data and data that are simulated from its model, each a ``CheckedData``, whose
draws from the guide, weights and evidence are computed once for all checks. ``checks.CHECKS`` lists the checks in the
order in which one should act: training that has not converged spoils all that follows, and inference that is wrong
spoils the criticism of the model.

| file | content |
|---|---|
| ``verdict`` | ``Verdict``, ``Findings``, the correction for several tests |
| ``subject`` | ``CheckedFit``, ``CheckedData`` and the settings |
| ``checks`` | the list of checks: a new check is a file, its import and a line there |
| ``page`` | all verdicts about a fit: its table, its text, its JSON |
| the others | one check each, or pure statistics of arrays |

A program that lacks what a check needs gets the verdict ``"not judged"`` with the reason, and so does one for which a
check raises an ``InputError``. A test that can fail by chance has the level ``CheckedFit.level``, the page's level
divided by the number of checks that are tests; it corrects for its own number of latents or sites by ``holm``.
"""

from ppl_vae.check.checks import CHECKS, Check
from ppl_vae.check.page import CheckPage, check_fit, choose_checks, run_check
from ppl_vae.check.subject import (
    CheckedData,
    CheckedFit,
    CheckNeed,
    CheckSettings,
    WeightedLatents,
    make_check_settings,
)
from ppl_vae.check.verdict import FigureData, Findings, Status, Verdict, holm

__all__ = [
    "CHECKS",
    "Check",
    "CheckNeed",
    "CheckPage",
    "CheckSettings",
    "CheckedData",
    "CheckedFit",
    "FigureData",
    "Findings",
    "Status",
    "Verdict",
    "WeightedLatents",
    "check_fit",
    "choose_checks",
    "holm",
    "make_check_settings",
    "run_check",
]
