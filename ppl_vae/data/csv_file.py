"""Tables of numbers in a .csv file, one row per datum."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ppl_vae.errors import InputError

LABEL_COLUMNS = ("y", "label")


def read_csv(path: Path, *, holes: bool = False) -> dict[str, np.ndarray]:
    """Read columns of numbers between commas, with or without a line of names.

    A first line with anything but numbers holds the names. A column named y or label, of whole numbers, is
    y, shape ``(N,)``, int64; all others are x, shape ``(N, D)``, float64. With ``holes``, an empty field is NaN.

    Raises:
        InputError: if a field is not a number, rows differ in length, the file is empty, or the labels are not
            whole numbers.
    """
    names, num_before = _names(path)
    table = _table(path, num_before, len(names), holes)
    labels = [column for column, name in enumerate(names) if name in LABEL_COLUMNS]
    if len(labels) > 1:
        raise InputError(f"{path} has {len(labels)} columns called y or label: rename all but one")
    x = np.delete(table, labels, axis=1)
    if x.shape[1] == 0:
        raise InputError(f"{path} has labels only: expected at least one more column, for x")
    if not labels:
        return {"x": x}
    return {"x": x, "y": _whole_numbers(path, names[labels[0]], table[:, labels[0]])}


def _names(path: Path) -> tuple[list[str], int]:
    """Return the names of the columns, if there are any, and the number of lines before the first row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            first = next((row for row in reader if row), None)
            num_lines = reader.line_num
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} ({error}): save it as plain text, UTF-8") from error
    if first is None:
        raise _no_rows(path)
    if all(_is_number(field) for field in first if field.strip()):
        return [], 0
    return [name.strip().lower() for name in first], num_lines


def _table(path: Path, num_before: int, num_names: int, holes: bool) -> np.ndarray:
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = file.readlines()[num_before:]
        if not any(line.strip() for line in lines):
            raise _no_rows(path)
        number = _number_or_hole if holes else None
        table = np.loadtxt(lines, delimiter=",", ndmin=2, comments=None, quotechar='"', converters=number)
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path} ({error}): save it as plain text, UTF-8") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(_first_fault(path, num_before, holes) or f"cannot read {path}: {error}") from error
    if num_names not in (0, table.shape[1]):
        raise InputError(f"{path} has {num_names} names and {table.shape[1]} columns: complete the first line")
    return table


def _first_fault(path: Path, num_before: int, holes: bool) -> str | None:
    """Describe the first fault of the table; NumPy's message does not count the lines of the file."""
    width = None
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        for row in reader:
            if not row or reader.line_num <= num_before:
                continue
            width = width or len(row)
            if len(row) != width:
                return f"{path} line {reader.line_num} has {len(row)} values, the first row {width}: complete it"
            for column, field in enumerate(row, start=1):
                if not _is_number(field) and (field.strip() or not holes):
                    where = f"{path} line {reader.line_num}, column {column}"
                    return f"{where}: {field[:40]!r} is no number: fill it in or remove the row"
    return None


def _whole_numbers(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    whole = values == np.round(values)
    if not (whole.all() and np.isfinite(values).all()):
        row = int(np.argmin(whole & np.isfinite(values)))
        raise InputError(
            f"{path}: label {values[row]:g} in row {row} is no whole number: "
            f"number the classes from 0, or rename column '{name}'"
        )
    return values.astype(np.int64)


def _number_or_hole(field: str) -> float:
    return float(field) if field.strip() else np.nan


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _no_rows(path: Path) -> InputError:
    return InputError(f"{path} has no rows of numbers: expected one line a datum, values between commas")
