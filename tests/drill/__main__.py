"""The fault drill: ``python -m tests.drill [PART ...] [--quick]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch

from tests.drill.checks import NOTHING_LOST, OUTCOMES, TRACEBACK, Check, Forked
from tests.drill.work import METHODS, Bench

PARTS = {
    "kills": "kills, signals and full disks",
    "files": "files that are cut short, and flipped bits",
    "changes": "changed programs and data",
    "processes": "two processes in one folder",
    "hostile": "hostile configurations, checkpoints and results; numbers that are not finite",
    "fuzz": "fuzzed data files and command lines",
    "environment": "homes, temporary folders, languages, paths, clocks and memory",
    "life": "determinism, threads, forks and a long life",
}
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def main(args: Sequence[str] | None = None) -> int:
    """Run the drill, print a table, and return 0 if no check ended in a traceback or a silent error."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"parts: {', '.join(PARTS)}; by default all of them")
    parser.add_argument("--quick", action="store_true", help="a few checks of every kind, in half a minute")
    parser.add_argument("--page", action="store_true", help=f"write docs/{PAGE.name}")
    options = parser.parse_args(args)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}")
    torch.set_num_threads(1)  # this process is forked, and a fork has no other threads
    started = time.monotonic()
    folder = tempfile.mkdtemp(prefix="ppl_vae_drill_")
    os.environ["DRILL"] = folder
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        base = Path(folder, "bench").resolve()
        base.mkdir()
        checks = run_parts(
            Bench(base, METHODS[: 2 if options.quick else 3]), options.parts or list(PARTS), options.quick
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - started
    for check in checks:
        if check.outcome not in OUTCOMES[:2]:
            print(f"{check.outcome}: {check.kind}, {check.name}: {check.detail}\n", file=sys.stderr)
    text = table(checks)
    print(text)
    print(f"\n{len(checks)} checks in {seconds:.0f} s")
    if options.page:
        PAGE.write_text(page(text, checks))
    return int(any(check.outcome not in OUTCOMES[:2] for check in checks))


def run_parts(bench: Bench, parts: Sequence[str], quick: bool) -> list[Check]:
    """Run parts in processes of their own, as many at a time as there are cores; a line reports each that has ended."""
    waiting, running, checks = list(parts), {}, {}
    while waiting or running:
        if waiting and len(running) < (os.cpu_count() or 1):
            part = waiting.pop(0)
            running[part] = Forked(lambda part=part: _run_part(bench, part, quick))
            continue
        part = next((part for part, process in running.items() if process.has_ended()), "")
        if not part:
            time.sleep(0.05)
            continue
        ended = running.pop(part).end()
        path = Path(os.environ["DRILL"], f"{part}.jsonl")
        checks[part] = [Check(*json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
        if ended.status:
            checks[part].append(Check(PARTS[part], "the part itself", TRACEBACK, ended.err[-2000:]))
        faults = sum(check.outcome not in OUTCOMES[:2] for check in checks[part])
        print(f"{part}: {len(checks[part])} checks, {faults} faults", file=sys.stderr, flush=True)
    return [check for part in parts for check in checks[part]]


def _run_part(bench: Bench, part: str, quick: bool) -> int:
    """Write the checks of a part to a file."""
    with Path(os.environ["DRILL"], f"{part}.jsonl").open("w") as file:
        for check in import_module(f"tests.drill.{part}").drill(bench, quick):
            file.write(json.dumps(check) + "\n")
            file.flush()
    return 0


def table(checks: Sequence[Check]) -> str:
    """Return the number of checks by kind and outcome, as a table in Markdown."""
    counts = Counter((check.kind, check.outcome) for check in checks)
    kinds = dict.fromkeys(check.kind for check in checks)
    lines = [f"| faults | checks | {' | '.join(OUTCOMES)} |", "|---" * (len(OUTCOMES) + 2) + "|"]
    for kind in kinds:
        row = [counts[kind, outcome] for outcome in OUTCOMES]
        lines.append(f"| {kind} | {sum(row)} | {' | '.join(map(str, row))} |")
    total = [sum(counts[kind, outcome] for kind in kinds) for outcome in OUTCOMES]
    return "\n".join([*lines, f"| all | {len(checks)} | {' | '.join(map(str, total))} |"])


def page(text: str, checks: Sequence[Check]) -> str:
    """Return ``docs/reliability.md``."""
    kept = sum(check.outcome == NOTHING_LOST for check in checks)
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    return f"""# Reliability

`make drill` breaks small runs of all three methods of inference in every way that the table names, and looks at what
comes of it. This page is what it wrote on a machine with {machine}, PyTorch {torch.__version__}.

Each check ends in one of four ways:

- **nothing lost**: the numbers are those of a run that nothing disturbed ({kept} checks);
- **clear error**: one line says what happened, where, and what to do; or a warning beside the number reports the
  change;
- **traceback**: Python's own error reaches the user, or a command hangs; there must be none;
- **silent error**: a number is wrong, and nothing says so; there must be none.

{text}

- *Kills*: a fit gets SIGKILL at a random instant, or at a write, before or after the file has its name. It is resumed,
  and must get the numbers of a fit that was not killed, bit for bit.
- *Signals*: SIGTERM, SIGINT and SIGHUP at random instants of `fit` and `evaluate`.
- *Disk full*: writes fail from the n-th on, or the system refuses files above a size. The error names the file.
- *Bit flips and truncation*: of every file of a run, of its program, and of its data.
- *Changed program, changed data*: a warning beside the numbers, and a refusal of `--resume`.
- *Two processes*: commands that start in one folder at nearly the same time.
- *Hostile YAML, options, checkpoints, results*: files that a stranger may write.
- *Not finite*: a part of the program becomes nan or infinite at a step of training.
- *Fuzzed data, command lines*: random changes of files of data, and random options.
- *Environment, odd paths, short of memory*: HOME, TMPDIR, locales, clocks, names of folders, and limits of memory.
- *Determinism, threads, forks, long life*: the same numbers again; memory and open files of one process stay
  as they are.
"""


if __name__ == "__main__":
    sys.exit(main())
