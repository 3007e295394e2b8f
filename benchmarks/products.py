"""Time the products of small and large matrices by oneDNN and by MKL, and print a table.

    python benchmarks/products.py

``ppl_vae/compile/products.py`` chooses by the number of operations. Both libraries multiply the same matrices in turns.
The ratio is the median over pairs of neighbouring turns.
"""

from __future__ import annotations

import statistics
import time
from itertools import product

import ppl_vae.cli.process  # noqa: F401

# isort: split
import bench
import isa
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
TURNS = 9
OPERATIONS = 3e7
"""Number of operations of a turn, or more if a product has more."""


def main() -> None:
    print(f"{bench.processor()}, {isa.best_isa()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}\n")
    print("| million operations | sizes | transposed | oneDNN | MKL | oneDNN / MKL |")
    print("| --: | --- | --- | --: | --: | --: |")
    for (rows, inner, columns), transposed in product(SHAPES, TRANSPOSED):
        by_onednn, by_mkl = times(rows, inner, columns, *TRANSPOSED[transposed])
        ratio = statistics.median(one / other for one, other in zip(by_onednn, by_mkl, strict=True))
        operations = 2 * rows * inner * columns
        print(
            f"| {operations / 1e6:.2f}{' (small)' if operations < SMALL else ''} | {rows} x {inner} x {columns} | "
            f"{transposed} | {statistics.median(by_onednn) * 1e6:.0f} us | {statistics.median(by_mkl) * 1e6:.0f} us | "
            f"{ratio:.2f} |"
        )


def times(rows: int, inner: int, columns: int, first: bool, second: bool) -> tuple[list[float], list[float]]:
    """Return the seconds of a product in each turn, by oneDNN and by MKL."""
    a = torch.randn(inner, rows).T if first else torch.randn(rows, inner)
    b = torch.randn(columns, inner).T if second else torch.randn(inner, columns)
    out = torch.empty(rows, columns)
    repetitions = max(1, round(OPERATIONS / (2 * rows * inner * columns)))
    seconds: dict[str, list[float]] = {"medium": [], "highest": []}
    for _ in range(1 + TURNS):
        for precision, measured in seconds.items():
            torch.set_float32_matmul_precision(precision)
            start = time.perf_counter()
            for _ in range(repetitions):
                torch.mm(a, b, out=out)
            measured.append((time.perf_counter() - start) / repetitions)
    return seconds["medium"][1:], seconds["highest"][1:]


if __name__ == "__main__":
    main()
