"""A large table of mixed columns: the time and the memory of reading it and of finding the kinds of its columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scaling.protocol import Row, Trial, measure_command

NUM_ROWS, NUM_COLUMNS, BLOCK = 1_000_000, 50, 50_000
SECONDS, TIMES = 30.0, 4.0
PATHS = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])}
"""Where a process that reads finds this folder."""
CITIES = np.array(["Aachen", "Berlin", "Cologne", "Dresden", "Essen", "Frankfurt am Main", "Graz", "Halle"])


def reading(trial: Trial) -> Iterator[Row]:
    """Write a table as text and as Parquet, and read each in a process of its own."""
    num_rows = int(NUM_ROWS * trial.share)
    text, arrow = trial.folder / "table.csv", trial.folder / "table.parquet"
    write(text, num_rows)
    held = 8 * num_rows * NUM_COLUMNS
    start = measure_command([__file__, "nothing"], environment=PATHS)
    for path in (text, arrow):
        if path is arrow:
            pd.read_csv(text).to_parquet(arrow)
        cost = measure_command([__file__, str(path)], threads=1, environment=PATHS)
        seconds, passed = map(float, cost.output.split()[-2:])
        bytes_ = cost.peak_bytes - start.peak_bytes
        what = f"{path.suffix}, {num_rows:,} rows of {NUM_COLUMNS} mixed columns, {path.stat().st_size / 2**20:.0f} MiB"
        yield Row(f"{what}: time of the processor", f"{seconds:.1f} s", f"{SECONDS:.0f} s", seconds < SECONDS)
        yield Row(f"{what}: time that passed", f"{passed:.1f} s", f"{SECONDS:.0f} s", passed < SECONDS)
        yield Row(
            f"{what}: memory, in times of the columns ({held / 2**20:.0f} MiB)",
            f"{bytes_ / held:.1f}",
            f"{TIMES:.0f}",
            bytes_ < TIMES * held,
        )


def write(path: Path, num_rows: int) -> None:
    """Write a table block by block: reals, positives, counts, bits, texts, and a twentieth of each column missing."""
    random = np.random.default_rng(0)
    for start in range(0, num_rows, BLOCK):
        size = min(BLOCK, num_rows - start)
        columns: dict[str, np.ndarray] = {}
        for i in range(NUM_COLUMNS // 5):
            columns[f"real {i}"] = random.normal(size=size).round(4)
            columns[f"positive {i}"] = random.lognormal(size=size).round(4)
            columns[f"count {i}"] = random.poisson(20.0, size)
            columns[f"bit {i}"] = random.integers(0, 2, size)
            columns[f"city {i}"] = CITIES[random.integers(0, len(CITIES), size)]
        frame = pd.DataFrame(columns)
        frame = frame.mask(random.random(frame.shape) < 0.05)
        for name in frame.columns:
            if name.startswith(("count", "bit")):
                frame[name] = frame[name].astype("Int64")
        frame.to_csv(path, index=False, header=start == 0, mode="a")


def read(name: str) -> None:
    """Read a table in this process, and print the seconds that it took: of the processor, and on the clock."""
    import time

    from ppl_vae.data.table import read_table

    started, began = time.process_time(), time.perf_counter()
    if name != "nothing":
        arrays = read_table(Path(name)).table.arrays()
        assert arrays["x"].shape[1] == NUM_COLUMNS
    print(time.process_time() - started, time.perf_counter() - began)


if __name__ == "__main__":
    read(sys.argv[1])
