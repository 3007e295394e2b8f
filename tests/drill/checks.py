"""What a check of the drill is, how it ends, and how an action is run and judged."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ppl_vae.errors import ChangedSinceFit, Diverged, InputError

NOTHING_LOST, CLEAR_ERROR, TRACEBACK, SILENT = "nothing lost", "clear error", "traceback", "silent error"
OUTCOMES = (NOTHING_LOST, CLEAR_ERROR, TRACEBACK, SILENT)
REPORTS = ("warning: ", "epoch ")
"""Beginnings of lines on standard error that report no end: warnings, and the progress of work that takes long."""
LIMIT = 120.0
"""Seconds after which a process is taken to hang, which counts as a traceback."""


class Check(NamedTuple):
    """A check and how it ended."""

    kind: str
    name: str
    outcome: str
    detail: str = ""


class Ended(NamedTuple):
    """The end of a command: its exit status, minus the number of a signal if one killed it, and what it printed."""

    status: int
    out: str
    err: str


def judge_read(kind: str, name: str, read: Callable[[], Any], same: Callable[[Any], bool]) -> Check:
    """Judge a function that reads something broken: it gives what was there before, reports a fault, or is wrong."""
    with warnings.catch_warnings(record=True) as caught, _limited_time():
        warnings.simplefilter("always")
        try:
            value = read()
        except (InputError, Diverged) as error:
            return Check(kind, name, CLEAR_ERROR if "\n" not in str(error) else TRACEBACK, str(error))
        except OSError as error:
            return Check(kind, name, CLEAR_ERROR if error.filename else TRACEBACK, str(error))
        except BaseException:
            return Check(kind, name, TRACEBACK, traceback.format_exc()[-600:])
    if same(value):
        return Check(kind, name, NOTHING_LOST)
    reported = [str(w.message) for w in caught if issubclass(w.category, ChangedSinceFit)]
    return Check(kind, name, CLEAR_ERROR if reported else SILENT, "; ".join(reported)[:300] or "another result")


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    """Raise ``TimeoutError`` if the block hangs."""

    def end(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(int(LIMIT))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge_command(kind: str, name: str, ended: Ended, same: bool, *, stopped: bool = False) -> Check:
    """Judge the end of a command.

    Args:
        kind: the kind of the check.
        name: the name of the check.
        ended: the end of the command.
        same: True if its results, or those that were there before, are right.
        stopped: True if a signal may have stopped it.
    """
    detail = f"status {ended.status}: {ended.err.strip()[-500:]}"
    if "Traceback" in ended.err or "Traceback" in ended.out:
        return Check(kind, name, TRACEBACK, detail)
    lines = [line for line in ended.err.splitlines() if line.strip() and not line.startswith(REPORTS)]
    if ended.status == 2 and lines and all(line.startswith("error: ") for line in lines):
        return Check(kind, name, CLEAR_ERROR if same else SILENT, detail)
    if ended.status == 0 and not lines:
        reported = "warning: " in ended.err
        return Check(kind, name, NOTHING_LOST if same else CLEAR_ERROR if reported else SILENT, detail)
    if stopped and (ended.status == 130 or ended.status < 0) and len(lines) <= 1:
        return Check(kind, name, NOTHING_LOST if same else SILENT, detail)
    return Check(kind, name, TRACEBACK, detail)


def run_here(action: Callable[[], int]) -> Ended:
    """Run a command in this process, and return its end."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            status = action()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
            status = 1
    return Ended(status or 0, out.getvalue(), err.getvalue())


class Forked:
    """A process that runs an action; it begins as a copy of this one, in which everything is imported.

    Args:
        action: returns the exit status.
    """

    def __init__(self, action: Callable[[], int]) -> None:
        self.files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(action)

    def _run(self, action: Callable[[], int]) -> None:
        status = 1
        try:
            os.setpgid(0, 0)
            for number, file in enumerate(self.files, 1):
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
            warnings.simplefilter("ignore")
            try:
                status = action()
            except SystemExit as stop:
                status = stop.code if isinstance(stop.code, int) else 1
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status or 0)

    def send(self, number: int) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def has_ended(self) -> bool:
        """Return True if the process has ended; ``end`` then returns at once."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self, limit: float = LIMIT) -> Ended:
        """Wait for the end of the process, and return it."""
        until = time.monotonic() + limit
        while True:
            done, code = os.waitpid(self.pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > until:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return Ended(-99, "", "Traceback: it hangs")
            time.sleep(0.005)
        texts = []
        for file in self.files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        return Ended(os.waitstatus_to_exitcode(code), *texts)


def run_forked(action: Callable[[], int], limit: float = LIMIT) -> Ended:
    """Run an action in a process of its own, and return its end."""
    return Forked(action).end(limit)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[Path]:
    """Work in a folder inside the block."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
