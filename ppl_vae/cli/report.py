"""The verb ``report``."""

from __future__ import annotations

from ppl_vae.cli.opened import Outcome
from ppl_vae.report import write_report
from ppl_vae.runs import Run


def report(folder: str, trust: bool = False) -> Outcome:
    """Write one page about a run: the program, its training, how good it is, and its figures.

    Args:
        folder: the run folder that ``fit`` wrote, with what other verbs have added to it.
        trust: execute the run's program file also if it lies inside the run folder, or outside the working tree.

    Returns:
        Outcome: with the file.
    """
    with Run.open(folder).locked(alone=False):
        path = write_report(folder, trust=trust)
    return Outcome(path, [], [path])
