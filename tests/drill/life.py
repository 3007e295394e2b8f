"""The same numbers on one thread and on two, in threads and in forks, and a long life of one process."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ppl_vae import VariationalInference
from ppl_vae.program import seeded
from ppl_vae.runs import Run, program_class
from tests.drill.checks import NOTHING_LOST, SILENT, TRACEBACK, Check, Ended, inside, judge_command, run_forked
from tests.drill.work import Bench, options_of, run, score
from tests.helpers.runs import read_numbers


def drill(bench: Bench, quick: bool) -> Iterator[Check]:
    """Yield the checks."""
    folder = bench.copy()
    with inside(folder):
        for method in bench.methods[: 1 if quick else 3]:
            for seed in (0,) if quick else (0, 1, 2):
                yield from _repeated(method, seed, (2,) if quick else (1, 2))
        yield from _threads(4 if quick else 40)
        for number in (2,) if quick else (2, 4) * 5:
            yield from _fits_in_threads(number)
        yield from _forks(bench, 1 if quick else 20)
        yield from _forks_beside_a_fit(1 if quick else 20)
        yield from _uses(bench, quick)
        if not quick:  # memory that grows shows in many fits alone
            yield from _long_life(300)
    shutil.rmtree(folder)


def _repeated(method: str, seed: int, counts: Sequence[int]) -> Iterator[Check]:
    """Fit on these numbers of threads, twice each: the numbers of a number of threads are the same."""
    for threads in counts:
        found = []
        for number in range(2):
            output = f"same-{threads}-{number}"

            def act(output: str = output, threads: int = threads) -> int:
                set_threads, torch.set_num_threads = torch.set_num_threads, lambda count: None
                set_threads(threads)
                return run("fit", *options_of(method, 3), "--seed", str(seed), "--output", output, "--overwrite")

            ended = run_forked(act)
            found.append(read_numbers(Path(output)) if ended.status == 0 else ended)
        is_same = not isinstance(found[0], Ended) and found[0] == found[1]
        yield Check(
            "determinism",
            f"{method}, seed {seed}, {threads} threads",
            NOTHING_LOST if is_same else SILENT,
            str(found)[:300],
        )


def _threads(number: int) -> Iterator[Check]:
    """Score in threads: each gets the number of one thread alone."""
    expected, found = score("amortized"), []
    workers = [threading.Thread(target=lambda: found.append(score("amortized"))) for _ in range(number)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for at in range(number):
        same = at < len(found) and found[at] == expected
        yield Check("threads", f"score in thread {at}", NOTHING_LOST if same else SILENT, str(found)[:200])


def _fit_and_score(seed: int) -> float:
    """Fit the program of a run anew and return the score of the test part."""
    x, (spec, arguments) = dict(np.load("my.npz")), Run("amortized").model()
    with seeded(0):
        program = program_class(spec)(**arguments)
    vi = VariationalInference(program, max_epochs=1, batch_size=25, num_samples=2, seed=seed)
    return vi.fit(x["x_train"], validation=x["x_valid"]).score(x["x_test"])


def _fits_in_threads(number: int) -> Iterator[Check]:
    """Fit and score in threads at once, with a seed for each: they get the numbers of one thread."""
    expected = [_fit_and_score(seed) for seed in range(number)]
    with ThreadPoolExecutor(number) as pool:
        scores = list(pool.map(_fit_and_score, range(number)))
    for seed, (own, right) in enumerate(zip(scores, expected, strict=True)):
        name = f"fit and score in thread {seed} of {number}"
        yield Check("threads", name, NOTHING_LOST if own == right else SILENT, f"{own} for {right}")


def _forks_beside_a_fit(number: int) -> Iterator[Check]:
    """Fork while another thread fits: the copy does not hang, and has the numbers of a process in which none does."""
    expected, ends = _fit_and_score(0), threading.Event()

    def fit_again() -> None:
        while not ends.is_set():
            _fit_and_score(1)

    other = threading.Thread(target=fit_again)
    other.start()
    try:
        for at in range(number):
            ended = run_forked(lambda: 0 if _fit_and_score(0) == expected else 3)
            outcome = NOTHING_LOST if ended.status == 0 else SILENT if ended.status == 3 else TRACEBACK
            yield Check("forks", f"fit in fork {at} beside a fit in a thread", outcome, ended.err[-300:])
    finally:
        ends.set()
        other.join()


def _forks(bench: Bench, number: int) -> Iterator[Check]:
    """Score in forks of a process that has scored."""
    expected = score("amortized")
    for at in range(number):
        ended = run_forked(lambda: 0 if score("amortized") == expected else 3)
        yield Check("forks", f"score in fork {at}", NOTHING_LOST if ended.status == 0 else SILENT, ended.err[-300:])


def _uses(bench: Bench, quick: bool) -> Iterator[Check]:
    """Run each verb on each run twice: what it writes is the same, but for times."""
    verbs = ("generate", "reconstruct", "impute", "embed", "latents", "outliers", "interpolate", "traverse", "augment")
    for method in bench.methods[: 1 if quick else 3]:
        for verb in verbs[:: 9 if quick else 1]:
            written = []
            for _ in range(2):
                ended = run_forked(lambda verb=verb, method=method: run(verb, method))
                paths = sorted(Path(method, "uses").glob("*.npz"))
                written.append([dict(np.load(path, allow_pickle=False)) for path in paths])
            same = all(_is_same(one, other) for one, other in zip(*written, strict=True))
            yield judge_command("determinism", f"{verb} of {method}", ended, same)


def _is_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Return True if two files of arrays have the same numbers."""
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def _long_life(fits: int) -> Iterator[Check]:
    """Fit again and again in one process, and read what it printed."""
    ended = run_forked(lambda: _live_long(fits), limit=600)
    for line in ended.out.splitlines():
        name, is_flat, detail = line.split("|")
        yield Check("long life", name, NOTHING_LOST if is_flat == "True" else SILENT, detail)
    if ended.status or not ended.out:
        yield Check("long life", f"{fits} fits", TRACEBACK, ended.err[-400:])


def _live_long(fits: int) -> int:
    """Fit again and again in one process: memory and open files stay as they are."""
    torch.set_num_threads(1)
    memory, files = [], []
    for at in range(fits):
        _fit_and_score(at)
        if at % 10 == 9:
            gc.collect()
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20)
            files.append(len(list(Path("/proc/self/fd").iterdir())))
    growth = memory[-1] - memory[len(memory) // 2]
    print(f"memory of {fits} fits|{growth < 10}|{memory[0]:.0f} to {memory[-1]:.0f} MiB")
    print(f"open files of {fits} fits|{files[-1] <= files[0]}|{files[0]} to {files[-1]}")
    return 0
