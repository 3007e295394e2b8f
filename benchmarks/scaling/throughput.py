"""Streamed training beside training in memory, and the reader alone beside ``torch.utils.data.DataLoader``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scaling.protocol import Row, Trial
from torch.utils.data import DataLoader, Dataset

from ppl_vae import VariationalInference
from ppl_vae.data import Batches, StreamedBatches, choose_batches, load_dataset, load_stored
from ppl_vae.models.vae import VAE
from ppl_vae.program import seeded

NUM_ROWS, WIDTH, HIDDEN, LATENT, BATCH_SIZE = 120_000, 784, 400, 20, 512
MEMORY, TURNS = "128MiB", 15
LEAST = {"npy": 0.9, "h5": 0.9, "parquet": 0.7}
"""The least share of the speed in memory, by the kind of file."""
AS_FAST = 3.0
"""The least speed of the reader alone, in that of a ``DataLoader`` with two workers."""


def throughput(trial: Trial) -> Iterator[Row]:
    """Measure in turns, so that a machine that is slow for a while slows both."""
    torch.set_num_threads(2)
    files = write_files(trial.folder, max(100_000, int(NUM_ROWS * trial.share)))
    streamed = {kind: open_streamed(path) for kind, path in files.items()}
    vi = prepare(files["npy"])
    whole = vi._prepared.train_batches
    assert type(whole) is Batches
    for kind, batches in streamed.items():
        ratios, seconds = compare(lambda: train(vi, whole), lambda batches=batches: train(vi, batches))
        yield Row(
            f"training from .{kind}, {WIDTH}-{HIDDEN}-{LATENT}, batch {BATCH_SIZE}, {len(whole)} steps",
            f"{ratios} of the speed in memory ({whole.num_data / seconds:,.0f} data a second)",
            f"{LEAST[kind]:g}",
            ratios.median >= LEAST[kind],
        )
    for kind, dataset in (("npy", Mapped(files["npy"])), ("h5", Stored(files["h5"]))):
        loader = DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=2)
        batches = streamed[kind]
        ratios, seconds = compare(lambda loader=loader: visit(loader), lambda b=batches: visit(b.shuffled(0)))
        ratios = Ratios([ratio * batches.num_data / len(dataset) for ratio in ratios])
        yield Row(
            f"reader alone from .{kind}, beside DataLoader with 2 workers",
            f"{ratios} times its speed",
            f"{AS_FAST:g}",
            ratios.median >= AS_FAST,
        )


class Ratios(list[float]):
    """Ratios of neighbouring turns."""

    @property
    def median(self) -> float:
        return statistics.median(self)

    def __str__(self) -> str:
        low, middle, high = statistics.quantiles(self, n=4)
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def compare(first: Callable[[], None], second: Callable[[], None]) -> tuple[Ratios, float]:
    """Return the speed of the second in that of the first, in turns, and the seconds of the second."""
    first(), second()
    ratios, seconds = Ratios(), []
    for turn in range(TURNS):
        taken = {}
        for run in (first, second) if turn % 2 else (second, first):
            started = time.perf_counter()
            run()
            taken[run] = time.perf_counter() - started
        ratios.append(taken[first] / taken[second])
        seconds.append(taken[second])
    return ratios, statistics.median(seconds)


def write_files(folder: Path, num_rows: int) -> dict[str, Path]:
    """Write the same bits as single-precision numbers into files of three formats."""
    random = np.random.default_rng(0)
    x = (random.random((num_rows, WIDTH), np.float32) < 0.2).astype(np.float32)
    files = {kind: folder / f"x.{kind}" for kind in LEAST}
    np.save(files["npy"], x)
    with h5py.File(files["h5"], "w") as file:
        file.create_dataset("x", data=x, chunks=(32, WIDTH))
    columns = {f"pixel{number}": np.ascontiguousarray(x[:, number]) for number in range(WIDTH)}
    pq.write_table(pa.table(columns), files["parquet"], row_group_size=2048)
    return files


def open_streamed(path: Path) -> StreamedBatches:
    load_stored.MOST_TABLE_IN_MEMORY = 0  # a table of this size would be read whole; this is to measure a larger one
    batches = choose_batches(load_dataset(path).train, ["x"], BATCH_SIZE, memory=MEMORY)
    assert isinstance(batches, StreamedBatches)
    print(f"{path.suffix}: {batches.describe()}", flush=True)
    return batches


def prepare(path: Path) -> VariationalInference:
    """Return a fit in memory, whose steps all contestants take."""
    with seeded(0):
        program = VAE(data_dim=WIDTH, latent_dim=LATENT, hidden=(HIDDEN,))
    vi = VariationalInference(program, batch_size=BATCH_SIZE, memory="8GiB", num_valid=512, patience=None)
    data = load_dataset(path)
    vi.prepare(data.train, data.valid)
    print(vi.compiles(), flush=True)
    return vi


def train(vi: VariationalInference, batches: Batches) -> None:
    """Take the steps of an epoch."""
    with vi.program_.running(seed=0, training=True):
        *_, last = vi.inference_.steps(batches.shuffled(0), vi.training_.optimizer, 1)
        last.elbo.item()


def visit(batches: Iterable[tuple[torch.Tensor, ...]]) -> None:
    for _ in batches:
        pass


class Mapped(Dataset[tuple[torch.Tensor]]):
    """The rows of a mapped file, as the documentation of PyTorch suggests for data on disk."""

    def __init__(self, path: Path) -> None:
        self.rows = np.load(path, mmap_mode="c")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[torch.Tensor]:
        return (torch.from_numpy(self.rows[row]),)


class Stored(Dataset[tuple[torch.Tensor]]):
    """The rows of a dataset of HDF5, which each worker opens for itself."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, None
        with h5py.File(path) as file:
            self.number = len(file["x"])

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, row: int) -> tuple[torch.Tensor]:
        if self.rows is None:
            self.rows = h5py.File(self.path)["x"]
        return (torch.from_numpy(self.rows[row]),)
