"""A source of data: where rows come from, be it arrays in memory or a file that is read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ppl_vae.data.kinds import Variable

BLOCK_BYTES = 2**16
"""The size of a block of a source whose rows cost the same one by one or together."""


MOST_IN_MEMORY = 2**28
"""The size of arrays in bytes up to which they are read into memory."""
SPAN_BYTES, DENSE = 2**22, 1 / 8
"""The size of a read of rows that lie closer together than this share, of which the others are thrown away."""
READ_BYTES = 2**24
"""The size of a read when all rows of a source are read one after the other."""


@runtime_checkable
class Source(Protocol):
    """Rows of named arrays that are read when they are asked for; it never has to hold all of them.

    Arrays in memory are one source among others, ``NamedArrays``. A source may be read from several threads at once.

    Attributes:
        num_rows: the number of rows, ``N``.
        shapes: the shape of a datum by the name of its array.
        dtypes: the type of the numbers of each array by its name, one that ``to_native`` keeps.
        columns: the columns of each array that was made of a table.
        block_rows: the natural number of rows of a read. Reads from a multiple of it to the next cost least: blocks are
            the row groups of a Parquet file and the chunks of HDF5 and zarr, a part of which costs as much as the
            whole. A row of a memory map costs its own bytes only, so that any block is good there.

    A source whose blocks cost as much in part as whole may have ``block_ends``, the end of each of them, ``(K,)``. One
    whose rows cost their own bytes only may have ``takes_rows``, which is true, and ``rows(at)``, which returns rows in
    ascending order.
    """

    @property
    def num_rows(self) -> int: ...  # noqa: D102
    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...  # noqa: D102
    @property
    def dtypes(self) -> Mapping[str, np.dtype]: ...  # noqa: D102
    @property
    def columns(self) -> Mapping[str, tuple[Variable, ...]]: ...  # noqa: D102
    @property
    def block_rows(self) -> int: ...  # noqa: D102

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows as arrays ``(B, ...)`` in memory, which may be views that are not written to.

        Args:
            rows: a slice with step one; what lies outside the source is left out, as in Python.

        Raises:
            InputError: a file has changed, or is broken.
        """


class NamedArrays(dict[str, np.ndarray]):
    """Arrays by name, with the columns of those that were made of a table: the source of data in memory.

    Args:
        arrays: arrays of shape ``(N, ...)`` by name.
        columns: the columns of an array ``(N, D)``, or the one of an array ``(N,)``, by the name of the array.

    Example:
        >>> arrays = NamedArrays({"x": np.eye(2)}, {"x": (Variable("a", "real"), Variable("b", "real"))})
        >>> [column.name for column in arrays.rows(np.array([0])).columns["x"]]
        ['a', 'b']
        >>> arrays.num_rows, arrays.shapes, arrays.read(slice(1, 9))["x"].tolist()
        (2, {'x': (2,)}, [[0.0, 1.0]])
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], columns: Mapping[str, tuple[Variable, ...]] | None = None
    ) -> None:
        super().__init__(arrays)
        self.columns = dict(columns if columns is not None else getattr(arrays, "columns", {}))

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.values()), ()))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of a datum by the name of its array."""
        return {name: array.shape[1:] for name, array in self.items()}

    @property
    def dtypes(self) -> dict[str, np.dtype]:
        """The type of the numbers of each array by its name."""
        return {name: array.dtype for name, array in self.items()}

    @property
    def block_rows(self) -> int:
        """The number of rows, for they are all there."""
        return max(1, self.num_rows)

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows, as views."""
        return self.rows(rows)

    def rows(self, at: Any) -> NamedArrays:
        """Return some rows of every array, in any order."""
        return NamedArrays({name: array[at] for name, array in self.items()}, self.columns)


def as_source(arrays: Mapping[str, Any] | Source) -> Source:
    """Return named arrays as a source; a source stays as it is."""
    return arrays if isinstance(arrays, Source) else NamedArrays(arrays)


def concatenate(source: Source, blocks: Sequence[NamedArrays]) -> NamedArrays:
    """Return blocks of a source as one, with all its arrays even if there is no block."""
    if len(blocks) == 1:
        return NamedArrays(blocks[0], source.columns)
    empty = {name: np.empty((0, *source.shapes[name]), dtype) for name, dtype in source.dtypes.items()}
    return NamedArrays(
        {name: np.concatenate([block[name] for block in blocks] or [empty[name]]) for name in empty}, source.columns
    )


def ends_of_blocks(source: Source) -> np.ndarray | None:
    """Return the ends of the blocks of which a part costs as much as the whole; None if there are no such blocks."""
    return getattr(source, "block_ends", None)


def takes_rows(source: Source) -> bool:
    """Return true if any rows of a source cost their own bytes only, and are read by its function ``rows``."""
    return getattr(source, "takes_rows", False)


def pieces_of(ends: np.ndarray, rows: slice) -> Iterator[tuple[int, slice]]:
    """Yield the number of each piece of a source that some rows lie in, and which of its own rows they are.

    Args:
        ends: the number of rows up to the end of each piece, such as a file or a row group.
        rows: a slice with step one.

    Example:
        >>> list(pieces_of(np.array([3, 5, 9]), slice(2, 7)))
        [(0, slice(2, 3, None)), (1, slice(0, 2, None)), (2, slice(0, 2, None))]
    """
    at, stop, _ = rows.indices(int(ends[-1]) if len(ends) else 0)
    while at < stop:
        piece = int(np.searchsorted(ends, at, side="right"))
        first, end = (int(ends[piece - 1]) if piece else 0), min(stop, int(ends[piece]))
        yield piece, slice(at - first, end - first)
        at = end


def stamp(paths: Sequence[Path]) -> str:
    """Return the paths, sizes and times of files as a text, which changes if a file is written anew.

    A folder, such as a zarr store, is all its files.
    """
    lines = []
    for path in paths:
        for part in sorted(path.rglob("*")) if path.is_dir() else [path]:
            status = part.stat()
            if not part.is_dir():
                lines.append(f"{part.resolve()} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(lines)


def row_bytes(source: Source) -> int:
    """Return the number of bytes of a row.

    Example:
        >>> row_bytes(NamedArrays({"x": np.ones((2, 3)), "y": np.ones(2, np.uint8)}))
        25
    """
    return sum(int(np.prod(source.shapes[name])) * dtype.itemsize for name, dtype in source.dtypes.items())


def block_slices(source: Source, num_rows: int | None = None, *, most_bytes: int = READ_BYTES) -> Iterator[slice]:
    """Yield the rows of a source in their order, as slices that each cost one read of bounded size.

    Arrays in memory are a single block.

    Args:
        source: the source.
        num_rows: the number of rows from the first; by default all.
        most_bytes: the largest size of a block; a single row may be larger.

    Example:
        >>> list(block_slices(NamedArrays({"x": np.ones((4, 3))})))
        [slice(0, 4, None)]
    """
    size, natural = row_bytes(source), max(1, source.block_rows)
    if isinstance(source, NamedArrays):
        rows = natural
    elif natural * size > most_bytes:
        rows = max(1, most_bytes // max(1, size))
    else:
        rows = natural * max(1, most_bytes // max(1, natural * size))
    end = source.num_rows if num_rows is None else num_rows
    for start in range(0, end, rows):
        yield slice(start, min(start + rows, end))


def read_rows(source: Source, rows: np.ndarray) -> NamedArrays:
    """Return any rows of a source, in the order that is asked for, as arrays that the caller may write to.

    Rows of one natural block are read at once, and rows that lie close together in longer reads, so that rows in
    ascending order cost least.

    Args:
        source: the source.
        rows: the numbers of the rows, ``(B,)``, from 0 to ``N - 1``.

    Example:
        >>> read_rows(NamedArrays({"y": np.arange(9)}), np.array([7, 1, 7]))["y"].tolist()
        [7, 1, 7]
    """
    rows = np.asarray(rows, np.int64)
    if isinstance(source, NamedArrays):
        return source.rows(rows)
    ascending = rows if (rows[1:] >= rows[:-1]).all() else np.sort(rows)
    read = _read_ascending(source, ascending)
    if ascending is not rows:
        place = np.empty(len(rows), np.int64)
        place[np.argsort(rows, kind="stable")] = np.arange(len(rows))
        read = {name: array[place] for name, array in read.items()}
    return NamedArrays(read, source.columns)


def _read_ascending(source: Source, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return rows in ascending order, by themselves if the source can, or from reads of the blocks that they lie in."""
    if takes_rows(source):
        return dict(source.rows(rows))  # type: ignore[attr-defined]
    read = {name: np.empty((len(rows), *source.shapes[name]), dtype) for name, dtype in source.dtypes.items()}
    unit = max(1, source.block_rows)
    if len(rows) > DENSE * (rows[-1] - rows[0] + 1 if len(rows) else 0):
        unit *= max(1, SPAN_BYTES // max(1, unit * row_bytes(source)))  # few long reads
    cuts = np.flatnonzero(np.diff(rows // unit)) + 1
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        part = rows[start:stop]
        if len(part) == 0:
            break
        block = source.read(slice(int(part[0]), int(part[-1]) + 1))
        is_whole = len(part) == part[-1] - part[0] + 1 and (np.diff(part) == 1).all()
        for name, target in read.items():
            if is_whole:
                target[start:stop] = block[name]
            else:
                np.take(block[name], part - part[0], axis=0, out=target[start:stop], mode="clip")
    return read
