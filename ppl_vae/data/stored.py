"""Some rows of a source, such as a part of a data set: an index of ranges, which copies nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ppl_vae.data.kinds import Variable
from ppl_vae.data.source import NamedArrays, Source, block_slices, ends_of_blocks, read_rows, takes_rows
from ppl_vae.data.transformed import choose_source


class StoredRows(Mapping[str, Any]):
    """Rows of a source that are read when they are asked for: a source itself, and a mapping to arrays on disk.

    A part of a data set that does not fit in memory is such an object, and one that does is ``NamedArrays``. Both have
    the attributes of a ``Source``. An array of either is asked for by its name: it has a length, a shape and a type,
    and slices or rows of it are NumPy arrays.

    Args:
        source: the source.
        ranges: first row and end of each range, int64 of shape ``(R, 2)``, in the order of the rows; by default all.

    Attributes:
        surveyed: what a pass over the rows has found, see ``survey``; None before it.

    Example:
        >>> source = NamedArrays({"x": np.arange(20).reshape(10, 2)})
        >>> rows = StoredRows(source, np.array([[0, 2], [7, 9]]))
        >>> len(rows["x"]), rows["x"].shape, rows["x"][1:3].tolist()
        (4, (4, 2), [[2, 3], [14, 15]])
        >>> rows.rows(np.array([3, 0]))["x"].tolist()
        [[16, 17], [0, 1]]
    """

    def __init__(self, source: Source, ranges: np.ndarray | None = None) -> None:
        if ranges is None:
            ranges = np.array([[0, source.num_rows]])
        self.source = source
        self.ranges = np.asarray(ranges, np.int64).reshape(-1, 2)
        self._ends = np.cumsum(self.ranges[:, 1] - self.ranges[:, 0])
        self.surveyed: Any = None

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of a datum by the name of its array."""
        return self.source.shapes

    @property
    def dtypes(self) -> Mapping[str, np.dtype]:
        """The type of the numbers of each array by its name."""
        return self.source.dtypes

    @property
    def columns(self) -> Mapping[str, tuple[Variable, ...]]:
        """The columns of each array that was made of a table."""
        return self.source.columns

    @property
    def block_rows(self) -> int:
        """The natural number of rows of a read, that of the source."""
        return self.source.block_rows

    @property
    def takes_rows(self) -> bool:
        """True if any rows cost their own bytes only."""
        return takes_rows(self.source)

    @property
    def block_ends(self) -> np.ndarray | None:
        """The ends of the blocks of the source, as numbers of these rows; None if it has none, or in another order."""
        ends = ends_of_blocks(self.source)
        if ends is None or len(self.ranges) == 0 or (self.ranges[1:, 0] < self.ranges[:-1, 1]).any():
            return None
        which = np.searchsorted(self.ranges[:, 1], ends, side="right")  # the first range that is not wholly before
        before = np.append(0, self._ends)[which]
        begun = np.append(self.ranges[:, 0], np.iinfo(np.int64).max)[which]
        own = np.unique(np.append(before + np.maximum(0, ends - begun), self.num_rows))
        return own[own > 0]

    @property
    def identity(self) -> str | None:
        """A text that changes if a file is written anew or the rows are others; None if that is not known."""
        before = getattr(self.source, "identity", None)
        return before and f"{hashlib.sha256(self.ranges.tobytes()).hexdigest()}\n{before}"

    def locate(self, rows: np.ndarray) -> np.ndarray:
        """Return the numbers in the source of some rows."""
        rows = np.asarray(rows, np.int64)
        which = np.searchsorted(self._ends, rows, side="right")
        return self.ranges[which, 1] - (self._ends[which] - rows)

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows; it costs the blocks of the source that it lies in."""
        start, stop, _ = rows.indices(self.num_rows)
        if stop <= start:
            return self.source.read(slice(0, 0))
        first, last = self.locate(np.array([start, stop - 1]))
        if last - first == stop - 1 - start and np.searchsorted(self._ends, start, side="right") == np.searchsorted(
            self._ends, stop - 1, side="right"
        ):
            return self.source.read(slice(int(first), int(last) + 1))
        return read_rows(self.source, self.locate(np.arange(start, stop)))

    def rows(self, at: Any) -> NamedArrays:
        """Return some rows, in any order; negative numbers count from the end, and a mask chooses."""
        at = np.asarray(at)
        at = np.flatnonzero(at) if at.dtype == bool else np.where(at < 0, at + self.num_rows, at)
        if len(at) and not 0 <= at.min() <= at.max() < self.num_rows:
            raise IndexError(f"rows {at.min()} to {at.max()} of {self.num_rows}")
        return read_rows(self.source, self.locate(at))

    def part(self, start: int, stop: int) -> StoredRows:
        """Return the rows from one to before another, as an index: nothing is read."""
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        ranges = self.ranges[first : last + 1].copy()
        if len(ranges):
            ranges[-1, 1] -= self._ends[last] - stop
            ranges[0, 0] = self.locate(np.array([start]))[0]
        return StoredRows(self.source, ranges)

    def choose(self, names: Iterable[str]) -> StoredRows:
        """Return the rows with some of the arrays."""
        chosen = tuple(names)
        return self if chosen == tuple(self) else StoredRows(choose_source(self.source, chosen), self.ranges)

    def __getitem__(self, name: str) -> StoredArray:
        if name not in self.source.shapes:
            raise KeyError(name)
        return StoredArray(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.source.shapes)

    def __len__(self) -> int:
        return len(self.source.shapes)


class StoredArray:
    """An array of a source that is read when its rows are asked for.

    ``array[3:9]``, ``array[[5, 1]]`` and ``array[0]`` are NumPy arrays. ``numpy.asarray(array)`` reads all of it.
    """

    def __init__(self, source: StoredRows, name: str) -> None:
        self._source, self._name = source, name
        self.shape: tuple[int, ...] = (source.num_rows, *source.shapes[name])
        self.dtype = source.dtypes[name]
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, tuple):
            return self[at[0]][(slice(None), *at[1:])] if isinstance(at[0], slice) else self[at[0]][at[1:]]
        if isinstance(at, slice) and at.step in (None, 1):
            start, stop, _ = at.indices(len(self))
            return self._read(start, max(start, stop))
        if isinstance(at, slice):
            at = np.arange(*at.indices(len(self)))
        if isinstance(at, int | np.integer):
            return self._source.rows([at])[self._name][0]
        return self._source.rows(at)[self._name]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows in their order, block by block."""
        for rows in block_slices(self._source):
            yield self._source.read(rows)[self._name]

    def _read(self, start: int, stop: int) -> np.ndarray:
        """Return a slice; the arrays beside this one are never in memory for all of a long slice."""
        blocks = [slice(start + b.start, min(start + b.stop, stop)) for b in block_slices(self._source, stop - start)]
        if len(blocks) == 1:
            return self._source.read(blocks[0])[self._name]
        read = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for block in blocks:
            read[block.start - start : block.stop - start] = self._source.read(block)[self._name]
        return read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def in_memory(arrays: NamedArrays | StoredRows) -> NamedArrays:
    """Return all rows of data in memory."""
    return NamedArrays(arrays.read(slice(None)), arrays.columns) if isinstance(arrays, StoredRows) else arrays
