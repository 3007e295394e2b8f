"""Measure where the time of a step goes: matrix products, random numbers, other kernels, Adam, look-up, dispatch.

    python benchmarks/shares.py [--isa avx2]

The products of the same shapes are run alone in the same process, one after the other as in a step. Inductor names its
kernels, and PyTorch's profiler adds up their times; the rest of a step is Python and the dispatch of operations. The
module is not called ``profile`` because a module of the standard library is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER / "contestants")]
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn::", "mkl::"),
    "random numbers": ("aten::randn", "aten::normal", "aten::rand", "aten::bernoulli", "aten::uniform"),
    "look-up of the batch": ("aten::index_select", "aten::index"),
}
"""The beginnings of the names of operations, by kind."""
TASKS: dict[str, tuple[dict[str, Any], int]] = {
    "training step, batch 32": ({"kind": "step", "batch_size": 32}, 100),
    "training step, batch 128": ({"kind": "step"}, 100),
    "training step, batch 512": ({"kind": "step", "batch_size": 512}, 30),
    "IWAE, 500 draws of 100 data": ({"kind": "iwae", "num_data": 100, "num_samples": 500}, 1),
    "20 steps in lambda of 1000 data": ({"kind": "lambda", "num_data": 1000, "learning_rate": 0.1}, 20),
}
"""The fields of ``protocol.Work`` and the number of steps of a turn, by title."""
TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", choices=("avx2",), help="instruction set (default: the best of the processor)")
    options = parser.parse_args()
    os.environ["TORCHINDUCTOR_CPP_ENABLE_KERNEL_PROFILE"] = "1"
    if options.isa:
        from bench import ISAS

        os.environ.update(ISAS[options.isa])
    with tempfile.TemporaryDirectory() as folder:
        print_shares(Path(folder))


def print_shares(folder: Path) -> None:
    """Print a table with a row for each task."""
    import numpy as np
    import ours
    from protocol import Work

    data = folder / "data.npy"
    np.save(data, (np.random.default_rng(0).random((4096, 784)) < 0.3).astype("float32"))
    columns = [*KINDS, "Adam", "other kernels", "dispatch"]
    print(f"| task | ms a step | {' | '.join(columns)} | its products alone |")
    print("| --- " + "| --: " * (len(columns) + 2) + "|")
    for title, (fields, steps) in TASKS.items():
        work = Work(data=str(data), options={"compile": "on"}, **fields)
        turn = ours.make(work, work.load())
        seconds, shares, products = profiled(turn, steps)
        cells = [f"{1e3 * seconds:.2f}", *(f"{shares.get(name, 0.0):.0%}" for name in columns), f"{products:.0%}"]
        print("| " + " | ".join([title, *cells]) + " |", flush=True)


def profiled(turn: Callable[[int, int], tuple[float, float]], steps: int) -> tuple[float, dict[str, float], float]:
    """Return the seconds of a step, the share of each kind of work, and the share of its products run alone."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    turn(0, steps)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
        whole = turn(1, steps)[0]
    times: dict[str, float] = {}
    shapes: dict[tuple[tuple[int, ...], ...], int] = {}
    for event in recorded.key_averages(group_by_input_shape=True):
        kind = kind_of(event.key)
        if kind:
            times[kind] = times.get(kind, 0.0) + event.self_cpu_time_total / 1e6
        if event.key == "aten::mm":
            factors = [tuple(shape) for shape in event.input_shapes[:2]]
            shapes[tuple(factors)] = shapes.get(tuple(factors), 0) + event.count
    shares = {kind: seconds / whole for kind, seconds in times.items()}
    shares["dispatch"] = max(0.0, 1 - sum(shares.values()))
    pairs = [(torch.randn(a), torch.randn(b), count) for (a, b), count in shapes.items()]
    seconds, alone = zip(*((turn(2 + i, steps)[0], multiplied(pairs)) for i in range(TURNS)), strict=True)
    share = statistics.median(b / a for a, b in zip(seconds, alone, strict=True))
    return statistics.median(seconds) / steps, shares, share


def kind_of(name: str) -> str | None:
    """Return the kind of an operation or of a kernel of Inductor; None for what only calls others."""
    for kind, beginnings in KINDS.items():
        if name.startswith(beginnings):
            return kind
    if "cpp_fused" not in name:
        return None
    return "Adam" if "lerp" in name or "addcmul" in name else "other kernels"


def multiplied(pairs: Sequence[tuple[Any, Any, int]]) -> float:
    """Multiply matrices, each pair as often as it is counted, and return the seconds."""
    import torch

    outputs = [torch.empty(len(a), b.shape[1]) for a, b, _ in pairs]
    start = time.perf_counter()
    for (a, b, count), out in zip(pairs, outputs, strict=True):
        for _ in range(count):
            torch.mm(a, b, out=out)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
