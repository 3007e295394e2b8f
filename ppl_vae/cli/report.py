"""The verb ``report``."""

from __future__ import annotations

from ppl_vae.cli.opened import Outcome
from ppl_vae.report import write_report
from ppl_vae.runs import Run


def report(folder: str, trust: bool = False) -> Outcome:
    """Write one page about a run: program, training, evidence, figures.

    Args:
        folder: run folder. The verb ``fit`` wrote it, and other verbs have added to it.
        trust: execute a program file from elsewhere. It may lie inside the run folder, or outside the working tree.

    Returns:
        Outcome: with the file.
    """
    with Run.open(folder).locked(alone=False):
        path = write_report(folder, trust=trust)
    return Outcome(path, [], [path])
