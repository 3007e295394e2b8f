"""One pass over the rows of a source on disk: what the checks and the fingerprint need to know of them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ppl_vae.data.source import block_slices, row_bytes
from ppl_vae.data.stored import StoredRows

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

BAR_BYTES = 2**30
"""The size of data from which on a bar shows the progress."""
KEPT_SECONDS = 1.0
"""A pass that took less is not kept."""


@dataclass
class ArraySurvey:
    """The results of a pass over an array.

    Attributes:
        digest: the SHA-256 digest of type, shape and numbers, that of ``ppl_vae.runs.tables.digest_array``.
        low, high: the smallest and the largest finite number, and a row of each; NaN if there is none.
        nan, infinite: the number of rows with NaN, or with an infinite number, and the first such row.
        missing: the number of numbers that are NaN.
        lows, highs: the smallest and the largest finite number of each column of a table.
        fractions: for each column of a table, True if a number is not whole.
    """

    digest: str = ""
    low: float = np.nan
    high: float = np.nan
    low_row: int = 0
    high_row: int = 0
    nan: int = 0
    nan_row: int = 0
    infinite: int = 0
    infinite_row: int = 0
    missing: int = 0
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    fractions: list[bool] = field(default_factory=list)

    def add(self, values: np.ndarray, first: int, *, by_column: bool) -> None:
        """Add a block of rows, whose first has this number."""
        rows = values.reshape(len(values), -1)
        bits = rows.view(np.uint8) if rows.dtype.kind == "b" else rows
        finite, fill = None, {}
        low, high = bits.min(initial=_top(bits.dtype)), bits.max(initial=_bottom(bits.dtype))
        if rows.dtype.kind == "f" and bits.size and not np.isfinite(low + high):  # NaN is the least and the largest
            for name, wrong in (("nan", np.isnan(rows)), ("infinite", np.isinf(rows))):
                of_rows = wrong.any(1)
                if of_rows.any():
                    if not getattr(self, name):
                        setattr(self, f"{name}_row", first + int(np.argmax(of_rows)))
                    setattr(self, name, getattr(self, name) + int(of_rows.sum()))
            finite = np.isfinite(rows)
            self.missing += int(np.isnan(rows).sum())
            fill = {"where": finite}
            low = bits.min(initial=_top(bits.dtype), **fill)
            high = bits.max(initial=_bottom(bits.dtype), **fill)
        if not low > high:
            if not float(low) >= self.low:
                self.low, self.low_row = float(low), first + int(np.argmax((bits == low).any(1)))
            if not float(high) <= self.high:
                self.high, self.high_row = float(high), first + int(np.argmax((bits == high).any(1)))
        if by_column:
            lows = bits.min(0, initial=_top(bits.dtype), **fill).astype(float).tolist()
            highs = bits.max(0, initial=_bottom(bits.dtype), **fill).astype(float).tolist()
            uneven = ((bits != np.round(bits)) & (finite if finite is not None else True)).any(0).tolist()
            self.lows = np.minimum(self.lows or lows, lows).tolist()
            self.highs = np.maximum(self.highs or highs, highs).tolist()
            self.fractions = np.logical_or(self.fractions or uneven, uneven).tolist()


def survey(name: str, rows: StoredRows) -> Mapping[str, ArraySurvey]:
    """Return what a pass over the rows of a part finds; it is made once, and kept for files that stay as they are.

    Rows are read block by block. A pass that took a while is written to ``~/.cache/ppl_vae/surveys``, under a digest
    of the paths, sizes and times of the files, of the rows, and of how they are changed. If these are the same the next
    time, the rows are not read again. Of several processes that begin at once, such as those that train together, one
    makes the pass, and the others wait for it.

    Args:
        name: name of the data, for the bar that shows the progress of a long pass.
        rows: the rows.
    """
    if rows.surveyed is None:
        path = _path(rows)
        with nullcontext() if path is None else _one_at_a_time(path):
            started, known = time.time(), None if path is None else _read(path, rows)
            rows.surveyed = known or _pass(name, rows)
            if path is not None and known is None and time.time() - started > KEPT_SECONDS:
                _write(path, rows.surveyed)
    return rows.surveyed


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Let one process at a time into the block, if the system has locks and a place for them."""
    lock, descriptor = path.with_suffix(".lock"), None
    with suppress(OSError):  # else each process makes the pass
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                lock.unlink()  # one that waits for it still has it, and then reads what was kept
            os.close(descriptor)


def _pass(name: str, rows: StoredRows) -> dict[str, ArraySurvey]:
    surveys = {array: ArraySurvey() for array in rows}
    hashed = {array: hashlib.sha256(f"{rows[array].dtype.str} {rows[array].shape} ".encode()) for array in rows}
    size = row_bytes(rows)
    quiet = True if size * rows.num_rows < BAR_BYTES else None  # None shows no bar unless there is a terminal
    with tqdm(
        total=size * rows.num_rows, unit="B", unit_scale=True, desc=f"checking {name}", leave=False, disable=quiet
    ) as bar:
        for at in block_slices(rows):
            for array, values in rows.read(at).items():
                whole = np.ascontiguousarray(values)
                hashed[array].update(whole.reshape(-1).view(np.uint8).data)
                surveys[array].add(whole, at.start, by_column=bool(rows.columns.get(array)))
            bar.update(size * (at.stop - at.start))
    for array, digest in hashed.items():
        surveys[array].digest = digest.hexdigest()
    return surveys


def _path(rows: StoredRows) -> Path | None:
    """Return the path under which a pass over these rows is kept; None if it cannot be known that they stay."""
    identity = rows.identity
    if identity is None:
        return None
    digest = hashlib.sha256(f"2 {identity}".encode()).hexdigest()
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return root / "ppl_vae" / "surveys" / f"{digest}.json"


def _read(path: Path, rows: StoredRows) -> dict[str, ArraySurvey] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        surveys = {name: ArraySurvey(**values) for name, values in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return surveys if list(surveys) == list(rows) else None


def _write(path: Path, surveys: Mapping[str, ArraySurvey]) -> None:
    content = json.dumps({name: asdict(values) for name, values in surveys.items()})
    with suppress(OSError):  # without a place for it, the next run makes the pass again
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.with_suffix(f".{os.getpid()}")
        hidden.write_text(content, encoding="utf-8")
        os.replace(hidden, path)


def _top(dtype: np.dtype) -> Any:
    return dtype.type(np.inf) if dtype.kind == "f" else np.iinfo(dtype).max


def _bottom(dtype: np.dtype) -> Any:
    return dtype.type(-np.inf) if dtype.kind == "f" else np.iinfo(dtype).min
