"""Matrices of an HDF5 file whose rows are read by slices: sparse rows as ``anndata`` writes them, and dense ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from ppl_vae.data.sliced import natural_rows
from ppl_vae.data.source import READ_BYTES
from ppl_vae.data.sparse import SparseRows


class SparseOnDisk:
    """An array ``(N, D)`` of mostly zeros in a group of an HDF5 file, of which a slice of rows is read as it is dense.

    The places where rows begin are held in memory, eight bytes a row; the numbers and their columns stay on disk.

    Args:
        group: the group, with the data sets ``data``, ``indices`` and ``indptr``.

    Example:
        >>> import h5py
        >>> file = h5py.File("own.h5", "w", driver="core", backing_store=False)
        >>> group = file.create_group("X")
        >>> group.attrs["shape"] = (3, 2)
        >>> group["data"], group["indices"], group["indptr"] = [3, 5], [1, 0], [0, 1, 1, 2]
        >>> matrix = SparseOnDisk(group)
        >>> matrix.shape, matrix[1:].tolist(), matrix.sparse(slice(0, 1)).data.tolist()
        ((3, 2), [[0, 0], [5, 0]], [3])
    """

    def __init__(self, group: Any) -> None:
        self._data, self._indices = group["data"], group["indices"]
        self._starts = np.asarray(group["indptr"][:], np.int64)
        self.shape: tuple[int, int] = (int(group.attrs["shape"][0]), int(group.attrs["shape"][1]))
        self.dtype = np.dtype(self._data.dtype)
        in_a_row = max(1.0, len(self._data) / max(1, self.shape[0]))
        self.chunks = (max(1, round(natural_rows(self._data) / in_a_row)), self.shape[1])
        """The number of rows whose numbers lie in one piece of the file, and that of columns."""

    def sparse(self, rows: slice) -> SparseRows:
        """Return a slice of rows as sparse rows."""
        start, stop, _ = rows.indices(self.shape[0])
        first, last = int(self._starts[start]), int(self._starts[max(start, stop)])
        parts = self._data[first:last], self._indices[first:last], self._starts[start : max(start, stop) + 1] - first
        return SparseRows(scipy.sparse.csr_array(parts, shape=(len(parts[2]) - 1, self.shape[1])))

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self.sparse(rows)).astype(self.dtype, copy=False)


class MatrixSummary(NamedTuple):
    """The numbers of a matrix in short."""

    low: np.ndarray
    """The smallest number of each column, ``(D,)``."""
    high: np.ndarray
    """The largest number of each column, ``(D,)``."""
    sums: np.ndarray
    """The sum of each row, ``(N,)``."""
    is_whole: bool
    """True if there are numbers, and all that are not missing are whole."""
    not_a_count: tuple[int, int, Any] | None
    """Row, column and value of the first number that is negative or not whole; None if all are counts."""


def summarise_matrix(matrix: Any) -> MatrixSummary:
    """Return a summary of a matrix in memory or on disk, which is read block by block.

    Args:
        matrix: sparse rows, an array ``(N, D)``, or what is read by slices of rows.

    Example:
        >>> summary = summarise_matrix(np.array([[1.0, 0.0], [2.5, 3.0]]))
        >>> summary.high.tolist(), summary.sums.tolist(), summary.is_whole, summary.not_a_count
        ([2.5, 3.0], [1.0, 5.5], False, (1, 0, np.float64(2.5)))
    """
    low, high, sums, whole, some, wrong = None, None, [], True, False, None
    for first, block in _blocks_of_rows(matrix):
        is_sparse = isinstance(block, SparseRows)
        rows, numbers = (block.csr, block.data) if is_sparse else (block, block)
        lows, highs = (end.toarray().ravel() if is_sparse else end for end in (rows.min(0), rows.max(0)))
        low = lows if low is None else np.minimum(low, lows)
        high = highs if high is None else np.maximum(high, highs)
        sums.append(np.asarray(rows.sum(1, dtype=np.float64)).ravel())
        uneven = numbers != np.round(numbers)
        known = uneven if numbers.dtype.kind != "f" else uneven & ~np.isnan(numbers)
        some, whole = some or bool(numbers.size), whole and not known.any()
        if wrong is None and (bad := (numbers < 0) | uneven).any():
            place = int(np.argmax(bad))
            row, column = block.place(place) if is_sparse else divmod(place, block.shape[1])
            wrong = (first + row, column, numbers.flat[place])
    assert low is not None
    assert high is not None
    return MatrixSummary(low, high, np.concatenate(sums), some and whole, wrong)


def _blocks_of_rows(matrix: Any) -> Iterator[tuple[int, Any]]:
    """Yield the number of the first row of each block, and the block, sparse if the matrix is."""
    if isinstance(matrix, SparseRows | np.ndarray):
        yield 0, matrix
        return
    natural = natural_rows(matrix)
    size = max(1, natural * matrix.shape[1] * matrix.dtype.itemsize)
    rows = natural * max(1, READ_BYTES // size)
    for start in range(0, matrix.shape[0], rows):
        at = slice(start, start + rows)
        yield start, matrix.sparse(at) if isinstance(matrix, SparseOnDisk) else np.asarray(matrix[at])
