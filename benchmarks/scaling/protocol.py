"""What the parts of the benchmark of scale share: the row of a table, and commands in processes that are measured."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """A row of a part's table."""

    what: str
    measured: str
    limit: str = ""
    """The limit in words; empty if there is none."""
    holds: bool | None = None
    """True if the limit is kept; None if there is none, or if the machine is too small to judge it."""


class Trial(NamedTuple):
    """The folder and the size of a measurement."""

    folder: Path
    """An empty folder for data and runs, which is removed afterwards."""
    share: float = 1.0
    """The share of the full size; a part states in its rows what it has extrapolated."""


class Measured(NamedTuple):
    """The cost of a process and of those that it has started."""

    seconds: float
    work_seconds: float
    """The time that the processor worked for it, on all of its cores together."""
    peak_bytes: int
    """The largest resident memory of one process."""
    output: str


def measure_command(
    verb: Sequence[str], *, threads: int | None = None, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run ``python ARGUMENTS`` in a process of its own, and return its time, its memory and its output."""
    names = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print('\\nUSED', used.ru_maxrss, used.ru_utime + used.ru_stime); sys.exit(done.returncode)"
    )
    command = [sys.executable, "-c", code, sys.executable, *map(str, verb)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **names, **(environment or {})})
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"python {' '.join(map(str, verb))} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    output, _, used = done.stdout.rpartition("\nUSED")
    peak, work = used.split()
    return Measured(seconds, float(work), int(peak) * (1024 if sys.platform == "linux" else 1), output)


def own_peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform == "linux" else 1)
