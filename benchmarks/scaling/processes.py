"""Data-parallel training: two processes beside one of two threads and one of one, and beside a plain DDP loop."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from scaling.protocol import Row, Trial

NUM_BATCHES, TURNS = 6, 15
LARGE, SMALL = (4096, 400), (512, 400)
"""Batch size and width of a model: one that fills the cores, and one whose steps are short."""


class Contestant(NamedTuple):
    """A way to train, by a number of processes of so many threads each."""

    way: str
    processes: int
    threads: int
    together: bool = True
    """If False, each process trains a model of its own with its share of the rows: the best that a machine can do."""

    def __str__(self) -> str:
        return f"{self.way}, {self.processes} x {self.threads}"


TWO, THREADED, ONE = Contestant("package", 2, 1), Contestant("package", 1, 2), Contestant("package", 1, 1)
DDP, APART = Contestant("ddp", 2, 1), Contestant("package", 2, 1, together=False)


class Trainers:
    """The processes of a contestant, which train an epoch when they are told to, and sleep otherwise."""

    def __init__(self, contestant: Contestant, batch_size: int, hidden: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        size = contestant.processes if contestant.together else 1
        rows = batch_size * size // contestant.processes
        script, numbers = Path(__file__).with_name("rank_steps.py"), (NUM_BATCHES * rows, rows, hidden)
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(script), contestant.way, *map(str, numbers)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                env={
                    **os.environ,
                    **{"RANK": str(rank % size), "LOCAL_RANK": str(rank % size), "WORLD_SIZE": str(size)},
                    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
                    "OMP_NUM_THREADS": str(contestant.threads),
                },
            )
            for rank in range(contestant.processes)
        ]
        self._answers()

    def _answers(self) -> list[str]:
        lines = [process.stdout.readline() for process in self.processes if process.stdout]
        if not all(lines):
            raise RuntimeError("a rank has ended: its error is above")
        return lines

    def epoch(self) -> float:
        """Train an epoch, and return its seconds."""
        return max(self.epoch_of_each())

    def epoch_of_each(self) -> list[float]:
        """Train an epoch, and return the seconds of each process."""
        for process in self.processes:
            assert process.stdin
            process.stdin.write("go\n")
        return [float(line) for line in self._answers()]

    def close(self) -> None:
        for process in self.processes:
            assert process.stdin
            process.stdin.close()
        for process in self.processes:
            process.wait()


def processes(trial: Trial) -> Iterator[Row]:
    """Yield the ratios of the times of an epoch, the median over turns; contestants train one after the other."""
    turns = max(3, round(TURNS * trial.share))
    names = {
        THREADED: "one process of two threads",
        ONE: "one process of one thread",
        DDP: "a plain loop of DistributedDataParallel in two processes",
        APART: "two processes that train two models, each with half of the rows",
    }
    limits = {THREADED: 0.9, ONE: 1.7, DDP: 1.0, APART: None}
    for (batch_size, hidden), has_limits in ((LARGE, True), (SMALL, False)):
        ratios = measure((TWO, *limits), batch_size, hidden, turns)
        for other, limit in limits.items():
            low, middle, high = statistics.quantiles(ratios[other], n=4)
            yield Row(
                f"two processes of one thread, beside {names[other]} (VAE 784-{hidden}-20, batch {batch_size})",
                f"{middle:.2f} times as fast ({low:.2f} to {high:.2f})",
                f"{limit} or more" if has_limits and limit else "",
                middle >= limit if has_limits and limit else None,
            )


def measure(
    contestants: tuple[Contestant, ...], batch_size: int, hidden: int, turns: int
) -> dict[Contestant, list[float]]:
    """Return the times of each contestant's turns, divided by those of the first in the same round."""
    with ExitStack() as stack:
        trainers = {}
        for contestant in contestants:
            trainers[contestant] = Trainers(contestant, batch_size, hidden)
            stack.callback(trainers[contestant].close)
        seconds: dict[Contestant, list[float]] = {contestant: [] for contestant in contestants}
        for turn in range(turns):
            for contestant in contestants[:: 1 if turn % 2 else -1]:
                seconds[contestant].append(trainers[contestant].epoch())
    return {
        contestant: [time / own for time, own in zip(times, seconds[contestants[0]], strict=True)]
        for contestant, times in seconds.items()
    }
