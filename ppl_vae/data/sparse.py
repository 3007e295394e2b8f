"""Sparse rows: an array of mostly zeros, which becomes dense row by row when a batch is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor


class SparseRows:
    """An array ``(N, D)`` of which only the numbers that are not zero are kept.

    It stands for a NumPy array wherever that is read: rows or columns are selected as usual and stay sparse, one row by
    itself is dense, and ``np.asarray`` makes all of it dense. Numbers in double precision are kept in single precision
    if all of them, such as counts, are exact there.

    Args:
        matrix: a sparse matrix or array of SciPy.

    Attributes:
        csr: the numbers row by row, in ascending order of their columns.

    Example:
        >>> counts = SparseRows(scipy.sparse.csr_array(np.array([[0, 3], [0, 0], [5, 0]])))
        >>> counts.shape, len(counts[1:]), counts[2].tolist(), np.asarray(counts[:2]).tolist()
        ((3, 2), 2, [5, 0], [[0, 3], [0, 0]])
    """

    ndim = 2

    def __init__(self, matrix: Any) -> None:
        csr = scipy.sparse.csr_array(matrix)
        if not csr.has_canonical_format:
            csr = csr.copy()  # the matrix of the caller stays as it is
            csr.sum_duplicates()
        if csr.dtype == np.float64 and (csr.data == (single := csr.data.astype(np.float32))).all():
            csr = scipy.sparse.csr_array((single, csr.indices, csr.indptr), shape=csr.shape)
        self.csr = csr

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and of columns."""
        return self.csr.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers."""
        return self.csr.dtype

    @property
    def size(self) -> int:
        """The number of numbers, zeros included."""
        return self.shape[0] * self.shape[1]

    @property
    def row_bytes(self) -> float:
        """The average number of bytes of a row."""
        return self.csr.nnz * (self.dtype.itemsize + self.csr.indices.itemsize) / max(1, len(self))

    @property
    def data(self) -> np.ndarray:
        """The numbers that are kept, row by row."""
        return self.csr.data

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, int | np.integer):
            return self.csr[[rows]].toarray()[0]
        if isinstance(rows, slice) and rows.indices(len(self)) == (0, len(self), 1):
            return self
        if isinstance(rows, tuple) and not (len(rows) == 2 and rows[0] == slice(None) and rows[1] is not None):
            return np.asarray(self)[rows]
        return SparseRows(self.csr[np.asarray(rows) if isinstance(rows, list) else rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        dense = self.csr.toarray()
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def place(self, number: int) -> tuple[int, int]:
        """Return the row and the column of one of the numbers that are kept, by its position in ``data``."""
        return int(np.searchsorted(self.csr.indptr, number, side="right")) - 1, int(self.csr.indices[number])

    def with_data(self, data: np.ndarray) -> SparseRows:
        """Return the same places with other numbers."""
        return SparseRows(scipy.sparse.csr_array((data, self.csr.indices, self.csr.indptr), shape=self.shape))


class SparseTensor:
    """Sparse rows on a device, whose rows are looked up as dense tensors.

    Args:
        rows: the rows.
        dtype: the type of the dense tensors.
        device: the device.

    Example:
        >>> counts = SparseTensor(SparseRows(scipy.sparse.eye_array(3)), torch.float32, "cpu")
        >>> counts.index_select(0, torch.tensor([2, 0])).tolist(), counts[1:2].tolist()
        ([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    """

    def __init__(self, rows: SparseRows, dtype: torch.dtype, device: str | torch.device) -> None:
        self.shape, csr = rows.shape, rows.csr
        self._values = torch.as_tensor(csr.data).to(device, dtype)
        self._columns = torch.as_tensor(csr.indices).to(device)
        self._starts = torch.as_tensor(csr.indptr.astype(np.int64)).to(device)

    @property
    def device(self) -> torch.device:
        """The device of the numbers."""
        return self._values.device

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Tensor:
        return self.index_select(0, torch.arange(*rows.indices(len(self)), device=self.device))

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Return rows as a dense tensor ``(B, D)``, which is new; ``dim`` is 0, as in ``Tensor.index_select``."""
        counts = self._starts[rows + 1] - self._starts[rows]
        ends = counts.cumsum(0)
        row = torch.repeat_interleave(counts)  # of every number: its row in the batch
        at = torch.arange(len(row), device=self.device) + (self._starts[rows] - ends + counts)[row]
        dense = self._values.new_zeros(len(rows), self.shape[1])
        return dense.index_put_((row, self._columns[at].long()), self._values[at])


def as_rows(given: Any) -> Any:
    """Return a sparse matrix or array of SciPy as sparse rows, and anything else as it is."""
    return SparseRows(given) if scipy.sparse.issparse(given) and given.ndim == 2 else given
