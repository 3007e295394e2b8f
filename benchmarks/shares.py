"""Measure where the time of a step goes: matrix products, random numbers, look-up of the batch, kernels, dispatch.

    python benchmarks/shares.py [--isa avx2]

PyTorch's profiler adds up the times of operations and of Inductor's kernels, which are the elementwise work, the sums
and Adam; the rest of a step is Python and the dispatch of operations. The products of the same shapes, and a fused Adam
of the same parameters, are run alone in the same process, in turns with the steps. The numbers go to ``shares.json``,
and the page is written anew. The module is not called ``profile``: a module of the standard library has that name.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import bench
import isa
import report
import results

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
LARGE = 1500
"""Number of rows of a product that runs at the rate of the machine."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", choices=isa.ISAS, help="instruction set (default: the best of the processor)")
    options = parser.parse_args()
    os.environ["TORCHINDUCTOR_CPP_ENABLE_KERNEL_PROFILE"] = "1"
    if options.isa:
        isa.limit_instructions(options.isa)
    bench.choose_precision()
    with tempfile.TemporaryDirectory() as folder:
        rows: list[dict[str, Any]] = []
        for row in measure_shares(Path(folder)):
            rows.append(row)
            print(row, flush=True)
            measured = {"machine": bench.machine_now(), "date": f"{datetime.date.today()}", "rows": rows}
            results.note(FOLDER / "shares.json", options.isa or isa.best_isa(), "shares", measured, ())
    report.publish(FOLDER)


def measure_shares(folder: Path) -> Iterator[dict[str, Any]]:
    """Measure one task after the other, and yield a row for each."""
    import numpy as np
    import ours
    from protocol import Work

    data = folder / "data.npy"
    np.save(data, (np.random.default_rng(0).random((4096, 784)) < 0.3).astype("float32"))
    for title, (fields, steps) in TASKS.items():
        work = Work(data=str(data), options={"compile": "on"}, **fields)
        turn = ours.make(work, work.load())
        parameters = [array.shape for part in work.layers() for layer in part for array in layer]
        yield {"task": title, **profiled(turn, steps, parameters if work.kind == "step" else ())}


def profiled(
    turn: Callable[[int, int], tuple[float, float]], steps: int, parameters: Sequence[tuple[int, ...]]
) -> dict[str, Any]:
    """Return the seconds of a step, the share of each kind of work, and those of products and of Adam run alone."""
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
        if event.key in ("aten::mm", "aten::addmm"):
            first = int(event.key == "aten::addmm")
            factors = [tuple(shape) for shape in event.input_shapes[first : first + 2]]
            shapes[tuple(factors)] = shapes.get(tuple(factors), 0) + event.count
    shares = {kind: seconds / whole for kind, seconds in times.items()}
    shares["dispatch"] = max(0.0, 1 - sum(shares.values()))
    pairs = [(torch.randn(a), torch.randn(b), count) for (a, b), count in shapes.items()]
    tensors = [torch.randn(shape, requires_grad=True) for shape in parameters]
    adam = torch.optim.Adam(tensors, fused=True) if tensors else None
    for tensor in tensors:
        tensor.grad = torch.zeros_like(tensor)

    def update() -> float:
        start = time.perf_counter()
        for _ in range(steps if adam else 0):
            adam.step()  # type: ignore[union-attr]
        return time.perf_counter() - start

    update()
    flops = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] * count for a, b, count in pairs)
    large = (torch.randn(LARGE, LARGE), torch.randn(LARGE, LARGE), 1)
    turns = [(turn(2 + i, steps)[0], multiplied(pairs), update()) for i in range(TURNS)]
    return {
        "seconds": statistics.median(whole for whole, _, _ in turns) / steps,
        "shares": shares,
        "products alone": statistics.median(products / whole for whole, products, _ in turns),
        "Adam alone": statistics.median(own / whole for whole, _, own in turns) if adam else None,
        "rate": flops / times["matrix products"],
        "largest_rate": 2 * LARGE**3 / min(multiplied([large]) for _ in range(TURNS)),
    }


def kind_of(name: str) -> str | None:
    """Return the kind of an operation or of a kernel of Inductor; None for what only calls others."""
    for kind, beginnings in KINDS.items():
        if name.startswith(beginnings):
            return kind
    return "kernels" if "cpp_fused" in name else None


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
