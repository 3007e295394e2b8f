r"""The arithmetic of many processes, with numbers of this machine, and a simulation that checks it.

A process takes the time :math:`t` for its rows of a batch while the other cores of its machine are as busy. The
gradient of :math:`M` bytes is summed in a ring: in each of :math:`2 (P - 1)` rounds a process sends :math:`M / P` bytes
to the next one, with the latency :math:`\alpha` and the bandwidth :math:`\beta`. A step waits for the slowest process:

.. math:: T_P = \mathrm E \max_{p \le P} t_p + 2 (P - 1) \Bigl(\alpha + \frac{M}{P \beta}\Bigr)
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
from scaling.processes import APART, NUM_BATCHES, ONE, TWO, Contestant, Trainers
from scaling.protocol import Row, Trial

ROWS, HIDDEN, PIXELS, LATENT = 512, 400, 784, 20
"""The rows of a batch that each process has, and the sizes of the VAE."""
BILLION, TURNS, SIMULATED_STEPS = 10**9, 12, 30
PROCESSES = (2, 16, 128, 1000)
CLUSTER = (5e-6, 10e9)
"""Latency in seconds and bytes a second of a fast network between machines, which the last rows assume."""
REDUCE = """
import sys, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
for exponent in range(10, 23, 2):
    x, seconds = torch.ones(2**exponent), []
    for _ in range(40):
        started = time.perf_counter()
        dist.all_reduce(x)
        seconds.append(time.perf_counter() - started)
    if dist.get_rank() == 0:
        print(4 * 2**exponent, sum(sorted(seconds)[:20]) / 20)
dist.destroy_process_group()
"""


class Network(NamedTuple):
    """The connection of two processes."""

    latency: float
    """Seconds of a message of no size."""
    bandwidth: float
    """Bytes a second."""

    def ring(self, size: float, processes: int) -> float:
        """Return the seconds in which a ring of processes sums so many bytes."""
        return 2 * (processes - 1) * (self.latency + size / (processes * self.bandwidth))


def arithmetic(trial: Trial) -> Iterator[Row]:
    turns = max(3, round(TURNS * trial.share))
    alone, beside, together = step_seconds(turns)
    network, size = measure_network(), 4 * num_parameters()
    for words, seconds in (("alone on the machine", alone), ("beside another one that trains its own model", beside)):
        t = statistics.mean(seconds)
        yield Row(f"step of one process, {ROWS} rows, {words}", f"{1e3 * t:.1f} ms, {ROWS / t:,.0f} rows a second")
    yield Row(
        "sum over two processes of this machine",
        f"latency {1e6 * network.latency:.0f} µs, {network.bandwidth / 1e9:.2f} GB a second",
    )
    yield Row("bytes that a process reads for a step", f"{ROWS * PIXELS * 4 / 1e6:.2f} MB of float32, whatever P is")
    yield Row("bytes that a process sends for a step", f"{2 * size / 1e6:.1f} MB times (P - 1) / P, whatever N is")
    yield Row("bytes of a checkpoint, which the first process writes", f"{4 * size / 1e6:.1f} MB, whatever N and P are")
    measured, computed = statistics.mean(together), step(beside, network, size, 2)
    yield Row(
        "step of two processes: measured; by the arithmetic (the faster half of the turns)",
        f"{1e3 * measured:.1f} ms; {1e3 * computed:.1f} ms",
        "within 25 %",
        bool(abs(computed / measured - 1) <= 0.25),
    )
    for processes in PROCESSES:
        computed, simulated = step(beside, network, size, processes), simulate(beside, network, size, processes)
        yield Row(
            f"step of {processes} processes on such connections: by the arithmetic; simulated",
            f"{1e3 * computed:.1f} ms; {1e3 * simulated:.1f} ms; {t / computed:.0%} of the time is work on rows",
            "within 5 %",
            bool(abs(computed / simulated - 1) <= 0.05),
        )
    fast = Network(*CLUSTER)
    words = f"{CLUSTER[0] * 1e6:.0f} µs and {CLUSTER[1] / 1e9:.0f} GB a second"
    for processes in (1, *PROCESSES):
        seconds = step(beside, fast, size, processes)
        hours = BILLION / (ROWS * processes) * seconds / 3600
        yield Row(
            f"an epoch of 10⁹ rows in {processes} {'process' if processes == 1 else 'processes'}, {words}",
            f"{hours:,.2f} hours; batches of {ROWS * processes:,} rows; {t / seconds:.0%} of the time is work on rows",
        )


def num_parameters() -> int:
    """Return the number of parameters of the VAE."""
    encoder = PIXELS * HIDDEN + HIDDEN + HIDDEN * 2 * LATENT + 2 * LATENT
    return encoder + LATENT * HIDDEN + HIDDEN + HIDDEN * PIXELS + PIXELS


def step_seconds(turns: int) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of steps of one process, of two that train two models, and of two that train one together.

    Every process has as many rows.
    """
    seconds: dict[Contestant, list[float]] = {ONE: [], APART: [], TWO: []}
    with ExitStack() as stack:
        trainers = {contestant: Trainers(contestant, ROWS * contestant.processes, HIDDEN) for contestant in seconds}
        for trainer in trainers.values():
            stack.callback(trainer.close)
        for _ in range(turns):
            for contestant, trainer in trainers.items():
                seconds[contestant] += [taken / NUM_BATCHES for taken in trainer.epoch_of_each()]
    return faster_half(seconds[ONE]), faster_half(seconds[APART]), faster_half(seconds[TWO])


def faster_half(seconds: list[float]) -> list[float]:
    """Return the shorter half of times: other work on the machine makes them longer."""
    return sorted(seconds)[: -(-len(seconds) // 2)]


def measure_network() -> Network:
    """Measure sums of several sizes over two processes of this machine, and fit a line to their times."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", REDUCE],
            env={**environment, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    output = max((rank.communicate()[0] for rank in ranks), key=len)
    sizes, seconds = zip(*(map(float, line.split()) for line in output.splitlines()), strict=True)
    slope, start = np.polyfit(sizes, seconds, 1, w=1 / np.array(seconds))  # relative errors
    return Network(max(start, 1e-6) / 2, 1 / slope)


def step(times_of_rows: Sequence[float], network: Network, size: float, processes: int) -> float:
    """Return the expected seconds of a step: the slowest of the processes, and the sum."""
    times, share = np.sort(times_of_rows), np.arange(len(times_of_rows) + 1) / len(times_of_rows)
    return float(times @ np.diff(share**processes)) + network.ring(size, processes)


def simulate(times_of_rows: Sequence[float], network: Network, size: float, processes: int) -> float:
    """Simulate steps message by message, and return their mean seconds."""
    random, now = np.random.default_rng(0), np.zeros(processes)
    send = network.latency + size / (processes * network.bandwidth)
    for _ in range(SIMULATED_STEPS):
        now = now + random.choice(times_of_rows, processes)
        for _ in range(2 * (processes - 1)):
            now = np.maximum(now, np.roll(now, 1)) + send
    return float(now.max() / SIMULATED_STEPS)
