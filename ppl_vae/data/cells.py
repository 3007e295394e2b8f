"""Counts of genes in cells, as ``anndata`` holds them: an ``AnnData`` object, or an ``.h5ad`` file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ppl_vae.data.frames import LABEL_COLUMNS, is_whole, read_frame
from ppl_vae.data.joined import Joined
from ppl_vae.data.kinds import Variable
from ppl_vae.data.sliced import SlicedArrays
from ppl_vae.data.source import NamedArrays
from ppl_vae.data.sparse import SparseRows, as_rows
from ppl_vae.data.sparse_file import MatrixSummary, SparseOnDisk, summarise_matrix
from ppl_vae.data.stored import StoredRows
from ppl_vae.display.lists import split_list
from ppl_vae.errors import InputError, nearest
from ppl_vae.imports import by_need, import_extra

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = by_need("pandas")

CELL_SUFFIXES = (".h5ad",)
EXPOSURE = "exposure"
"""The array of the sums of counts, for a model with an argument of this name."""
MOST_NAMES = 8
MOST_MATRIX_IN_MEMORY = 2**32
"""The size of a matrix in bytes, sparse if it is, up to which it is read into memory."""


@dataclass(frozen=True)
class CellOptions:
    """The options of an ``.h5ad`` file.

    Args:
        layer: name of the layer that is x; by default X.
        obs: columns of obs for arguments of other names, such as ``batch=donor``, separated by commas.
    """

    layer: str | None = None
    obs: str | None = None

    def column_of(self) -> dict[str, str]:
        """Return the columns of obs by the names of the arguments that take them.

        Raises:
            InputError: if a pair has no equals sign.

        Example:
            >>> CellOptions(obs="batch=donor, y=cell type").column_of()
            {'batch': 'donor', 'y': 'cell type'}
        """
        pairs = [part.partition("=") for part in split_list(self.obs)]
        for name, sign, column in pairs:
            if not sign or not name.strip() or not column.strip():
                raise InputError(f"--obs {self.obs}: expected ARGUMENT=COLUMN, such as batch=donor")
        return {name.strip(): column.strip() for name, _, column in pairs}


class CellMatrix(NamedTuple):
    """One matrix of a set of cells, with what is known of its rows and columns."""

    where: str
    """The name of the set, for messages."""
    matrix: Any
    """Sparse rows, an array ``(N, D)``, or a large matrix of a file, which is read by slices of rows."""
    layer: str
    """The name of the matrix."""
    layers: tuple[str, ...]
    """The names of all layers."""
    obs: pd.DataFrame
    genes: tuple[str, ...]
    path: Path | None = None
    """The file of a matrix that is not in memory."""


def is_cells(given: Any) -> bool:
    """Return True for an ``AnnData`` object."""
    anndata = sys.modules.get("anndata")
    return anndata is not None and isinstance(given, anndata.AnnData)


def cells_in_memory(adata: Any, where: str = "the AnnData", layer: str | None = None) -> CellMatrix:
    """Return the matrix of an ``AnnData`` object, and what is known of its rows and columns.

    Raises:
        InputError: if there is no layer of that name.
    """
    layers = tuple(adata.layers)
    _check_layer(where, layer, layers, has_x=adata.X is not None)
    matrix = adata.X if layer is None else adata.layers[layer]
    return CellMatrix(
        where, _as_matrix(where, matrix), layer or "X", layers, adata.obs, tuple(map(str, adata.var_names))
    )


def cells_in_file(path: Path, layer: str | None = None) -> CellMatrix:
    """Read one matrix of an ``.h5ad`` file; the rest of the file stays unread, and so does a large matrix.

    Raises:
        InputError: if anndata is not installed, or there is no layer of that name.
    """
    import h5py

    anndata = import_extra("anndata", "cells", str(path))
    path.open("rb").close()  # h5py does not report a missing permission
    if not h5py.is_hdf5(path):
        raise InputError(f"{path} is broken, or no .h5ad file: write it again with AnnData.write_h5ad")
    key = "X" if layer is None else f"layers/{layer}"
    with h5py.File(path) as file:
        for part in ("obs", "var"):
            if part not in file:
                raise InputError(f"{path} has no {part}, so it is no .h5ad file: write it with AnnData.write_h5ad")
        layers = tuple(file["layers"]) if "layers" in file else ()
        _check_layer(str(path), layer, layers, has_x="X" in file)
        obs, var = (anndata.io.read_elem(file[part]) for part in ("obs", "var"))
        known = layer or "X", layers, obs, tuple(map(str, var.index))
        if not _is_large(file[key]):
            return CellMatrix(str(path), _as_matrix(str(path), anndata.io.read_elem(file[key])), *known)
    item = h5py.File(path)[key]  # of a file that stays open
    return CellMatrix(str(path), SparseOnDisk(item) if isinstance(item, h5py.Group) else item, *known, path)


def arrays_of_cells(
    cells: CellMatrix,
    arguments: Sequence[str] = ("x",),
    column_of: Mapping[str, str] | None = None,
    *,
    kinds: Mapping[str, str] | None = None,
    known: Mapping[str, Sequence[Variable]] | None = None,
) -> tuple[NamedArrays | StoredRows, tuple[str, ...]]:
    """Return the matrix as x, the columns of obs that are conditions, and notes on what was chosen.

    A column of obs that has the name of an argument becomes an array of its own, texts as codes, and so does a column
    called y or label. An argument called exposure, of which obs has no column, is the sum of the counts of each cell.
    A large matrix of a file stays there.

    Args:
        cells: the matrix, and what is known of its rows and columns.
        arguments: the names of the arguments of the program's model.
        column_of: columns of obs by the names of the arguments that take them, if these differ.
        kinds: kinds of columns of obs by name; the others are inferred.
        known: the columns of the arrays of a fit, whose categories hold here too.

    Raises:
        InputError: if there is no such column, a condition is missing, two genes have one name, or a count is no whole
            number.

    Example:
        >>> obs = pd.DataFrame({"batch": ["b", "a", "b"]})
        >>> cells = CellMatrix("own", np.array([[1, 0], [0, 2], [3, 4]]), "X", (), obs, ("g1", "g2"))
        >>> arrays, notes = arrays_of_cells(cells, ["x", "batch", "exposure"])
        >>> arrays["batch"].tolist(), arrays["exposure"].tolist(), [gene.name for gene in arrays.columns["x"]]
        ([1, 0, 1], [1.0, 2.0, 7.0], ['g1', 'g2'])
    """
    where, obs, known = cells.where, cells.obs, known or {}
    taken = {name: name for name in map(str, obs.columns) if name in arguments and name != "x"}
    labels = [name for name in map(str, obs.columns) if name.lower() in LABEL_COLUMNS]
    taken = {**({"y": labels[0]} if labels else {}), **taken, **(column_of or {})}
    for name, column in taken.items():
        if column not in obs.columns:
            raise InputError(f"--obs {name}={column}: {where} has no such column; {nearest(column, map(str, obs))}")
    for name in (kinds or {}).keys() - {*taken.values()}:
        raise InputError(
            f"kinds: {where} has no column {name!r} of obs that is an argument; --obs NAME={name} takes it"
        )
    arrays: dict[str, Any] = {"x": cells.matrix}
    summary = summarise_matrix(cells.matrix)
    columns: dict[str, tuple[Variable, ...]] = {"x": _genes(cells, summary)}
    for name, column in taken.items():
        like = {column: known[name][0]} if name in known else None
        of_column = {k: kind for k, kind in (kinds or {}).items() if k == column}
        table = read_frame(obs[[column]], kinds=of_column, known=like, where=f"obs of {where}")
        (variable,), (values,) = table.columns, table.values
        arrays[name], columns[name] = _without_holes(cells, name, column, values), (variable,)
    notes = [f"x is {'' if cells.layer == 'X' else 'the layer '}{cells.layer}"]
    if EXPOSURE in arguments and EXPOSURE not in taken:
        _check_counts(cells, summary)
        arrays[EXPOSURE] = _sums(cells, summary)
        notes.append("exposure is the sum of the counts of each cell")
    elif "count" in cells.layer.lower():
        _check_counts(cells, summary)
    left = [str(name) for name in obs.columns if str(name) not in taken.values()]
    if left:
        shown = ", ".join(left[:MOST_NAMES]) + (", ..." if len(left) > MOST_NAMES else "")
        notes.append(f"columns of obs that are left out: {shown}; --obs batch={left[0]} takes one as an argument")
    if cells.path is None:
        return NamedArrays(arrays, columns), tuple(notes)
    x = SlicedArrays(where, {"x": arrays.pop("x")}, [cells.path], {"x": columns.pop("x")})
    return StoredRows(Joined([x, NamedArrays(arrays, columns)]) if arrays else x), tuple(notes)


def _is_large(item: Any) -> bool:
    """Return True for a matrix of a file that is read by slices of rows, because it is large and its rows lie together.

    Args:
        item: the group of a sparse matrix, or a data set.
    """
    if not hasattr(item, "keys"):
        return item.size * item.dtype.itemsize > MOST_MATRIX_IN_MEMORY
    by_rows = item.attrs.get("encoding-type") == "csr_matrix"
    return by_rows and sum(part.size * part.dtype.itemsize for part in item.values()) > MOST_MATRIX_IN_MEMORY


def _as_matrix(where: str, matrix: Any) -> Any:
    rows = as_rows(matrix)
    if not isinstance(rows, SparseRows | np.ndarray):
        raise InputError(f"{where}: a matrix is a {type(matrix).__name__}: bring it to memory, AnnData.to_memory()")
    return rows


def _check_layer(where: str, layer: str | None, layers: Sequence[str], *, has_x: bool) -> None:
    if layer is not None and layer not in layers:
        others = nearest(layer, layers) if layers else "it has none; leave the option out for X"
        raise InputError(f"--layer {layer}: {where} has no layer of that name; {others}")
    if layer is None and not has_x:
        raise InputError(f"{where} has no X: choose a layer, --layer {' or '.join(layers) or 'NAME'}")


def _genes(cells: CellMatrix, summary: MatrixSummary) -> tuple[Variable, ...]:
    """Return the columns of x, all of the kind that fits all numbers."""
    names = cells.genes
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{cells.where}: two genes are called {twice!r}: AnnData.var_names_make_unique() renames them")
    kind = "count" if summary.is_whole and summary.low.min() >= 0 else "real"
    return tuple(
        Variable(name, kind, low=float(least), high=float(most))
        for name, least, most in zip(names, summary.low, summary.high, strict=True)
    )


def _without_holes(cells: CellMatrix, name: str, column: str, values: np.ndarray) -> np.ndarray:
    """Return a condition, which may not be missing; a label that is missing is -1."""
    holes = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    if not holes.any():
        return values
    if name == "y" and is_whole(values):
        return np.where(holes, -1, values).astype(np.int64)
    row = int(np.argmax(holes))
    raise InputError(
        f"{cells.where}: column {column!r} of obs is missing in {int(holes.sum())} of {len(values)} cells, the first "
        f"{cells.obs.index[row]!s}: a condition is known for every cell, so fill it in or remove the cells"
    )


def _check_counts(cells: CellMatrix, summary: MatrixSummary) -> None:
    """Check that all numbers are whole, and 0 or larger."""
    if summary.not_a_count is None:
        return
    row, gene, value = summary.not_a_count
    others = [layer for layer in cells.layers if layer != cells.layer]
    remedy = f"take another layer, {' or '.join(others)}" if others else "give them as they were before normalisation"
    raise InputError(
        f"{cells.where}: {cells.layer} has {value} in cell {cells.obs.index[row]!s}, gene "
        f"{cells.genes[gene]!r}: counts are whole and not negative; {remedy}"
    )


def _sums(cells: CellMatrix, summary: MatrixSummary) -> np.ndarray:
    """Return the sum of the counts of each cell, real numbers above 0."""
    sums = summary.sums
    if (sums == 0).any():
        row = int(np.argmin(sums))
        raise InputError(
            f"{cells.where}: {int((sums == 0).sum())} of {len(sums)} cells have no counts, the first "
            f"{cells.obs.index[row]!s}: remove them, such as scanpy.pp.filter_cells does"
        )
    return sums
