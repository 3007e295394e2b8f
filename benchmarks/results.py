"""What the benchmarks share: the data, turns with a peer, and the measured rows of all of them in one file."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyro
import torch

from ppl_vae.data import load_dataset

Row = dict[str, Any]
T = TypeVar("T")


def interleaved(
    mine: Callable[[int], T], peers: Mapping[str, Callable[[int], T]], repetitions: int
) -> dict[str, list[tuple[T, T]]]:
    """Runs of this project and of each peer as neighbours, taking turns at who is first: pairs by peer."""
    for run in (mine, *peers.values()):  # warm up
        run(0)
    pairs: dict[str, list[tuple[T, T]]] = {name: [] for name in peers}
    for repetition in range(1, repetitions + 1):
        for name, peer in peers.items():
            if repetition % 2:
                own, other = mine(repetition), peer(repetition)
            else:
                other, own = peer(repetition), mine(repetition)
            pairs[name].append((own, other))
    return pairs


def mnist_or_bits(data_root: str | None) -> np.ndarray:
    """MNIST's training images from a folder, or random bits of its size."""
    if data_root:
        return load_dataset("mnist", data_root=data_root).train["x"]
    return np.random.default_rng(0).integers(0, 2, size=(50_000, 784)).astype("float32")


def machine(repetitions: int, what: str, data_root: str | None) -> str:
    """What was measured on what."""
    return (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"pyro {pyro.__version__}; {repetitions} repetitions of {what}, "
        f"{'MNIST' if data_root else 'random bits of its size'}\n"
    )


def ratio(work: str, peer: str, seconds: Sequence[tuple[float, float]]) -> Row:
    """A row of pairs of seconds, ours and the peer's."""
    own, theirs = zip(*seconds, strict=True)
    ratios = [a / b for a, b in seconds]
    return {
        "work": work,
        "ours_seconds": statistics.median(own),
        "peer": peer,
        "peer_seconds": statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def cells(row: Row) -> str:
    """A row of a table in Markdown."""
    low, high = row["ratio_range"]
    return (
        f"| {row['peer']} | {1e3 * row['ours_seconds']:.2f} | {1e3 * row['peer_seconds']:.2f} | {row['ratio']:.2f} "
        f"| {low:.2f} to {high:.2f} |"
    )


def keep(path: Path, rows: list[Row]) -> None:
    """Write rows to a file of them; what it has of the same works is replaced, the rows of other works are kept."""
    works = {row["work"] for row in rows}
    others = [row for row in json.loads(path.read_text()) if row["work"] not in works] if path.exists() else []
    whole = path.with_name(path.name + ".part")
    whole.write_text(json.dumps(others + rows, indent=2) + "\n")
    os.replace(whole, path)
