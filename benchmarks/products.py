"""Time the products of small and large matrices by oneDNN, by MKL and by their transposes, and print a table.

    python benchmarks/products.py

``ppl_vae/compile/products.py`` chooses by sizes. All ways multiply the same matrices in turns, after other numbers have
passed through the caches, as they do between the products of a step. A ratio is the median over neighbouring turns.
"""

from __future__ import annotations

import time
from itertools import product

import ppl_vae.cli.process  # noqa: F401

# isort: split
import bench
import isa
import results
import torch

from ppl_vae.compile.products import SMALL

SHAPES = (
    (20, 88, 100),
    (20, 100, 200),
    (32, 400, 40),
    (128, 20, 400),
    (128, 400, 40),
    (20, 600, 200),
    (32, 784, 200),
    (128, 784, 100),
    (32, 784, 400),
    (64, 512, 512),
    (128, 400, 400),
    (128, 784, 400),
    (512, 784, 400),
)
"""Rows, inner size, and columns."""
TRANSPOSED = {"": (False, False), "second": (False, True), "first": (True, False)}
"""Which factor is transposed: those of a layer's gradient, of its output, and of the gradient of its weights."""
WARM_UP, TURNS = 5, 99
BETWEEN = 2**20
"""Number of floating-point numbers that pass through the caches before each product."""


def main() -> None:
    print(f"{bench.processor()}, {isa.best_isa()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}\n")
    print("| million operations | sizes | transposed | oneDNN | MKL | oneDNN / MKL | by transposes, oneDNN | ratio |")
    print("| --: | --- | --- | --: | --: | --: | --: | --: |")
    for (rows, inner, columns), transposed in product(SHAPES, TRANSPOSED):
        seconds = times(rows, inner, columns, *TRANSPOSED[transposed])
        libraries, ways = (
            results.row(one, other, list(zip(seconds[one], seconds[other], strict=True)))
            for one, other in (("oneDNN", "MKL"), ("transposes", "oneDNN"))
        )
        operations = 2 * rows * inner * columns
        print(
            f"| {operations / 1e6:.2f}{' (small)' if operations < SMALL else ''} | {rows} x {inner} x {columns} | "
            f"{transposed} | {libraries['ours_seconds'] * 1e6:.0f} us | {libraries['peer_seconds'] * 1e6:.0f} us | "
            f"{libraries['ratio']:.2f} | {ways['ours_seconds'] * 1e6:.0f} us | {ways['ratio']:.2f} |"
        )


def times(rows: int, inner: int, columns: int, first: bool, second: bool) -> dict[str, list[float]]:
    """Return the seconds of a product in each turn, by the name of the way."""
    a = torch.randn(inner, rows).T if first else torch.randn(rows, inner)
    b = torch.randn(columns, inner).T if second else torch.randn(inner, columns)
    ways = {"oneDNN": (a, b, "medium"), "MKL": (a, b, "highest"), "transposes": (b.T, a.T, "medium")}
    outs = {way: torch.empty(len(one), other.shape[1]) for way, (one, other, _) in ways.items()}
    between = torch.zeros(BETWEEN)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(WARM_UP + TURNS):
        for way, (one, other, precision) in ways.items():
            torch.set_float32_matmul_precision(precision)
            between.add_(1)
            start = time.perf_counter()
            torch.mm(one, other, out=outs[way])
            seconds[way].append(time.perf_counter() - start)
    return {way: measured[WARM_UP:] for way, measured in seconds.items()}


if __name__ == "__main__":
    main()
