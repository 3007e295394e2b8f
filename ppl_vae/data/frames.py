"""Tables as columns with names and kinds: data frames, structured arrays, and the arrays that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.data.kinds import Variable, code_numbers, code_texts
from ppl_vae.data.source import NamedArrays, as_source
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.transformed import Transformed
from ppl_vae.errors import InputError, nearest
from ppl_vae.imports import by_need

if TYPE_CHECKING:
    import narwhals as nw
else:
    nw = by_need("narwhals")

LABEL_COLUMNS = ("y", "label")
"""Names, in any case, of a column that holds labels if its values are whole numbers or texts."""


@dataclass(frozen=True, eq=False)
class DataTable:
    """A table: its columns, and for each its numbers or codes, with NaN where they are missing.

    Attributes:
        columns: the columns.
        values: an array ``(N,)`` for each column.
    """

    columns: tuple[Variable, ...]
    values: tuple[np.ndarray, ...]

    def arrays(self, arguments: Sequence[str] = ("x",), *, mixed: bool = True, labels: bool = True) -> NamedArrays:
        """Return the columns as the arrays that a program takes.

        A column that has the name of an argument becomes an array of its own, ``(N,)``, and so do labels, as y. All
        others are x, ``(N, D)``.

        Args:
            arguments: the names of the arguments of the program's model.
            mixed: If False, x may not have categories that are texts.
            labels: If False, labels are a part of x unless an argument has their name.

        Raises:
            InputError: if there are two columns of labels, or x would have texts.

        Example:
            >>> table = read_frame({"a": np.array([0.5, 1.0]), "batch": np.array([3, 4])})
            >>> {name: array.shape for name, array in table.arrays(["x", "batch"]).items()}
            {'x': (2, 1), 'batch': (2,)}
        """
        names = [column.name for column in self.columns]
        own = {name: index for index, name in enumerate(names) if name in arguments and name != "x"}
        if labels and "y" not in own:
            of_labels = [
                index
                for index, (name, values) in enumerate(zip(names, self.values, strict=True))
                if name.lower() in LABEL_COLUMNS and index not in own.values() and is_whole(values)
            ]
            if len(of_labels) > 1:
                raise InputError(f"{len(of_labels)} columns are called y or label: rename all but one, or leave it out")
            if of_labels:
                own["y"] = of_labels[0]
        rest = [index for index in range(len(names)) if index not in own.values()]
        arrays, columns = {}, {}
        if rest:
            columns["x"] = tuple(self.columns[index] for index in rest)
            for column in columns["x"]:
                if not mixed:
                    check_no_text(column)
            arrays["x"] = _stack([self.values[index] for index in rest], columns["x"])
        for name, index in own.items():
            arrays[name], columns[name] = self.values[index], (self.columns[index],)
        return NamedArrays(arrays, columns)


def read_frame(
    frame: Any,
    *,
    kinds: Mapping[str, str] | None = None,
    known: Mapping[str, Variable] | None = None,
    where: str = "the table",
    place: Callable[[int], str] | None = None,
) -> DataTable:
    """Return a table of a data frame of pandas, polars or PyArrow, a structured array, or arrays by name.

    Args:
        frame: the data frame.
        kinds: kinds of columns by name; the others are inferred.
        known: columns of a fit by name, whose kinds and categories hold here too.
        where: name of the frame, for messages.
        place: a function from the number of a row to its place in words, for messages.

    Raises:
        InputError: if two columns have one name, a kind is of no column, or a column has dates, free text or objects.

    Example:
        >>> import pandas
        >>> table = read_frame(pandas.DataFrame({"a": [1.5, None], "b": ["u", "v"]}))
        >>> [(column.name, column.kind, column.missing) for column in table.columns]
        [('a', 'positive', 1), ('b', 'binary', 0)]
    """
    place = place or (lambda row: f"{where}: row {row}")
    kinds = dict(kinds or {})
    series = _series_of(frame, where)
    names = [name for name, _ in series]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{where}: two columns are called {name!r}: rename one of them")
    for name in kinds.keys() - set(names):
        raise InputError(f"kinds: {where} has no column {name!r}; {nearest(name, names)}")
    known, pairs = known or {}, []
    for name, values in series:
        like = known.get(name, Variable(name, kinds.get(name)))
        pairs.append(_read_column(values, like, place))
    return DataTable(tuple(column for column, _ in pairs), tuple(values for _, values in pairs))


def is_frame(given: Any) -> bool:
    """Return True for a data frame or a column of one, of any library that narwhals knows, and a structured array."""
    if isinstance(given, np.ndarray):
        return given.dtype.names is not None
    try:
        known = nw.from_native(given, pass_through=True)
    except nw.exceptions.DuplicateError:
        return True
    return isinstance(known, nw.DataFrame | nw.LazyFrame)


def fill_masked(values: np.ndarray) -> np.ndarray:
    """Return an array with NaN where it is masked; an array without a mask as it is.

    Example:
        >>> fill_masked(np.ma.masked_greater(np.array([1, 5]), 2)).tolist()
        [1.0, nan]
    """
    if not isinstance(values, np.ma.MaskedArray):
        return values
    mask, data = np.ma.getmaskarray(values), np.ma.getdata(values)
    if not mask.any():
        return data
    if data.dtype.kind in "iu" and np.abs(data[~mask].astype(np.float64)).max(initial=0) > 2**53:
        raise InputError("a masked array has whole numbers above 2^53: fill the masked ones in, or rescale it")
    return np.where(mask, np.nan, data.astype(np.promote_types(data.dtype, np.float32)))


def is_series(given: Any) -> bool:
    """Return True for a column of a data frame, of any library that narwhals knows."""
    return isinstance(nw.from_native(given, pass_through=True, allow_series=True), nw.Series)


def read_series(name: str, given: Any, where: str, like: Variable | None = None) -> tuple[Variable, np.ndarray]:
    """Return a column by itself, with its numbers or codes; its kind and its categories may be known.

    Example:
        >>> import pandas
        >>> read_series("y", pandas.Series(["u", "v", "u"]), "fit")[1].tolist()
        [0, 1, 0]
    """
    return _read_column(given, like or Variable(name, None), lambda row: f"{where}: row {row}")


def check_no_text(column: Variable) -> None:
    """Raise ``InputError`` if a column of x contains text."""
    if column.is_text:
        raise InputError(
            f"column {column.name!r} contains text ({', '.join(map(str, column.categories[:3]))}, ...): encode it, "
            f"drop it with --drop {column.name}, or give the model an argument of its name"
        )


def column_names(arrays: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns of the arrays that were made of a table, by the name of the array.

    Example:
        >>> column_names(NamedArrays({"x": np.eye(2)}, {"x": (Variable("a", "real"), Variable("b", "real"))}))
        {'x': ('a', 'b')}
    """
    columns = as_source(arrays).columns
    return {name: tuple(column.name for column in variables) for name, variables in columns.items()}


def match_columns(
    arrays: NamedArrays | StoredRows, fitted: Mapping[str, Sequence[Variable]], where: str
) -> NamedArrays | StoredRows:
    """Return arrays ``(N, D)`` with their columns in the order that they had in a fit.

    An array without names of columns, here or in the fit, stays as it is: its position decides.

    Args:
        arrays: the arrays.
        fitted: the columns in the fit, by the name of the array.
        where: name of the call, for messages.

    Raises:
        InputError: if an array lacks a column, or has one of another name.

    Example:
        >>> a, b = Variable("a", "count"), Variable("b", "count")
        >>> arrays = NamedArrays({"x": np.array([[1, 2]])}, {"x": (b, a)})
        >>> match_columns(arrays, {"x": (a, b)}, "score")["x"].tolist()
        [[2, 1]]
    """
    columns, orders = dict(arrays.columns), {}
    for array, variables in fitted.items():
        names = [column.name for column in variables]
        given = [column.name for column in columns.get(array, ())]
        if not given or given == names or len(arrays.shapes[array]) == 0:
            continue
        for name in names:
            if name not in given:
                raise InputError(f"{where}: the data lack the column {name!r} of the fit; {nearest(name, given)}")
        for name in given:
            if name not in names:
                raise InputError(
                    f"{where}: the column {name!r} was not in the fit; leave it out (columns: {len(names)})"
                )
        orders[array] = [given.index(name) for name in names]
        columns[array] = tuple(columns[array][index] for index in orders[array])

    def move(block: NamedArrays, _: int) -> dict[str, np.ndarray]:
        return {name: array[:, orders[name]] if name in orders else array for name, array in block.items()}

    if not isinstance(arrays, StoredRows):
        return NamedArrays(move(arrays, 0), columns)
    return StoredRows(Transformed(arrays, move, f"columns {orders}", columns)) if orders else arrays


def _series_of(frame: Any, where: str) -> list[tuple[str, Any]]:
    if isinstance(frame, np.ndarray):
        return [(name, fill_masked(frame[name])) for name in frame.dtype.names]
    if isinstance(frame, Mapping):
        return [(str(name), np.asarray(values)) for name, values in frame.items()]
    try:
        frame = nw.from_native(frame)
        if isinstance(frame, nw.LazyFrame):
            frame = frame.collect()
        names = [str(name) for name in frame.columns]
    except nw.exceptions.DuplicateError as error:
        raise InputError(f"{where}: {' '.join(str(error).split())}: rename one of them") from error
    return [(name, frame.to_native().iloc[:, i] if _is_pandas(frame) else frame[:, i]) for i, name in enumerate(names)]


def _is_pandas(frame: Any) -> bool:
    return frame.implementation.is_pandas()  # whose names may be numbers


def _read_column(given: Any, like: Variable, place: Callable[[int], str]) -> tuple[Variable, np.ndarray]:
    """Return a column with its numbers or codes; its name is known, and its kind and its categories may be."""
    name = like.name
    if isinstance(given, np.ndarray):
        if given.ndim != 1:
            raise InputError(f"column {name!r} has shape {given.shape}: expected one value a row")
        if given.dtype.kind in "biuf":
            missing = np.isnan(given) if given.dtype.kind == "f" else np.zeros(len(given), bool)
            return code_numbers(given, missing, like, place)
        if given.dtype.kind not in "OU":
            raise _refused(name, f"values of type {given.dtype}")
        given = nw.new_series(name, given.tolist(), nw.String if given.dtype.kind == "U" else None, backend="pandas")
    series = given if isinstance(given, nw.Series) else nw.from_native(given, series_only=True)
    missing, dtype = series.is_null().to_numpy(), series.dtype
    if isinstance(dtype, nw.Decimal):
        series, dtype = series.cast(nw.Float64), nw.Float64()
    if dtype.is_numeric():
        filled = series if not missing.any() else series.fill_null(0)
        values = filled.to_numpy()
        if values.dtype.kind == "f":
            missing = missing | np.isnan(values)
        return code_numbers(values, missing, like, place)
    if dtype == nw.Boolean:
        return code_numbers(series.fill_null(False).to_numpy().astype(bool), missing, like, place)
    if dtype.is_temporal():
        raise InputError(
            f"column {name!r} has dates or times: leave it out, --drop {name}, or give it as a number, such as days"
        )
    if isinstance(dtype, nw.Categorical | nw.Enum) or dtype == nw.String or dtype == nw.Object:
        texts = series.to_list()
        if dtype == nw.String or isinstance(dtype, nw.Categorical | nw.Enum):
            return code_texts(texts, missing, like, place, _order_of(series))
        known = [value for value, hole in zip(texts, missing, strict=True) if not hole]
        if all(isinstance(value, str) for value in known):
            return code_texts(texts, missing, like, place)
        if all(isinstance(value, bool | np.bool_) for value in known):
            bits = np.array([False if hole else bool(value) for value, hole in zip(texts, missing, strict=True)])
            return code_numbers(bits, missing, like, place)
        if all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in known):
            numbers = np.array([0 if hole else value for value, hole in zip(texts, missing, strict=True)])
            if numbers.dtype.kind in "iuf":
                return code_numbers(numbers, missing, like, place)
        row = next(i for i, value in enumerate(texts) if not missing[i] and not isinstance(value, int | float))
        raise _refused(name, f"{str(texts[row])[:40]!r} ({type(texts[row]).__name__}) in {place(row)}")
    raise _refused(name, f"values of type {getattr(given, 'dtype', dtype)}")


def _refused(name: str, what: str) -> InputError:
    return InputError(f"column {name!r} has {what}: expected numbers, true and false, or categories; leave it out")


def _order_of(series: nw.Series[Any]) -> list[Any]:
    """Return the categories of an ordered categorical in their order; nothing for another series."""
    if isinstance(series.dtype, nw.Enum):
        return list(series.dtype.categories)
    native = series.to_native()
    ordered = getattr(getattr(native, "cat", None), "ordered", False)
    return list(native.cat.categories) if ordered is True else []


def is_whole(values: np.ndarray) -> bool:
    """Return True if all numbers that are not missing are whole."""
    known = values if values.dtype.kind != "f" else values[~np.isnan(values)]
    return bool(len(known) and np.isfinite(known).all() and (known == np.round(known)).all())


def _stack(values: Collection[np.ndarray], columns: Sequence[Variable]) -> np.ndarray:
    """Return columns side by side, ``(N, D)``, each number with its value."""
    if any(array.dtype.kind == "f" for array in values):
        for column, array in zip(columns, values, strict=True):
            if array.dtype.kind in "iu" and np.abs(array).max(initial=0) > 2**53:
                raise InputError(f"column {column.name!r} has whole numbers above 2^53 beside real ones: rescale it")
        return np.stack([array.astype(np.float64, copy=False) for array in values], 1)
    return np.stack(list(values), 1)
