"""Parquet files, which are read by their row groups: tables of numbers that do not fit in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.data.frames import LABEL_COLUMNS
from ppl_vae.data.kinds import CODED, Variable, parse_kinds
from ppl_vae.data.shards import join_shards
from ppl_vae.data.source import NamedArrays, Source, concatenate, pieces_of, stamp
from ppl_vae.data.table import TableOptions, names_of
from ppl_vae.errors import InputError, nearest, reason
from ppl_vae.imports import import_extra

GROUPS_HELD = 2
"""The number of row groups of a file that stay decoded, so that reads of neighbouring rows decode them once."""


class ParquetRows:
    """The rows of a Parquet file: columns of numbers are x, and those with the name of an argument are arrays.

    A read costs the row groups that it touches, which are decoded whole; the last two stay decoded. A value that is
    missing is NaN.

    Args:
        path: path of the file.
        columns: the columns by the name of the array that they belong to; x is ``(N, D)``, any other ``(N,)``.
        dtypes: the type of each array.

    Raises:
        InputError: the file is broken, lacks a column, or pyarrow is not installed.
    """

    def __init__(self, path: Path, columns: Mapping[str, tuple[Variable, ...]], dtypes: Mapping[str, np.dtype]) -> None:
        self.path, self.columns, self.dtypes = path, dict(columns), dict(dtypes)
        self.metadata = _open(path).metadata
        groups = [self.metadata.row_group(index).num_rows for index in range(self.metadata.num_row_groups)]
        self._ends = np.cumsum(groups, dtype=np.int64)
        self.num_rows = int(self.metadata.num_rows)
        self.shapes = {name: (len(part),) if name == "x" else () for name, part in columns.items()}
        self.block_rows, self.block_ends = max(groups, default=1) or 1, self._ends
        self._names = [column.name for part in self.columns.values() for column in part]
        self._held: OrderedDict[int, NamedArrays] = OrderedDict()
        self._lock, self._of_thread = threading.Lock(), threading.local()

    @property
    def identity(self) -> str:
        """A text that changes if the file is written anew."""
        return stamp([self.path])

    def choose(self, names: Iterable[str]) -> ParquetRows:
        """Return some of the arrays; the columns of the others are not read."""
        return ParquetRows(
            self.path, {name: self.columns[name] for name in names}, {name: self.dtypes[name] for name in names}
        )

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows."""
        return concatenate(self, [self._group(group).read(own) for group, own in pieces_of(self._ends, rows)])

    def _group(self, group: int) -> NamedArrays:
        with self._lock:
            if group in self._held:
                self._held.move_to_end(group)
                return self._held[group]
        try:
            if not hasattr(self._of_thread, "file"):  # a file is read by one thread at a time
                self._of_thread.file = _open(self.path, self.metadata)
            table = self._of_thread.file.read_row_group(group, columns=self._names, use_threads=False)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"cannot read {self.path}, row group {group} (broken or truncated: {reason(error)})"
            ) from error
        arrays = {}
        for name, part in self.columns.items():
            array = _array(table.select([column.name for column in part]), self.dtypes[name])
            arrays[name] = array if name == "x" else array[:, 0]
        with self._lock:
            self._held[group] = NamedArrays(arrays)
            while len(self._held) > GROUPS_HELD:
                self._held.popitem(last=False)
            return self._held[group]


class ColumnSummary:
    """A column as the footer of a Parquet file describes it: its type, range and number of missing values.

    The range is unknown, NaN, if the file was written without statistics.
    """

    def __init__(self, name: str, kind: str, dtype: np.dtype) -> None:
        self.name, self.given, self.dtype = name, kind, dtype
        self.low, self.high, self.missing, self.is_known = np.inf, -np.inf, 0, True

    def add(self, statistics: Any) -> None:
        """Add the statistics of a row group."""
        if statistics is None or not statistics.has_min_max:
            self.is_known = False
        else:
            self.low, self.high = min(self.low, float(statistics.min)), max(self.high, float(statistics.max))
        self.missing += 0 if statistics is None else int(statistics.null_count or 0)

    @property
    def kind(self) -> str:
        """The kind of the column: what was given, or what its type and its range imply."""
        if self.given:
            return self.given
        if self.dtype.kind == "b" or (self.dtype.kind in "iu" and self.is_known and self.low >= 0 and self.high <= 1):
            return "binary"
        if self.dtype.kind in "iu":
            return "count" if self.dtype.kind == "u" or (self.is_known and self.low >= 0) else "real"
        return "positive" if self.is_known and self.low > 0 else "real"

    def variable(self) -> Variable:
        """Return the column with its name, kind, range and categories."""
        categories: tuple[int, ...] = ()
        if self.kind in CODED and self.is_known and self.high > 1:
            categories = tuple(range(int(self.high) + 1))
        known = (self.low, self.high) if self.is_known and self.low <= self.high else (np.nan, np.nan)
        return Variable(self.name, self.kind, categories, self.missing, *known)


def open_parquet(paths: Sequence[Path], options: TableOptions, arguments: Sequence[str]) -> Source:
    """Return the rows of Parquet files of one schema, whose columns are numbers, unread.

    The kinds of the columns follow from their types and from the ranges in the footers of the files, unless they are
    given: whole numbers from 0 to 1 are binary, others from 0 on are counts, real numbers above 0 are positive.

    Args:
        paths: the files.
        options: which columns are used, and of which kinds they are.
        arguments: names of the model's arguments.

    Raises:
        InputError: a file is broken or has other columns than the first, or a column is no numbers.

    Example:
        >>> import tempfile, pandas
        >>> path = Path(tempfile.mkdtemp()) / "own.parquet"
        >>> pandas.DataFrame({"a": [0.5, 1.5, 2.5], "y": [1, 0, 1]}).to_parquet(path)
        >>> rows = open_parquet([path], TableOptions(), ["x"])
        >>> rows.num_rows, rows.read(slice(1, 3))["x"].tolist(), rows.columns["x"][0].kind
        (3, [[1.5], [2.5]], 'positive')
    """
    kinds = parse_kinds(options.kinds)
    first = _schema(paths[0])
    chosen = _choose(paths[0], list(first), options)
    for name in kinds.keys() - set(first):
        raise InputError(f"kinds: {paths[0]} has no column {name!r}; {nearest(name, first)}")
    for name in chosen:
        if first[name] is None:
            raise InputError(
                f"{paths[0]}: column {name!r} is no numbers, and the data are too large to be read whole: leave it "
                f"out, --drop {name}, or save it as numbers"
            )
    summaries = {name: ColumnSummary(name, kinds.get(name, ""), np.dtype(first[name])) for name in chosen}
    for path in paths:
        schema = _schema(path)
        for name in dict.fromkeys([*first, *schema]):
            if first.get(name, "") != schema.get(name, ""):
                types = [f"{s[name]}" if name in s else "not there" for s in (schema, first)]
                raise InputError(
                    f"{path} has another schema than {paths[0]}: its column {name!r} is {types[0]}, and {types[1]} "
                    f"there; save it again, or remove it"
                )
        metadata = _open(path).metadata
        positions = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
        for group in range(metadata.num_row_groups):
            for name, summary in summaries.items():
                summary.add(metadata.row_group(group).column(positions[name]).statistics)
    arrays = sort_columns(chosen, arguments)
    columns = {array: tuple(summaries[name].variable() for name in names) for array, names in arrays.items()}
    dtypes = {array: _common_type([summaries[name] for name in names]) for array, names in arrays.items()}
    return join_shards(paths[0].name, paths, lambda path: ParquetRows(path, columns, dtypes))


def _schema(path: Path) -> dict[str, np.dtype | None]:
    """Return the types of the columns of a file by name; None for one that is no numbers."""
    types: dict[str, np.dtype | None] = {}
    for field in _open(path).schema_arrow:
        try:
            dtype = np.dtype(field.type.to_pandas_dtype())
        except (NotImplementedError, TypeError):
            dtype = np.dtype(object)
        types[field.name] = dtype if dtype.kind in "biuf" else None
    return types


def _choose(path: Path, names: Sequence[str], options: TableOptions) -> list[str]:
    """Return the columns that are used; an index that pandas has written is not."""
    asked = names_of("columns", options.columns, names, path)
    index = names_of("index", options.index, names, path) if options.index not in (None, "none") else []
    dropped = {*names_of("drop", options.drop, names, path), *index}
    dropped |= {"__index_level_0__"} if options.index is None else set()
    chosen = [name for name in asked or names if name not in dropped]
    if not chosen:
        raise InputError(f"{path} has no column left: it has {', '.join(names)}")
    return chosen


def sort_columns(names: Sequence[str], arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each array: one with the name of an argument, or of labels, is an array, the others are x.

    Example:
        >>> sort_columns(["a", "b", "Label", "batch"], ["x", "batch"])
        {'x': ['a', 'b'], 'batch': ['batch'], 'y': ['Label']}
    """
    own = {name: [name] for name in names if name in arguments and name != "x"}
    labels = [name for name in names if name.lower() in LABEL_COLUMNS and name not in own]
    if len(labels) > 1 and "y" not in own:
        raise InputError(f"{len(labels)} columns are called y or label: rename all but one, or leave it out")
    if labels and "y" not in own:
        own["y"] = labels
    taken = {name for part in own.values() for name in part}
    rest = [name for name in names if name not in taken]
    return ({"x": rest} if rest else {}) | own


def _common_type(columns: Sequence[ColumnSummary]) -> np.dtype:
    """Return the type that holds columns: the one that ``to_native`` keeps; of real numbers if a value is missing."""
    common = np.result_type(*(np.float64 if c.missing and c.dtype.kind != "f" else c.dtype for c in columns))
    if common.kind == "f":
        return np.dtype(np.float32 if common.itemsize <= 4 else np.float64)
    return common if common.kind == "b" or common == np.uint8 else np.dtype(np.int64)


def _array(table: Any, dtype: np.dtype) -> np.ndarray:
    """Return the columns of a table of PyArrow as an array, ``(N, D)``, with NaN for what is missing."""
    import pyarrow

    blocks = table.to_batches()
    if len(blocks) == 1 and set(table.schema.types) in ({pyarrow.float32()}, {pyarrow.float64()}):
        return blocks[0].to_tensor(null_to_nan=True, row_major=True).to_numpy().astype(dtype, copy=False)
    array = np.empty((len(table), table.num_columns), dtype)
    for position, column in enumerate(table.columns):
        array[:, position] = _numbers(column)
    return array


def _numbers(column: Any) -> np.ndarray:
    """Return a column of a table of PyArrow, with NaN for what is missing."""
    import pyarrow
    import pyarrow.compute

    if column.null_count and not pyarrow.types.is_floating(column.type):
        column = pyarrow.compute.cast(column, pyarrow.float64(), safe=False)
    return column.to_numpy()


def _open(path: Path, metadata: Any = None) -> Any:
    import_extra("pyarrow.parquet", "tables", str(path))
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path, metadata=metadata)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"cannot read {path} (broken or truncated: {reason(error)}): save it again") from error
