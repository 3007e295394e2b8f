"""The rows of ``metrics.jsonl``, one for each validation, each with a checksum."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_vae.errors import InputError
from ppl_vae.runs.files import check_kinds, finite, naming_file, parse_json, read_text, write_whole

NAME = "metrics.jsonl"
CHECKSUM = "crc32"
KINDS: Mapping[str, tuple[type, ...]] = {
    "elbo_train": (float, type(None)),
    "elbo_valid": (float, type(None)),
    "learning_rate": (float, type(None)),
    "best_epoch": (int,),
    "step": (int,),
    "best_step": (int,),
    "train_seconds": (float, type(None)),
}
_REMEDY = "remove the broken line or fit the run anew"


def append_row(folder: Path, row: Mapping[str, Any]) -> None:
    """Append a row."""
    path = folder / NAME
    with naming_file(path), path.open("a") as file:
        file.write(_line(row))


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write all rows anew."""
    write_whole(folder / NAME, "".join(map(_line, rows)))


def read_rows(folder: Path, *, checked: bool = False) -> list[dict[str, Any]]:
    """Return the rows, without a last line that was cut short.

    Args:
        folder: the run folder.
        checked: if True, every row must have its checksum; those of earlier versions have none.

    Raises:
        InputError: a row is damaged, or the epochs do not count up.
    """
    path = folder / NAME
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path, "metrics", _REMEDY).split("\n")[:-1], 1):
        where = f"line {number} of {path}"
        row = parse_json(line, where, _REMEDY)
        given = row.pop(CHECKSUM, None)
        if given != _checksum(row) and (checked or given is not None):
            raise InputError(f"{where} is damaged, for its checksum is that of other numbers: {_REMEDY}")
        check_kinds(row, {"epoch": (int,)}, where, _REMEDY)
        check_kinds(row, KINDS, where, _REMEDY, complete=False)
        if order_of(row) <= (order_of(rows[-1]) if rows else (0, 0)):
            raise InputError(f"{where} is damaged, for epoch {row['epoch']} does not follow: {_REMEDY}")
        rows.append(row)
    return rows


def order_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return the epoch of a row, and its number of steps, by which several rows of an epoch are ordered."""
    return row["epoch"], row.get("step", 0)


def _line(row: Mapping[str, Any]) -> str:
    plain = finite(row)
    return json.dumps({**plain, CHECKSUM: _checksum(plain)}, allow_nan=False) + "\n"


def _checksum(row: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(row, sort_keys=True).encode())
