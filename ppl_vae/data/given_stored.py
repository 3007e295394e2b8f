"""Data on disk in the forms in which people have them in Python: memory maps, h5py, zarr, PyArrow, PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset as TorchDataset

from ppl_vae.data.joined import Joined
from ppl_vae.data.parquet_file import open_parquet
from ppl_vae.data.sliced import SlicedArrays
from ppl_vae.data.source import MOST_IN_MEMORY, NamedArrays, Source, row_bytes
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.table import TableOptions
from ppl_vae.data.torch_rows import TorchRows
from ppl_vae.errors import InputError


def store_rows(where: str, given: Any, arguments: Sequence[str], to_array: Callable[[str, Any], np.ndarray]) -> Any:
    """Return all arrays of a call, as rows on disk if they are large, and otherwise in a form for ``as_named``.

    Args:
        where: name of the call, for messages.
        given: a data set of PyTorch or of PyArrow; anything else is returned as it is.
        arguments: names of the model's arguments.
        to_array: a function from a name and an object to a NumPy array.

    Raises:
        InputError: a data set is empty, or its files differ.
    """
    source: Source
    if isinstance(given, TorchDataset):
        source = TorchRows(where, given, arguments, to_array)
        return StoredRows(source) if _is_large(source) else given
    if type(given).__module__ == "pyarrow._dataset":
        files = [Path(name) for name in getattr(given, "files", ())]
        if not files or getattr(given.format, "default_extname", "") != "parquet" or not files[0].is_file():
            return given.to_table()
        source = open_parquet(files, TableOptions(), arguments)
        return StoredRows(source) if _is_large(source) else NamedArrays(source.read(slice(None)), source.columns)
    return given


def store_arrays(where: str, named: Mapping[str, Any], to_array: Callable[[str, Any], np.ndarray]) -> StoredRows | None:
    """Return arrays by name as rows on disk if some of them are on disk and large; None if they fit in memory.

    Memory maps of NumPy, data sets of h5py and arrays of zarr are on disk. Arrays beside them stay in memory.

    Args:
        where: name of the call, for messages.
        named: the arrays by name.
        to_array: a function from a name and an object to a NumPy array.

    Raises:
        InputError: an array is not numeric, or arrays differ in length.
    """
    on_disk = {name: array for name, array in named.items() if is_on_disk(array)}
    if not on_disk or sum(array.size * np.dtype(array.dtype).itemsize for array in on_disk.values()) <= MOST_IN_MEMORY:
        return None
    held = {name: to_array(f"{where}: array {name!r}", array) for name, array in named.items() if name not in on_disk}
    source: Source = SlicedArrays(where, on_disk)
    if held:
        for name, array in held.items():
            if array.ndim == 0 or len(array) != source.num_rows:
                raise InputError(
                    f"{where}: {name!r} has shape {array.shape} beside {source.num_rows} rows: every array needs one "
                    f"row a datum"
                )
        source = Joined([source, SlicedArrays(where, held)]).choose(named)
    return StoredRows(source)


def is_on_disk(given: Any) -> bool:
    """Return True for an array that is read by slices from a file.

    Example:
        >>> is_on_disk(np.eye(2))
        False
    """
    if isinstance(given, np.memmap):
        return True
    owner = type(given).__module__.partition(".")[0]
    return owner in ("h5py", "zarr") and all(hasattr(given, name) for name in ("shape", "dtype", "size"))


def _is_large(source: Source) -> bool:
    return source.num_rows * row_bytes(source) > MOST_IN_MEMORY
