"""Homes, temporary folders, languages, paths, clocks and memory that are not as usual."""

from __future__ import annotations

import locale
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.drill.checks import Check, Ended, inside, judge_command, run_forked
from tests.drill.work import Bench, options_of, prepare, run, run_in

PATHS = [
    *("with space", "with\ttab", "with\nline", "ünïcödé", "日本", "quote'", 'quote"', "a:b", "a=b", "a,b", "#hash"),
    *("[b]", "{b}", "$HOME", "~tilde", "%s", "back\\slash", "-dash", "--flag", "x" * 200, "deep/" * 30 + "end"),
    *("dot.", ".hid", "a.py", "a;b", "a|b", "*", "?", "&", "\u202eright", "e\u0301", "\udcff"),
]


def drill(bench: Bench, quick: bool) -> Iterator[Check]:
    """Yield the checks."""
    folder = bench.copy()
    with inside(folder):
        changes: dict[str, Callable[[], object]] = {
            "no HOME": lambda: os.environ.pop("HOME", None),
            "HOME that is not there": lambda: os.environ.update(HOME="/nowhere/at/all"),
            "HOME that is a file": lambda: os.environ.update(HOME=str(folder / "my.npz")),
            "TMPDIR that is not there": lambda: os.environ.update(TMPDIR="/nowhere/at/all"),
            "no PATH": lambda: os.environ.update(PATH=""),
            "nothing": os.environ.clear,
            "LC_ALL=C": lambda: os.environ.update(LC_ALL="C", LANG="C"),
            "a closed standard input": lambda: os.close(0),
            "few files at once": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)),
            "no umask": lambda: os.umask(0o777) and None,
            **{f"locale {name}": lambda name=name: _speak(name) for name in ("C", "de_DE.UTF-8", "tr_TR.UTF-8")},
            **{
                f"a clock that {name}": lambda by=by: _jump(by)
                for name, by in {"goes back": -3600, "leaps": 1e7}.items()
            },
        }
        for name, change in list(changes.items())[:: 8 if quick else 1]:
            for verb in ("fit",) if quick else ("fit", "evaluate", "report"):
                yield _in_another_world(bench, name, change, verb)
        for name in PATHS[2::20] if quick else PATHS:
            yield from _odd_path(bench, name)
        for kilobytes in (2**10,) if quick else [2**k for k in range(6, 20)] + [3 * 2**k for k in range(6, 19)]:
            for verb in ("evaluate",) if quick else ("fit", "evaluate"):
                yield _short_of_memory(bench, verb, kilobytes)
        yield from _closed_output(quick)
    shutil.rmtree(folder)


def _speak(name: str) -> None:
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:  # it is not installed here
        locale.setlocale(locale.LC_ALL, "C")


def _jump(by: float) -> None:
    """Let the clock of the day, and the one that measures, jump by some seconds at every second reading."""
    for name in ("time", "perf_counter"):
        read, count = getattr(time, name), iter(range(10**9))
        setattr(time, name, lambda read=read, count=count: read() + by * (next(count) % 2))


def _in_another_world(bench: Bench, name: str, change: Callable[[], object], verb: str) -> Check:
    output = "other"
    prepare(verb, output)

    def act() -> int:
        change()
        return run_in(verb, output)

    ended = run_forked(act)
    same = ended.status != 0 or bench.is_whole(Path(output), "amortized")
    return judge_command("environment", f"{name}: {verb}", ended, same)


def _odd_path(bench: Bench, name: str) -> Iterator[Check]:
    """Data, program and run in a folder of an odd name."""
    odd = Path("odd") / name
    try:
        odd.mkdir(parents=True)
    except OSError:
        return
    for file in ("my.npz", "mine.py", "helper.py"):
        shutil.copy(file, odd / file)
    files = ["--data", f"{odd}/my.npz", "--model", f"{odd}/mine.py"]
    ended = run_forked(lambda: run("fit", *options_of("amortized"), *files, "--output", f"{odd}/run"))
    whole = ended.status == 0 and bench.is_whole(odd / "run", "amortized")
    yield judge_command("odd paths", f"{ascii(name)[:40]}: fit", ended, whole or ended.status == 2)
    if ended.status == 0:
        ended = run_forked(lambda: run("evaluate", f"{odd}/run"))
        yield judge_command("odd paths", f"{ascii(name)[:40]}: evaluate", ended, True)
    shutil.rmtree("odd")


def _short_of_memory(bench: Bench, verb: str, kilobytes: int) -> Check:
    output = "short"
    prepare(verb, output)

    def act() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGESIZE") + 1024 * kilobytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return run_in(verb, output)

    ended = run_forked(act)
    name = f"{verb} with {kilobytes} KiB more"
    if ended.status < 0:  # native code cannot report that memory is short: the system ends the process, as by a kill
        again = bench.go_on(output, "amortized") if verb == "fit" else run_forked(lambda: run(verb, output))
        whole = again.status == 0 and bench.is_whole(Path(output), "amortized")
        return judge_command("short of memory", name, ended, whole, stopped=True)
    return judge_command("short of memory", name, ended, ended.status != 0 or bench.is_whole(Path(output), "amortized"))


def _closed_output(quick: bool) -> Iterator[Check]:
    """Whoever reads the output has gone, or the terminal has."""
    for verb in ("evaluate",) if quick else ("evaluate", "generate", "report", "compare"):
        args = ["amortized", "amortized/../semi-amortized"] if verb == "compare" else ["amortized"]

        def act(verb: str = verb, args: list[str] = args) -> int:
            reading, writing = os.pipe()
            os.close(reading)
            os.dup2(writing, 1)
            return run(verb, *args)

        ended = run_forked(act)
        ended = Ended(0, ended.out, ended.err) if ended.status in (141, -signal.SIGPIPE) else ended
        yield judge_command("environment", f"a closed output: {verb}", ended, True)
