"""Tables in files: which columns are used, of which kinds they are, and what is reported about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ppl_vae.data.frames import LABEL_COLUMNS, DataTable, read_frame
from ppl_vae.data.kinds import CODED, Variable, parse_kinds
from ppl_vae.data.source import NamedArrays
from ppl_vae.data.text_file import FIND_ALL, Layout, read_text
from ppl_vae.data.written import TableForm
from ppl_vae.display.lists import split_list
from ppl_vae.errors import InputError, nearest
from ppl_vae.imports import by_need, import_extra

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = by_need("pandas")

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".data", ".dat")
ARROW_SUFFIXES = (".parquet", ".feather", ".arrow")
INDEX_NAMES = ("", "id", "index", "row", "rows", "rownames", "row_id", "no", "nr", "unnamed: 0", "__index_level_0__")
"""Names, in any case, of a column that is left out if its values count the rows."""
TARGETS = ("class", "target", "labels", "classes")
"""Names, in any case, of a column that may hold labels."""
MOST_ROWS = 30
"""The largest number of columns that are listed."""


@dataclass(frozen=True)
class TableOptions:
    """The options of a table; names are separated by commas."""

    columns: str | None = None
    drop: str | None = None
    index: str | None = None
    kinds: str | Mapping[str, str] | None = None
    layout: Layout = FIND_ALL


class TableInFile(NamedTuple):
    """A table that was read from a file, and what was guessed."""

    table: DataTable
    notes: tuple[str, ...]
    place: Callable[[int], str]
    form: TableForm = TableForm()

    def check_finite(self) -> None:
        """Raise ``InputError`` if a value is infinite; one that is missing is NaN."""
        for column, values in zip(self.table.columns, self.table.values, strict=True):
            if values.dtype.kind == "f" and (infinite := np.isinf(values)).any():
                row = int(np.argmax(infinite))
                raise InputError(
                    f"{self.place(row)}: column {column.name!r} has {values[row]} (so in {infinite.sum()} of "
                    f"{len(values)} rows): mend it, remove the rows, or leave the column out, --drop {column.name}"
                )


def read_table(path: Path, options: TableOptions | None = None) -> TableInFile:
    """Read a table from delimited text, Parquet or Feather.

    Args:
        path: path of the file.
        options: which columns are used, and what is known of them and of the file.

    Raises:
        InputError: if the file is broken, a name is of no column, or a column cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "own.csv"
        >>> _ = path.write_text(",age,city\\n0,30,Rome\\n1,41,Oslo\\n2,7,Oslo\\n")
        >>> read_table(path).notes
        ("column '' counts the rows and was left out; --index none keeps it",)
        >>> [(column.name, column.kind) for column in read_table(path).table.columns]
        [('age', 'count'), ('city', 'binary')]
    """
    options = options or TableOptions()
    kinds = parse_kinds(options.kinds)
    frame, notes, place, form = _read(path, options.layout, [name for name, kind in kinds.items() if kind in CODED])
    frame = _choose(path, frame, options, notes)
    return TableInFile(read_frame(frame, kinds=kinds, where=path.name, place=place), tuple(notes), place, form)


def read_table_like(path: Path, known: Mapping[str, tuple[Variable, ...]]) -> NamedArrays:
    """Read a table as arrays with the columns and the codes of a fit; what is missing is NaN.

    Args:
        path: path of the file.
        known: the columns of the arrays of the fit.

    Raises:
        InputError: if a column of x is missing, or a category was not in the fit.
    """
    variables = {column.name: column for columns in known.values() for column in columns}
    coded = [name for name, column in variables.items() if column.kind in CODED and column.categories]
    frame, _, place, _ = _read(path, FIND_ALL, coded)
    names = [column.name for column in known.get("x", ())]
    if not set(names) & set(frame.columns) and len(frame.columns) == len(names):
        frame.columns = pd.Index(names)
    for name in names:
        if name not in frame.columns:
            raise InputError(f"{path} has no column {name!r}, which the fit has; {nearest(name, frame.columns)}")
    chosen = [name for name in variables if name in frame.columns]
    read = read_frame(frame[chosen], known=variables, where=path.name, place=place)
    arrays = DataTable(read.columns, read.values).arrays([name for name in known if name != "x"] or ["x"])
    return NamedArrays({name: arrays[name] for name in known if name in arrays}, arrays.columns)


def read_original(path: Path, known: Mapping[str, tuple[Variable, ...]]) -> tuple[pd.DataFrame, TableForm]:
    """Read a table with all its columns as they are in the file, and the form of the file.

    Args:
        path: path of the file.
        known: the columns of the arrays of a fit, whose names a file without names has.
    """
    coded = [column.name for columns in known.values() for column in columns if column.kind in CODED]
    frame, _, _, form = _read(path, FIND_ALL, coded)
    names = [column.name for column in known.get("x", ())]
    if not set(names) & set(frame.columns) and len(frame.columns) == len(names):
        frame.columns = pd.Index(names)
    return frame, form


def describe_columns(columns: Mapping[str, Sequence[Variable]]) -> list[str]:
    """Return a short table of columns as lines: name, kind, missing, range or categories.

    Example:
        >>> describe_columns({"x": [Variable("age", "count", low=7, high=41)]})
        ['column  kind   missing  values', 'age     count           7 to 41']
    """
    rows = [(*column.describe(), name) for name, named in columns.items() for column in _summarised(named)]
    shown = [(*row[:3], row[3] + ("" if row[4] == "x" else f" (as {row[4]})")) for row in rows[:MOST_ROWS]]
    table = [("column", "kind", "missing", "values"), *shown]
    widths = [max(len(row[i]) for row in table) for i in range(3)]
    lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]).rstrip() for row in table]
    return [*lines, *([f"... and {len(rows) - MOST_ROWS} more columns"] if len(rows) > MOST_ROWS else [])]


def _summarised(columns: Sequence[Variable]) -> Sequence[Variable]:
    """Summarise more columns than are shown as one if all are numbers of one kind, such as genes."""
    first, last = columns[0], columns[-1]
    if len(columns) <= MOST_ROWS or any(column.kind != first.kind or column.categories for column in columns):
        return columns
    low, high = min(column.low for column in columns), max(column.high for column in columns)
    missing = sum(column.missing for column in columns)
    return [Variable(f"{first.name} to {last.name}, {len(columns)}", first.kind, (), missing, low, high)]


def _read(
    path: Path, layout: Layout, coded: Sequence[str]
) -> tuple[pd.DataFrame, list[str], Callable[[int], str], TableForm]:
    suffix = path.suffix.lower()
    if suffix in TEXT_SUFFIXES:
        text = read_text(path, layout, coded)
        inferred = text.layout
        form = TableForm(
            suffix, inferred.delimiter or ",", inferred.decimal or ".", has_names=inferred.header_lines != 0
        )
        return text.frame, text.notes, text.place, form
    return _read_arrow(path), [], lambda row: f"{path} row {row}", TableForm(suffix)


def _read_arrow(path: Path) -> pd.DataFrame:
    import_extra("pyarrow", "tables", str(path))
    read = pd.read_parquet if path.suffix.lower() == ".parquet" else pd.read_feather
    frame = read(path, dtype_backend="pyarrow")
    return frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()


def _choose(path: Path, frame: pd.DataFrame, options: TableOptions, notes: list[str]) -> pd.DataFrame:
    """Return the columns that are used; a column that counts the rows, and an empty one without a name, are not."""
    frame = frame.rename(columns=str)
    names = list(frame.columns)
    index = names_of("index", options.index, names, path) if options.index not in (None, "none") else []
    dropped = set(names_of("drop", options.drop, names, path)) | set(index)
    asked = names_of("columns", options.columns, names, path)
    kept = [name for name in asked or names if name not in dropped]
    for position, name in enumerate(names):
        if name not in kept or asked:
            continue
        values = frame[name]
        if name.lower() in TARGETS:
            notes.append(
                f"column {name!r} is a part of x; --drop {name} leaves it out, and rename it y if it has labels"
            )
        if name.lower() in LABEL_COLUMNS and _skips_numbers(values):
            notes.append(f"column {name!r} was read as labels; under another name it is a part of x")
        if not name and values.isna().all():
            kept.remove(name)
            notes.append(f"column {position + 1} has no name and no values, and was left out")
        elif _counts_rows(values) and len(names) > 1:
            is_index = name.lower() in INDEX_NAMES
            if is_index and options.index is None:
                kept.remove(name)
                notes.append(f"column {name!r} counts the rows and was left out; --index none keeps it")
            elif not is_index:
                notes.append(f"column {name!r} counts the rows; --index {name} leaves it out")
        elif not name and values.is_unique and options.index is None and pd.api.types.is_string_dtype(values.dtype):
            kept.remove(name)
            notes.append("the first column has no name and a text of its own in each row, and was left out as an index")
    if not kept:
        raise InputError(f"{path} has no column left: it has {', '.join(names)}")
    return frame[kept].rename(columns={"": f"column {names.index('') + 1}"} if "" in kept else {})


def names_of(option: str, text: str | None, names: Sequence[str], path: Path) -> list[str]:
    """Return the names of an option, each of which is one of the columns'."""
    if not text:
        return []
    given = [text] if text in names else split_list(text)
    for name in given:
        if name not in names:
            raise InputError(f"--{option}: {path} has no column {name!r}; {nearest(name, names)}")
    return given


def _skips_numbers(values: Any) -> bool:
    """Return True if a column has whole numbers that are not those of classes, 0 or 1 and all that follow."""
    found = np.unique(_whole_numbers(values))
    return len(found) > 0 and (found[0] not in (0, 1) or bool((np.diff(found) > 1).any()))


def _counts_rows(values: Any) -> bool:
    """Return True if a column has the whole numbers from 0 or 1 in the order of the rows."""
    numbers = _whole_numbers(values)
    return len(numbers) > 1 and numbers[0] in (0, 1) and bool((np.diff(numbers) == 1).all())


def _whole_numbers(values: Any) -> np.ndarray:
    """Return the numbers of a column of whole numbers without holes; none of another column."""
    if not pd.api.types.is_integer_dtype(values.dtype) or values.isna().any():
        return np.zeros(0, np.int64)
    return values.to_numpy(dtype=np.int64)
