"""Ten million rows of 64 columns in Parquet shards: fit them, evaluate a million of them in shards, embed all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scaling.protocol import Measured, Row, Trial, measure_command

NUM_ROWS, NUM_COLUMNS, NUM_FACTORS = 10_000_000, 64, 8
FILES, GROUP_ROWS = 40, 16_384
EVALUATED, NUM_SAMPLES, SHARDS = 1_000_000, 20, 4
MINUTES, GIBIBYTES = 40, 4
MODEL = "--model vae --model.likelihood gaussian --model.hidden [128] --model.latent-dim 8"
TRAINING = "--batch-size 8192 --max-epochs 1 --learning-rate 2e-3 --memory 1GiB --num-samples 50"


def millions(trial: Trial) -> Iterator[Row]:
    num_rows, evaluated = int(NUM_ROWS * trial.share), int(EVALUATED * trial.share)
    data, run = trial.folder / "rows", trial.folder / "run"
    size = write_rows(data, num_rows)
    steps: dict[str, list[Measured]] = {}

    def measure(step: str, command: str) -> Measured:
        done = measure_command(["-m", *command.split()])
        steps.setdefault(step, []).append(done)
        return done

    fit = measure("fit, one epoch", f"ppl_vae.fit --data {data} --output {run} {MODEL} {TRAINING}")
    shared = f"ppl_vae.evaluate {run} --part train --num-data {evaluated} --num-samples {NUM_SAMPLES}"
    for shard in range(SHARDS):
        measure(
            f"evaluate {evaluated:,} rows in {SHARDS} shards, one after the other",
            f"{shared} --shard {shard + 1}/{SHARDS}",
        )
    merged = measure("merge the shards", f"ppl_vae merge {run}")
    measure(f"embed all {num_rows:,} rows", f"ppl_vae embed {run} --part all --output {trial.folder / 'rows.npz'}")
    check_table(trial.folder / "rows.npz", num_rows)
    yield Row("data", f"{num_rows:,} rows of {NUM_COLUMNS} float32, {FILES} Parquet files, {size / 1e9:.2f} GB")
    for step, parts in steps.items():
        most, work = max(part.peak_bytes for part in parts) / 2**30, sum(part.work_seconds for part in parts)
        yield Row(step, f"{sum(part.seconds for part in parts):.0f} s ({work:.0f} s of a core), {most:.2f} GiB")
    both = f"{evidence_of(fit.output)} (test), {evidence_of(merged.output)} (train)"
    yield Row("evidence of the fit, nats per datum", both)
    every = [part for parts in steps.values() for part in parts]
    seconds, work = sum(part.seconds for part in every), sum(part.work_seconds for part in every)
    peak = max(part.peak_bytes for part in every) / 2**30
    whole = f"{seconds / 60:.1f} minutes ({work / 60:.1f} of a core)"
    yield Row("all commands", whole, f"{MINUTES} minutes", seconds <= 60 * MINUTES if trial.share == 1 else None)
    if trial.share < 1:
        start = measure_command(["-c", "import ppl_vae.cli.merge, ppl_vae.cli.fit"]).work_seconds * len(every)
        rest = start + (work - start) / trial.share
        what = "extrapolated to the full size on one core: the start of the commands, and the rest in proportion"
        yield Row(what, f"{rest / 60:.0f} minutes", f"{MINUTES} minutes", rest <= 60 * MINUTES)
    yield Row("largest peak of memory of a process", f"{peak:.2f} GiB", f"{GIBIBYTES} GiB", peak <= GIBIBYTES)


def write_rows(folder: Path, num_rows: int) -> int:
    """Write rows of a factor model with a nonlinear link, and return the size of the files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    loading = random.normal(size=(NUM_FACTORS, NUM_COLUMNS)).astype("f")
    names = [f"column_{number}" for number in range(NUM_COLUMNS)]
    for number in range(FILES):
        count = num_rows // FILES + (number < num_rows % FILES)
        z = random.standard_normal((count, NUM_FACTORS), dtype="f")
        x = np.tanh(z @ loading) + 0.3 * random.standard_normal((count, NUM_COLUMNS), dtype="f")
        table = pa.table({name: x[:, column] for column, name in enumerate(names)})
        pq.write_table(table, folder / f"part-{number:03d}.parquet", row_group_size=GROUP_ROWS)
    return sum(path.stat().st_size for path in folder.iterdir())


def check_table(path: Path, num_rows: int) -> None:
    """Check that the embedding has a finite row for each datum."""
    with np.load(path, mmap_mode="r") as table:
        mean = table["mean"]
        if len(mean) != num_rows or not np.isfinite(mean[:: max(1, num_rows // 1000)]).all():
            raise RuntimeError(f"{path} has {len(mean)} rows of {num_rows}, or some that are not finite")


def evidence_of(output: str) -> str:
    """Return the importance-sampled evidence and its error over data, as a command prints them."""
    line = next(line for line in output.splitlines() if line.startswith("iwae"))
    numbers = re.findall(r"-?\d+\.\d+", line)
    return f"{numbers[0]} ± {numbers[2]}"
