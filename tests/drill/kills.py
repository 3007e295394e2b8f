"""Fits are killed, stopped by signals, and run out of disk, at random instants and within writes."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ppl_vae.errors import InputError
from ppl_vae.runs import files
from tests.drill.checks import TRACEBACK, Check, Ended, Forked, inside, judge_command, run_forked
from tests.drill.work import Bench, options_of, prepare, run, run_in, score


def drill(bench: Bench, quick: bool) -> Iterator[Check]:
    """Yield the checks."""
    chance = random.Random(0)
    folder = bench.copy()
    with inside(folder):
        methods = bench.methods
        started = time.monotonic()
        run_forked(lambda: run("fit", *options_of("amortized"), "--output", "timed"))
        whole = time.monotonic() - started
        for number in range(1 if quick else 42):
            yield from _killed(bench, methods[number % len(methods)], chance.uniform(0, 1.2 * whole), number)
        for number in (4, 11) if quick else range(36):
            method = methods[number % len(methods)]
            yield from _killed(bench, method, None, number, lambda at=number // 3: _kill_at_write(at))
        for number in (0,) if quick else range(48):
            name = ("SIGTERM", "SIGINT", "SIGHUP")[number % 3]
            verb = ("fit", "evaluate")[number // 3 % 2]
            yield _signalled(bench, verb, name, chance.uniform(0, whole))
        for number in range(2 if quick else 40):
            yield from _full_disk(bench, number)
        for size in (20_000,) if quick else range(500, 40_000, 1500):
            yield from _limited_files(bench, size)
    shutil.rmtree(folder)


def _killed(
    bench: Bench, method: str, seconds: float | None, number: int, prepare: Callable[[], None] = lambda: None
) -> Iterator[Check]:
    """Kill a fit, and go on with it: the numbers are those of a fit that was not killed."""
    output = f"killed-{number}-{'write' if seconds is None else 'time'}"

    def fit() -> int:
        prepare()
        return run("fit", *options_of(method), "--output", output)

    process = Forked(fit)
    if seconds is not None:
        time.sleep(seconds)
        process.send(signal.SIGKILL)
    process.end()
    name = f"{method}, {'at a write' if seconds is None else f'after {seconds:.2f} s'}"
    ended = bench.go_on(output, method)
    yield judge_command("kills", name, ended, ended.status == 0 and bench.is_whole(Path(output), method))
    left = [path.name for path in Path(output).rglob("*.part")]
    if left:
        yield Check("kills", f"{name}: what is left", TRACEBACK, str(left))
    shutil.rmtree(output, ignore_errors=True)


def _kill_at_write(number: int) -> None:
    """Kill this process at a write: half of the times before the file has its name, half of the times after."""
    replace, count = os.replace, iter(range(1000))

    def kill(*paths: str) -> None:
        at = next(count)
        if at == number // 2 and number % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)
        if at == number // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    files.os.replace = kill  # type: ignore[assignment]


def _signalled(bench: Bench, verb: str, name: str, seconds: float) -> Check:
    output = "signalled"
    prepare(verb, output)
    process = Forked(lambda: run_in(verb, output))
    time.sleep(seconds)
    process.send(getattr(signal, name))
    ended = process.end()
    same = True
    if verb == "fit" and Path(output, "checkpoint.safetensors").exists():
        again = run_forked(lambda: run("fit", "--resume", "--output", output))
        same = again.status == 0 and bench.is_whole(Path(output), "amortized")
        ended = ended if same else Ended(ended.status, ended.out, ended.err + again.err)
    elif verb == "evaluate":
        same = run_forked(lambda: run("evaluate", output)).status == 0
    return judge_command("signals", f"{name} to {verb} after {seconds:.2f} s", ended, same, stopped=True)


def _still_there(bench: Bench, output: str) -> bool:
    """Return True if a run has the right parameters, or none and says so."""
    try:
        ended = run_forked(lambda: 0 if abs(score(output)) < 1e6 else 3)
        if ended.status == 0:
            return True
        return "InputError" in ended.err.strip().splitlines()[-1]
    except InputError:
        return True


def _full_disk(bench: Bench, number: int) -> Iterator[Check]:
    """Let a write fail as on a full disk: the line names a file, and what was there before is there."""
    verb = ("fit", "evaluate")[number % 2]
    output = "full"
    prepare(verb, output)
    failing = number // 2

    def act() -> int:
        sync, count = os.fsync, iter(range(10_000))

        def fail(descriptor: int) -> None:
            if next(count) >= failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(descriptor)

        files.os.fsync = fail  # type: ignore[assignment]
        return run_in(verb, output)

    ended = run_forked(act)
    names_file = ended.status == 0 or output in ended.err
    yield judge_command("disk full", f"{verb}, write {failing}", ended, names_file and _still_there(bench, output))


def _limited_files(bench: Bench, size: int) -> Iterator[Check]:
    """Let the system refuse files above a size."""
    output = "limited"
    for verb in ("fit", "evaluate", "generate"):
        prepare(verb, output)

        def act(verb: str = verb) -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return run_in(verb, output)

        ended = run_forked(act)
        names_file = ended.status == 0 or output in ended.err
        yield judge_command("disk full", f"{verb}, files of {size} bytes", ended, names_file)
