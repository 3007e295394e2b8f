"""Sources side by side or one after the other, and the choice of some of their arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ppl_vae.data.sliced import SlicedArrays
from ppl_vae.data.source import (
    READ_BYTES,
    NamedArrays,
    Source,
    as_source,
    concatenate,
    ends_of_blocks,
    pieces_of,
    read_rows,
    takes_rows,
)
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.survey import ArraySurvey
from ppl_vae.data.transformed import choose_source


class Joined:
    """The arrays of several sources of equally many rows, side by side.

    A natural block is the largest of those of the sources on disk.

    Example:
        >>> joined = Joined([NamedArrays({"x": np.eye(3)}), NamedArrays({"y": np.arange(3)})])
        >>> joined.shapes, joined.read(slice(1, 3))["y"].tolist()
        ({'x': (3,), 'y': ()}, [1, 2])
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.num_rows = sources[0].num_rows
        self.shapes = {name: shape for source in sources for name, shape in source.shapes.items()}
        self.dtypes = {name: dtype for source in sources for name, dtype in source.dtypes.items()}
        self.columns = {name: columns for source in sources for name, columns in source.columns.items()}
        on_disk = [source for source in sources if not isinstance(source, NamedArrays)]
        largest = max(on_disk, key=lambda source: source.block_rows, default=None)
        self.block_rows = largest.block_rows if largest else max(1, self.num_rows)
        self.block_ends = ends_of_blocks(largest) if largest else None
        self.takes_rows = all(takes_rows(source) for source in on_disk)

    def choose(self, names: Iterable[str]) -> Source:
        """Return some of the arrays, from the sources that have them."""
        chosen = tuple(names)
        parts = [(source, [name for name in chosen if name in source.shapes]) for source in self.sources]
        joined = [choose_source(source, own) for source, own in parts if own]
        return joined[0] if len(joined) == 1 else Joined(joined)

    @property
    def identity(self) -> str | None:
        """A text that changes if a source changes; None if a source has none."""
        parts = [getattr(source, "identity", None) for source in self.sources]
        return None if None in parts else "\n".join(map(str, parts))

    def rows(self, at: np.ndarray) -> NamedArrays:
        """Return rows in ascending order."""
        blocks = [read_rows(source, at) for source in self.sources]
        return NamedArrays({name: array for block in blocks for name, array in block.items()}, self.columns)

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows."""
        blocks = [source.read(rows) for source in self.sources]
        return NamedArrays({name: array for block in blocks for name, array in block.items()}, self.columns)


class Stacked:
    """The rows of several sources of the same arrays, such as the parts of a data set, one source after the other.

    Example:
        >>> stacked = Stacked([NamedArrays({"x": np.arange(3)}), NamedArrays({"x": np.arange(5)})])
        >>> stacked.num_rows, stacked.read(slice(1, 6))["x"].tolist()
        (8, [1, 2, 0, 1, 2])
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.shapes, self.dtypes, self.columns = sources[0].shapes, sources[0].dtypes, sources[0].columns
        self.block_rows = max(source.block_rows for source in sources)
        self._ends = np.cumsum([source.num_rows for source in sources], dtype=np.int64)
        self.num_rows = int(self._ends[-1])

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows."""
        return concatenate(self, [self.sources[i].read(own) for i, own in pieces_of(self._ends, rows)])


class RowNumbers:
    """The numbers of rows as an array that takes no memory: 0, 1, ..., N - 1.

    Example:
        >>> RowNumbers(10)[7:]
        array([7, 8, 9])
    """

    dtype = np.dtype(np.int64)

    def __init__(self, num_rows: int) -> None:
        self.shape = (num_rows,)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.arange(*rows.indices(self.shape[0]))

    def take_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return rows."""
        return rows


def with_numbers(arrays: Mapping[str, Any], name: str) -> NamedArrays | StoredRows:
    """Return data with the number of each row beside them.

    Example:
        >>> with_numbers({"x": np.eye(2)}, "row")["row"]
        array([0, 1])
    """
    num_rows = as_source(arrays).num_rows
    if isinstance(arrays, StoredRows):
        numbered = StoredRows(Joined([arrays, SlicedArrays("rows", {name: RowNumbers(num_rows)})]))
        if arrays.surveyed is not None:  # the numbers need no pass of their own
            numbered.surveyed = {**arrays.surveyed, name: ArraySurvey(low=0, high=num_rows - 1)}
        return numbered
    return with_arrays(arrays, {name: np.arange(num_rows)})


def choose_arrays(arrays: Mapping[str, Any], names: Iterable[str]) -> NamedArrays | StoredRows:
    """Return some arrays of data; the others are not read if they lie apart in their files.

    Example:
        >>> list(choose_arrays({"x": np.eye(2), "y": np.arange(2)}, ["y"]))
        ['y']
    """
    if not isinstance(arrays, StoredRows):
        columns = {name: of for name, of in NamedArrays(arrays).columns.items() if name in names}
        return NamedArrays({name: arrays[name] for name in names}, columns)
    return arrays.choose(names)


def with_arrays(arrays: Mapping[str, Any], more: Mapping[str, np.ndarray]) -> NamedArrays | StoredRows:
    """Return data with further arrays in memory beside them, with one row for each datum.

    Example:
        >>> list(with_arrays({"x": np.eye(2)}, {"row": np.arange(2)}))
        ['x', 'row']
    """
    if isinstance(arrays, StoredRows):
        return StoredRows(Joined([arrays, NamedArrays(more)]))
    return NamedArrays({**arrays, **more}, NamedArrays(arrays).columns)


def is_equal(first: Any, second: Any) -> bool:
    """Return True if two arrays, each in memory or on disk, have the same shape and the same numbers.

    Example:
        >>> is_equal(np.arange(3), np.arange(3)), is_equal(np.arange(3), np.arange(4))
        (True, False)
    """
    if first.shape != second.shape:
        return False
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.array_equal(first, second)
    rows = max(1, READ_BYTES * len(first) // max(1, first.size * first.dtype.itemsize))
    return all(np.array_equal(first[at : at + rows], second[at : at + rows]) for at in range(0, len(first), rows))
