"""A source made of arrays that are read by slices: of NumPy, h5py, zarr, or a file that is read in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ppl_vae.data.kinds import Variable
from ppl_vae.data.precision import check_numeric_type, to_native
from ppl_vae.data.source import BLOCK_BYTES, NamedArrays, stamp
from ppl_vae.errors import InputError, reason


class Sliceable(Protocol):
    """An array whose rows are read by slices, such as ``numpy.memmap``, ``h5py.Dataset`` and ``zarr.Array``."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102
    def __getitem__(self, rows: slice) -> Any: ...


@runtime_checkable
class Takeable(Protocol):
    """An array whose rows cost their own bytes only."""

    def take_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return rows in ascending order."""


class SlicedArrays:
    """A source of arrays that are read by slices.

    Args:
        where: name of the data, for messages.
        arrays: arrays of shape ``(N, ...)`` by name.
        paths: files that the arrays are in, by which it is known that they have not changed.
        columns: the columns of arrays that are tables, by the name of the array.

    Raises:
        InputError: an array is not numeric, or arrays differ in length.

    Example:
        >>> source = SlicedArrays("toy", {"x": np.zeros((5, 2), ">f8"), "y": np.arange(5)})
        >>> source.num_rows, source.dtypes["x"].name, source.read(slice(3, 9))["y"].tolist()
        (5, 'float64', [3, 4])
    """

    def __init__(
        self,
        where: str,
        arrays: Mapping[str, Sliceable],
        paths: Iterable[Path] = (),
        columns: Mapping[str, tuple[Variable, ...]] | None = None,
    ) -> None:
        self.where, self.arrays, self.paths = where, dict(arrays), tuple(paths)
        for name, array in self.arrays.items():
            check_numeric_type(f"{where}: array '{name}'", np.dtype(array.dtype))
            if len(array.shape) == 0:
                raise InputError(f"{where}: array '{name}' is a single number: expected one row a datum")
        counts = {name: array.shape[0] for name, array in self.arrays.items()}
        if len(set(counts.values())) != 1:
            listed = ", ".join(f"'{name}' {count}" for name, count in counts.items())
            raise InputError(
                f"{where}: arrays differ in their number of rows ({listed}): every array needs one a datum"
            )
        self.num_rows = next(iter(counts.values()))
        self.shapes = {name: tuple(array.shape[1:]) for name, array in self.arrays.items()}
        self.dtypes = {n: to_native(n, np.empty(0, array.dtype)).dtype for n, array in self.arrays.items()}
        self.columns = {name: of_array for name, of_array in (columns or {}).items() if name in self.arrays}
        self.block_rows = max(natural_rows(array) for array in self.arrays.values())
        self.takes_rows = all(isinstance(array, Takeable) for array in self.arrays.values())

    @property
    def block_ends(self) -> np.ndarray | None:
        """The ends of the chunks; None if no array has chunks."""
        if not any(getattr(array, "chunks", None) for array in self.arrays.values()):
            return None
        return np.minimum(np.arange(1, -(-self.num_rows // self.block_rows) + 1) * self.block_rows, self.num_rows)

    @property
    def identity(self) -> str | None:
        """A text that changes if a file is written anew; None if the arrays are in no known file."""
        return f"{sorted(self.arrays)} {stamp(self.paths)}" if self.paths else None

    def choose(self, names: Iterable[str]) -> SlicedArrays:
        """Return some of the arrays; the others are not read."""
        return SlicedArrays(self.where, {name: self.arrays[name] for name in names}, self.paths, self.columns)

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows."""
        start, stop, _ = rows.indices(self.num_rows)
        read = {}
        for name, array in self.arrays.items():
            where = f"{self.where}: array '{name}'"
            try:
                values = np.asarray(array[start:stop])
            except (InputError, MemoryError):
                raise
            except Exception as error:  # h5py, zarr and their codecs raise a dozen types for a broken file
                raise InputError(f"{where} cannot be read in rows {start} to {stop - 1} ({reason(error)})") from error
            if values.shape != (max(0, stop - start), *self.shapes[name]):
                raise InputError(f"{where} has changed since it was opened: it has shape {values.shape} for its slice")
            read[name] = to_native(where, values, start)
        return NamedArrays(read, self.columns)

    def rows(self, at: np.ndarray) -> NamedArrays:
        """Return rows in ascending order, if all arrays can be read so."""
        return NamedArrays(
            {
                name: to_native(f"{self.where}: array '{name}'", array.take_rows(at), int(at[0]) if len(at) else 0)
                for name, array in self.arrays.items()
                if isinstance(array, Takeable)
            }
        )


def natural_rows(array: Sliceable) -> int:
    """Return the natural number of rows of a read of an array: a chunk, or 64 KiB if it has none.

    Example:
        >>> natural_rows(np.zeros((5, 1024)))
        8
    """
    chunks = getattr(array, "chunks", None)
    if chunks:
        return max(1, int(chunks[0]))
    return max(1, BLOCK_BYTES // max(1, math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize))
