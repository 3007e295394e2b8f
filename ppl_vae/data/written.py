"""Tables that are written as they came in: names, labels of categories, order, delimiter, file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ppl_vae.data.kinds import CODED, Variable
from ppl_vae.data.labels import label_codes
from ppl_vae.errors import InputError, nearest
from ppl_vae.imports import by_need, import_extra

if TYPE_CHECKING:
    import narwhals as nw
    import pandas as pd
else:
    nw = by_need("narwhals")
    pd = by_need("pandas")

FRAMES = ("pandas", "polars", "pyarrow")
"""The libraries of data frames."""


class TableForm(NamedTuple):
    """The form of a file of a table."""

    suffix: str = ".csv"
    delimiter: str = ","
    decimal: str = "."
    has_names: bool = True
    """False if the first line has data, and no names."""


def write_frame(path: Path, frame: pd.DataFrame, form: TableForm) -> None:
    """Write a data frame in a form, whose suffix decides between text, Parquet and Feather.

    Raises:
        InputError: if pyarrow is missing.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "out.csv"
        >>> write_frame(path, pd.DataFrame({"a": [1.5, None]}), TableForm(delimiter=";", decimal=","))
        >>> path.read_text().split()
        ['a', '1,5', '""']
    """
    suffix = form.suffix.lower()
    frame = frame.apply(lambda values: _plain_values(values, form.decimal))
    if suffix in (".parquet", ".feather", ".arrow"):
        import_extra("pyarrow", "tables", str(path))
    if suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif suffix in (".feather", ".arrow"):
        frame.to_feather(path)
    else:
        delimiter = "\t" if suffix == ".tsv" else form.delimiter
        frame.to_csv(path, index=False, sep=delimiter, decimal=form.decimal, header=form.has_names)


def _plain_values(values: pd.Series, decimal: str) -> pd.Series:
    """Return a column of numbers as numbers, and one of labels beside numbers as texts."""
    if values.dtype != object:
        return values
    values = values.infer_objects()
    if values.dtype != object or pd.api.types.infer_dtype(values, skipna=True) in ("string", "empty"):
        return values
    return values.map(
        lambda v: repr(float(v)).replace(".", decimal) if isinstance(v, float) else str(v), na_action="ignore"
    )


def labelled(arrays: Mapping[str, np.ndarray], columns: Mapping[str, Sequence[Variable]]) -> pd.DataFrame:
    """Return arrays ``(N, D)`` and ``(N,)`` as a data frame with the names and labels of a fit.

    Args:
        arrays: arrays by name; those of another shape are left out.
        columns: the columns of a fit by the name of their array; of others, the columns are numbered.

    Example:
        >>> columns = {"x": (Variable("age", "count"), Variable("city", "binary", ("Oslo", "Rome")))}
        >>> labelled({"x": np.array([[30.0, 1.0], [41.0, np.nan]]), "y": np.array([3, 4])}, columns).values.tolist()
        [[30, 'Rome', 3], [41, None, 4]]
    """
    named: dict[str, Any] = {}
    for name, array in arrays.items():
        variables = columns.get(name, ())
        if array.ndim == 1:
            named[variables[0].name if len(variables) == 1 else name] = column_values(variables[:1], array)
        elif array.ndim == 2:
            matching = variables if len(variables) == array.shape[1] else ()
            for at in range(array.shape[1]):
                heading = matching[at].name if matching else f"{name}[{at}]"
                named[heading] = column_values(matching[at : at + 1], array[:, at])
    return pd.DataFrame(named)


def column_values(variables: Sequence[Variable], values: np.ndarray) -> Any:
    """Return the values of a column, if there is one: labels, whole numbers of counts and bits, numbers.

    Example:
        >>> column_values([Variable("age", "count")], np.array([3.4, 7.0])).tolist()
        [3, 7]
    """
    if not variables:
        return values
    column = variables[0]
    if column.categories:
        return pd.Series(label_codes(column, np.asarray(values, np.float64)), dtype=object)
    if column.kind == "count" or column.kind in CODED:
        return whole_numbers(values)
    return values


def whole_numbers(values: np.ndarray) -> Any:
    """Return numbers rounded to whole ones, with NA where they are missing."""
    if values.dtype.kind != "f":
        return values
    hole = ~np.isfinite(values)
    if not hole.any() or np.abs(values[~hole]).max(initial=0) >= 2**62:
        return np.round(values).astype(np.int64) if np.abs(values).max(initial=0) < 2**62 else values
    return pd.arrays.IntegerArray(np.round(np.where(hole, 0, values)).astype(np.int64), hole)


def complete(
    frame: pd.DataFrame,
    completed: Mapping[str, np.ndarray],
    hidden: Mapping[str, np.ndarray],
    columns: Mapping[str, Sequence[Variable]],
) -> pd.DataFrame:
    """Return a data frame as it is, but for its holes in the columns of a fit, which are filled in.

    Args:
        frame: the data frame as it was read, with all its columns.
        completed: the completed arrays of the fit by name.
        hidden: true for numbers that are filled in although the frame has them, by the name of the array.
        columns: the columns of the fit by the name of their array.

    Example:
        >>> frame = pd.DataFrame({"id": [7, 8], "city": ["Rome", None]})
        >>> columns = {"x": (Variable("city", "binary", ("Oslo", "Rome")),)}
        >>> complete(frame, {"x": np.array([[1.0], [0.0]])}, {}, columns).values.tolist()
        [[7, 'Rome'], [8, 'Oslo']]
    """
    filled = frame.copy()
    for name, variables in columns.items():
        if name not in completed:
            continue
        new = labelled({name: completed[name]}, {name: variables})
        for at, column in enumerate(variables):
            if column.name not in filled.columns:
                continue
            hole = filled[column.name].isna().to_numpy(dtype=bool)
            if name in hidden:
                hole = hole | hidden[name].reshape(len(filled), -1)[:, at]
            if not hole.any():
                continue
            values, old = new[column.name], filled[column.name]
            if pd.api.types.is_integer_dtype(old.dtype) and not pd.api.types.is_integer_dtype(values.dtype):
                old = old.astype("Float64") if not column.categories else old.astype(object)
            filled[column.name] = old.where(~hole, values)
    return filled


def as_frame(frame: pd.DataFrame, library: str) -> Any:
    """Return a data frame of pandas as one of another library.

    Raises:
        InputError: the library is unknown.

    Example:
        >>> type(as_frame(pd.DataFrame({"a": [1]}), "polars")).__module__.partition(".")[0]
        'polars'
    """
    if library not in FRAMES:
        raise InputError(f"data frames of {library!r} are unknown; {nearest(library, FRAMES)}")
    if library == "pandas":
        return frame
    columns = {name: frame[name].tolist() for name in frame.columns}
    return nw.from_dict(columns, backend="polars" if library == "polars" else "pyarrow").to_native()
