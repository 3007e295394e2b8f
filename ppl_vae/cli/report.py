"""The verb ``report``."""

from __future__ import annotations

from ppl_vae.cli.opened import Outcome
from ppl_vae.report import write_report


def report(folder: str) -> Outcome:
    """Write one page about a run: the program, its training, how good it is, and its figures.

    Args:
        folder: the run folder that ``fit`` wrote, with what other verbs have added to it.

    Returns:
        Outcome: with the file.
    """
    path = write_report(folder)
    return Outcome(path, [], [path])
