"""Data in the forms in which people have them in Python, as named arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from ppl_vae.data.cells import arrays_of_cells, cells_in_memory, is_cells
from ppl_vae.data.frames import check_no_text, fill_masked, is_frame, is_series, read_frame, read_series
from ppl_vae.data.given_stored import store_arrays, store_rows
from ppl_vae.data.kinds import Variable
from ppl_vae.data.source import NamedArrays
from ppl_vae.data.sparse import SparseRows, as_rows
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.torch_rows import dataset_of
from ppl_vae.errors import InputError

FitColumns = Mapping[str, Sequence[Variable]]


def as_named(
    where: str,
    arrays: Sequence[Any],
    arguments: Sequence[str],
    known: FitColumns | None = None,
    *,
    mixed: bool = False,
) -> NamedArrays | StoredRows:
    """Return by name the arrays of a call, given in the order of the model's arguments or as one mapping.

    An array may be a nested list, a NumPy array (what is masked becomes NaN), a tensor, a sparse matrix of SciPy, or a
    series or a data frame of pandas, polars or PyArrow, whose columns become an array ``(N, D)``. A single data frame
    or structured array is a table: a column that has the name of an argument of the model becomes an array of its own.
    A single data set of PyTorch has one datum per row. A single AnnData has x, its matrix X, and the columns of obs
    that have the names of arguments; an argument called exposure is the sum of a cell's counts.

    Memory maps, data sets of h5py, arrays of zarr, data sets of PyArrow in Parquet, and map-style data sets of PyTorch
    stay where they are if they are larger than 256 MiB, and are read in blocks.

    Args:
        where: name of the call, for messages.
        arrays: the arrays; None for those that are left out.
        arguments: names of the model's arguments.
        known: the columns of a fit by the name of their array, whose categories have the same codes here.
        mixed: If True, columns of x may be texts; they may too if they were in the fit.

    Raises:
        InputError: if there are more arrays than arguments, or something is not numbers.

    Example:
        >>> import torch
        >>> rows = torch.utils.data.TensorDataset(torch.ones(3, 2), torch.arange(3))
        >>> {name: array.shape for name, array in as_named("fit", [rows], ["x", "y"]).items()}
        {'x': (3, 2), 'y': (3,)}
    """
    mixed = mixed or any(column.is_text for column in (known or {}).get("x", ()))
    given: Sequence[Any] = [array for array in arrays if array is not None]
    if len(given) == 1 and isinstance(given[0], DataLoader):
        given = arrays = [dataset_of(where, given[0])]
    if len(given) == 1 and isinstance(given[0], IterableDataset):
        raise InputError(
            f"{where}: a {type(given[0]).__name__} gives its data in its own order: pass a data set with "
            f"numbered rows, or its arrays"
        )
    if len(given) == 1 and (stored := store_rows(where, given[0], arguments, to_array)) is not given[0]:
        given = arrays = [stored]
    if len(given) == 1 and isinstance(given[0], StoredRows):
        return given[0]
    if len(given) == 1 and isinstance(given[0], TorchDataset):
        given = arrays = _rows_of(where, given[0])
    if len(given) == 1 and isinstance(given[0], Mapping):
        named = dict(given[0])
    elif len(given) == 1 and is_cells(given[0]):
        return arrays_of_cells(cells_in_memory(given[0], f"the AnnData of {where}"), arguments, known=known)[0]
    elif len(given) == 1 and is_frame(given[0]):
        return read_frame(given[0], known=_coded(*(known or {}).values()), where=where).arrays(
            arguments, mixed=mixed, labels="y" in arguments
        )
    elif any(array is not None for array in arrays[len(arguments) :]):
        raise InputError(
            f"{where}: {len(given)} arrays given, the model takes {len(arguments)}: {', '.join(arguments)}"
        )
    else:
        named = {name: array for name, array in zip(arguments, arrays, strict=False) if array is not None}
    if (rows := store_arrays(where, named, to_array)) is not None:
        return rows
    columns, read = dict(getattr(given[0], "columns", {})) if isinstance(given[0], NamedArrays) else {}, {}
    for name, array in named.items():
        if is_frame(array):
            frame = read_frame(array, known=_coded((known or {}).get(name, ())), where=f"{where}: {name!r}")
            table = frame.arrays(("x",), mixed=mixed, labels=False)
            read[name], columns[name] = table["x"], table.columns["x"]
        elif is_series(array):
            column, read[name] = read_series(
                name, array, where, next(iter(_coded((known or {}).get(name, ())).values()), None)
            )
            if name in ("x", *arguments[:1]):
                check_no_text(column)
            columns[name] = (column,)
        else:
            read[name] = to_array(f"{where}: array {name!r}", array)
    return NamedArrays(read, columns)


def _coded(*columns: Sequence[Variable]) -> dict[str, Variable]:
    """Return the columns with categories by name."""
    return {column.name: column for named in columns for column in named if column.categories}


def to_array(where: str, given: Any) -> Any:
    """Return what was given as a NumPy array, each number with its value; what is masked becomes NaN.

    A sparse matrix of SciPy becomes ``SparseRows``.

    Raises:
        InputError: if it is no array, such as a generator.

    Example:
        >>> to_array("x", torch.ones(2, dtype=torch.bfloat16, requires_grad=True)).dtype
        dtype('float32')
    """
    if isinstance(given, np.ndarray):
        return fill_masked(given) if isinstance(given, np.ma.MaskedArray) else np.asarray(given)
    if isinstance(given, torch.Tensor):
        if given.is_sparse or given.layout != torch.strided:
            given = given.to_dense()
        given = given.detach().cpu().resolve_conj().resolve_neg()
        small = given.is_floating_point() and given.dtype not in (torch.float16, torch.float32, torch.float64)
        return (given.float() if small else given).numpy()
    if isinstance(given, SparseRows):
        return given
    if scipy.sparse.issparse(given):
        return as_rows(given) if given.ndim == 2 else given.toarray()
    if isinstance(given, Iterator) or callable(given):
        raise InputError(f"{where} is a {type(given).__name__}: expected an array, such as np.stack(list(...))")
    try:
        if isinstance(given, list | tuple) and any(isinstance(row, torch.Tensor) for row in given):
            return np.stack([to_array(where, row) for row in given])
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{where} is no array of numbers ({str(error).splitlines()[0][:80]}): give every datum the same shape"
        ) from error


def _rows_of(where: str, rows: TorchDataset[Any]) -> list[Any]:
    """Return the data of a data set of PyTorch: arrays in the order of a row's parts, or one mapping."""
    if not hasattr(rows, "__len__"):
        raise InputError(f"{where}: a {type(rows).__name__} has no length: pass its arrays")
    parts = [rows[index] for index in range(len(rows))]
    if not parts:
        raise InputError(f"{where}: the {type(rows).__name__} is empty: expected at least one row")
    try:
        if isinstance(parts[0], Mapping):
            return [{name: np.stack([to_array(where, part[name]) for part in parts]) for name in parts[0]}]
        if isinstance(parts[0], tuple | list):
            return [np.stack([to_array(where, value) for value in values]) for values in zip(*parts, strict=True)]
        return [np.stack([to_array(where, part) for part in parts])]
    except (ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: the rows of the {type(rows).__name__} differ in shape or in their parts") from error
