"""Two processes work in one folder at a time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tests.drill.checks import CLEAR_ERROR, NOTHING_LOST, SILENT, Check, Forked, inside, judge_command
from tests.drill.work import Bench, options_of, run, score

COMMANDS = {
    "fit": ["fit", *options_of("amortized"), "--output", "shared"],
    "overwrite": ["fit", *options_of("amortized"), "--output", "shared", "--overwrite"],
    "resume": ["fit", "--resume", "--output", "shared", "--max-epochs", "7"],
    "evaluate": ["evaluate", "shared"],
    "generate": ["generate", "shared"],
    "report": ["report", "shared"],
}


def drill(bench: Bench, quick: bool) -> Iterator[Check]:
    """Yield the checks."""
    folder = bench.copy()
    pairs = [(first, second) for first in COMMANDS for second in COMMANDS if first <= second]
    pairs = [pair for pair in pairs if pair not in {("fit", "fit"), ("report", "report")}]
    with inside(folder):
        for first, second in pairs[4:5] if quick else pairs * 2:
            yield from _together(bench, first, second)
        for number in range(1 if quick else 10):  # both find no folder
            yield from _together(bench, "fit", "fit", wait=0.02 * number, is_new=True)
    shutil.rmtree(folder)


def _together(bench: Bench, first: str, second: str, wait: float = 0.05, is_new: bool = False) -> Iterator[Check]:
    shutil.rmtree("shared", ignore_errors=True)
    if not is_new:
        shutil.copytree("amortized", "shared")
    one = Forked(lambda: run(*COMMANDS[first]))
    time.sleep(wait)
    other = Forked(lambda: run(*COMMANDS[second]))
    ends = {first: one.end(), f"{second} ": other.end()}
    name = f"{first} beside {second}"
    for verb, ended in ends.items():
        yield judge_command("two processes", f"{name}: {verb.strip()}", ended, True)
    outcome, detail = NOTHING_LOST, ""
    try:
        number = score("shared")
        is_finished = Path("shared/summary.json").exists() and "resume" not in (first, second)
        if is_finished and not bench.is_whole(Path("shared"), "amortized"):
            outcome, detail = SILENT, f"the folder has numbers of both: {number}"
    except ValueError as error:
        outcome, detail = CLEAR_ERROR, str(error)
    yield Check("two processes", f"{name}: the folder", outcome, detail)
