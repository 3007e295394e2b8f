"""Rows of the benchmarks: ratios of interleaved turns, and the files that keep them."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def row(work: str, peer: str, seconds: Sequence[tuple[float, float]], at_most: float | None = None) -> Row:
    """Return the row of a comparison from the seconds of neighbouring turns, ours and the peer's.

    The ratio is the median of the ratios of the pairs: if the machine is slow for a while, it slows both sides.
    """
    ours, theirs = zip(*seconds, strict=True)
    ratios = [a / b for a, b in seconds]
    fields = {
        "work": work,
        "ours_seconds": statistics.median(ours),
        "peer": peer,
        "peer_seconds": statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }
    return fields if at_most is None else fields | {"at_most": at_most}


def merged(old: Sequence[Row], new: Sequence[Row], titles: Sequence[str]) -> list[Row]:
    """Return the rows by instruction set and title, with old rows of tasks that were not run again."""
    run = {(row["work"], row["isa"]) for row in new}
    kept = [row for row in old if (row["work"], row["isa"]) not in run]
    rows = [row for row in [*kept, *new] if row["work"] in titles]
    return sorted(rows, key=lambda row: (row["isa"], titles.index(row["work"])))


def read(path: Path, default: Any) -> Any:
    """Return the content of a JSON file, or a default if there is no file."""
    return json.loads(path.read_text()) if path.exists() else default


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    write(path, json.dumps(content, indent=2) + "\n")


def write(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, path)


def keep(path: Path, rows: Sequence[Row], titles: Sequence[str]) -> None:
    """Merge rows into the file of results."""
    write_json(path, merged(read(path, []), rows, titles))


def note(path: Path, isa: str, key: str, measured: dict[str, Any], known: Collection[str]) -> None:
    """Put the other measurements of a task into their file, which has them by instruction set and task."""
    old = read(path, {})
    kept = {name: content for name, content in old.get(isa, {}).items() if name in known}
    write_json(path, old | {isa: kept | {key: measured}})
