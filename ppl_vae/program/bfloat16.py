"""Matrix products whose factors are rounded to bfloat16, which are faster on some processors and slower on others.

A processor with AMX or with bfloat16 instructions multiplies them faster than fp32 factors. Without such instructions
they are emulated, and a step takes up to fifteen times as long.
"""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from ppl_vae.runs.files import write_whole

ROWS, FACTORS, COLUMNS = 128, 784, 400
"""The shape of the product that is measured, that of the first layer of a usual encoder."""
REPETITIONS = 20
"""Number of products, of which the fastest counts: other processes only make the others slower. It takes 20 ms."""

CLEAR = 2
"""Ratio of times from which products in bfloat16 are clearly slower; where they are emulated, it is about 14."""


class ProductTimes(NamedTuple):
    """The seconds of one product of matrices in two precisions."""

    fp32: float
    """With fp32 factors."""
    bf16: float
    """With factors that are rounded to bfloat16 first, and a result that is converted back."""

    @property
    def are_clear(self) -> bool:
        """True if bfloat16 is faster, or so much slower that no other process can be the reason."""
        return self.bf16 <= self.fp32 or self.bf16 >= CLEAR * self.fp32


def product_times() -> ProductTimes:
    """Return the seconds of a product on this processor, which are measured once and kept in ``~/.cache/ppl_vae``.

    They are kept for the processor, the version of PyTorch and the number of threads, so that a choice that depends on
    them is the same in all later runs. If products in bfloat16 are slower, but not clearly, another process may have
    been at work: then they are measured again in the next run.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    path, key = root / "ppl_vae" / "products.json", _key()
    kept: dict[str, list[float]] = {}
    with suppress(OSError, ValueError, TypeError):
        kept = dict(json.loads(path.read_text()))
    if key in kept and (times := ProductTimes(*kept[key])).are_clear:
        return times
    times = measure_products()
    if times.are_clear:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(kept | {key: list(times)}))
    return times


def measure_products() -> ProductTimes:
    """Measure the least seconds of a product in both precisions, in turns; random generators stay as they are."""
    a, b = torch.full((ROWS, FACTORS), 0.5), torch.full((COLUMNS, FACTORS), 0.5)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPETITIONS + 1):
        for times, rounded in zip(seconds, (False, True), strict=True):
            start = time.perf_counter()
            if rounded:
                torch.nn.functional.linear(a.bfloat16(), b.bfloat16()).float()
            else:
                torch.nn.functional.linear(a, b)
            times.append(time.perf_counter() - start)
    return ProductTimes(*(min(times[1:]) for times in seconds))  # the first ones choose an algorithm


def _key() -> str:
    """Return all that the times depend on, as text."""
    variables = [os.environ.get(name, "") for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")]
    facts = (_processor(), torch.__version__, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())
    return " ".join(map(str, (*facts, *variables)))


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
