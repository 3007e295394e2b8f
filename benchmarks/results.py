"""The measured rows of all benchmarks, in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

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


def keep(path: Path, rows: list[Row]) -> None:
    """Write rows to a file of them; what it has of the same works is replaced, the rows of other works are kept."""
    works = {row["work"] for row in rows}
    others = [row for row in json.loads(path.read_text()) if row["work"] not in works] if path.exists() else []
    whole = path.with_name(path.name + ".part")
    whole.write_text(json.dumps(others + rows, indent=2) + "\n")
    os.replace(whole, path)
