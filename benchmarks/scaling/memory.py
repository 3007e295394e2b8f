"""Fits of 1, 4 and 16 GB in 3 GiB: the peak of memory, and the evidence beside that of a fit in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from scaling.protocol import Measured, Row, Trial, measure_command

from ppl_vae.estimator import load, load_data

LIMIT, MEMORY = 3 * 2**30, "512MiB"
WIDTH, CLASSES, LATENT = 1024, 20, 10
SIZES = (1, 4, 16)
"""Sizes of the files in 10^9 bytes."""
BATCH_SIZE, NUM_DATA = 512, 10_000
STEPS = 2000
"""Steps of each fit, so many that they are compiled; all rows are read and checked before the first."""
KIND = "AS"
"""The limit of the process: of its address space."""
LIMITED = """\
import resource, sys
_, kind, limit, *arguments = sys.argv
if kind:
    resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (int(limit), int(limit)))
sys.argv = ["ppl_vae", *arguments]
import ppl_vae.cli.process
from ppl_vae.cli import main
sys.exit(main())
"""


def memory(trial: Trial) -> Iterator[Row]:
    """Fit factor analysis to files that are sorted by class, which is the worst case for a buffer."""
    peaks: dict[int, Measured] = {}
    for size in SIZES:
        path = trial.folder / f"{size}.npz"
        num_rows = write_rows(path, int(size * 1e9 * trial.share))
        try:
            run = trial.folder / f"streamed-{size}"
            if not peaks:  # the compiler's memory does not depend on N: its graphs are in its cache from here on
                fit(path, trial.folder / "first", STEPS, memory=MEMORY, limit=LIMIT)
            peaks[size] = fit(path, run, STEPS, memory=MEMORY, limit=LIMIT)
            steps = last_row(run)["step"]
            yield Row(
                f"fit of {num_rows:,} rows of {WIDTH} numbers, {size * trial.share:g} GB, {steps:,} steps",
                f"peak {peaks[size].peak_bytes / 2**20:,.0f} MiB, {peaks[size].seconds:,.0f} s",
                "3 GiB",
                peaks[size].peak_bytes <= LIMIT,
            )
            if size == 1:
                yield compare(trial.folder, path, run)
        finally:
            path.unlink()
    least, most = (choose(measured.peak_bytes for measured in peaks.values()) for choose in (min, max))
    yield Row("largest peak over smallest peak", f"{most / least:.3f}", "1.1", most <= 1.1 * least)


def compare(folder: Path, path: Path, streamed: Path) -> Row:
    """Compare the evidence with that of fits in memory, whose noise of training two seeds show."""
    evidence = [read_evidence(streamed)]
    for seed in (0, 1):
        run = folder / f"whole-{seed}"
        fit(path, run, STEPS, memory="8GiB", seed=seed)
        evidence.append(read_evidence(run))
    one, other = evidence[0] - evidence[1], evidence[2] - evidence[1]
    error = math.hypot(one.std(ddof=1) / len(one) ** 0.5, abs(other.mean()) / math.sqrt(2))
    return Row(
        f"evidence of {len(one):,} data, streamed less in memory ({evidence[1].mean():.2f}), nats per datum",
        f"{one.mean():+.4f}, paired error {one.std(ddof=1) / len(one) ** 0.5:.4f}; "
        f"another seed less in memory {other.mean():+.4f}",
        "2 errors of data and seed",
        bool(abs(one.mean()) <= 2 * error),
    )


def write_rows(path: Path, size: int) -> int:
    """Write rows of standard Gaussians around the centres of their classes, class by class, in pieces."""
    random, num_rows = np.random.default_rng(0), size // (4 * WIDTH)
    centres = random.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    noise = random.normal(size=(2**15, WIDTH)).astype(np.float32)
    held = min(NUM_DATA, num_rows // 10)
    with ZipFile(path, "w", ZIP_STORED) as file:
        for part, number in (("train", num_rows - 2 * held), ("valid", held), ("test", held)):
            with file.open(f"x_{part}.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f4", "fortran_order": False, "shape": (number, WIDTH)}
                np.lib.format.write_array_header_2_0(member, header)
                for start in range(0, number, len(noise)):
                    rows = np.arange(start, min(start + len(noise), number))
                    # the noise is shuffled and its columns are rolled, so that no two rows are alike
                    piece = np.roll(noise, int(random.integers(WIDTH)), axis=1)
                    piece = piece[random.permutation(len(noise))[: len(rows)]] + centres[rows * CLASSES // number]
                    member.write(piece.data)
    return num_rows


def fit(path: Path, run: Path, steps: int, *, memory: str, seed: int = 0, limit: int | None = None) -> Measured:
    """Fit by the command, in a process whose memory may be limited."""
    options = ["--data", path, "--output", run, "--model", "factor_analysis", "--model.latent-dim", LATENT]
    options += ["--max-steps", steps, "--batch-size", BATCH_SIZE, "--learning-rate", 0.01, "--memory", memory]
    options += ["--num-samples", 10, "--seed", seed, "--patience", "null"]
    program = ["-c", LIMITED, KIND if limit else "", limit or 0]
    return measure_command([*program, "fit", *options], threads=2)


def last_row(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def read_evidence(run: Path) -> np.ndarray:
    """Return the exact evidence of the test data under the parameters of a fit."""
    return load(run).evidence(load_data(run).test, estimator="exact").log_evidence.numpy()
