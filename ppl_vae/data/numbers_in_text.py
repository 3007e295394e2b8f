"""Numbers as people write them: decimal commas, thousands, percent signs; and texts that only look like numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ppl_vae.errors import InputError
from ppl_vae.imports import by_need

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = by_need("pandas")

MISSING = frozenset(
    ("", "NA", "N/A", "n/a", "na", "#N/A", "#NA", "<NA>", "NaN", "nan", "-nan", "-NaN", "NULL", "Null", "null")
) | frozenset(("None", "none", "?", "-", "--", ".", "..", "1.#QNAN", "-1.#QNAN", "1.#IND", "-1.#IND"))
"""Fields that mean that a value is missing."""
PLAIN = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf(?:inity)?"
GROUPS = "',\u2019 \u00a0\u202f"
"""Signs between thousands, if they are not the decimal sign."""
DATES = (
    r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T ]\d{1,2}:\d{2}.*)?",
    r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}([T ]\d{1,2}:\d{2}.*)?",
    r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?",
    r"\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4}",
)
NEARLY = {
    r"[+-]?\d[\d_]*_[\d_]*(\.\d+)?": "an underscore between digits",
    r"0[xX][0-9a-fA-F]+": "a hexadecimal number",
    r"[$€£¥]\s?[+-]?[\d.,]+|[+-]?[\d.,]+\s?[$€£¥]": "a sign of money",
}


def is_number(text: str) -> bool:
    """Return True for a number in some way of writing.

    Example:
        >>> [is_number(text) for text in ("1.5", "-0,5", "1,234.5", "1e3", "12 %", "2020-01-01", "1_000", "a")]
        [True, True, True, True, True, False, False, False]
    """
    return any(parse_number(text, decimal) is not None for decimal in ".,")


def parse_number(text: str, decimal: str) -> int | float | None:
    """Return the number that a text stands for, an int if it is whole, or None if it stands for none.

    Example:
        >>> parse_number("1.234,5", ","), parse_number("1,234", "."), parse_number("7 %", "."), parse_number("0,5", ".")
        (1234.5, 1234, 7, None)
    """
    text = text.strip().removesuffix("%").strip()
    group = "." if decimal == "," else ","
    if decimal == "," and re.fullmatch(r"[^.]*", text):
        plain = text.replace(",", ".")
    elif decimal == "," and re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+(,\d*)?", text):
        plain = text.replace(".", "").replace(",", ".")
    elif decimal == ",":
        return None
    else:
        plain = text
    sign = re.escape("".join({*GROUPS, group} - {decimal}))
    if re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}(?:([{sign}])\d{{3}})(?:\1\d{{3}})*(?:\.\d*)?", plain):
        plain = re.sub(rf"[{sign}]", "", plain)
    if not re.fullmatch(PLAIN, plain, re.IGNORECASE):
        return None
    return int(plain) if re.fullmatch(r"[+-]?\d+", plain) else float(plain)


def find_decimal(rows: Sequence[Sequence[str]], delimiter: str, notes: list[str]) -> str:
    """Return the decimal sign of the fields of some rows.

    Example:
        >>> find_decimal([["-0,5", "7"]], ";", []), find_decimal([["1,234.5"]], ",", []), find_decimal([["1"]], ";", [])
        (',', '.', '.')
    """
    fields = [field.strip() for row in rows for field in row if "," in field]
    if any(re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d+", field) for field in fields):
        return ","
    commas = [field for field in fields if re.fullmatch(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s?%?", field)]
    grouped = [field for field in commas if re.fullmatch(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+", field)]
    points = any(
        re.fullmatch(r"[+-]?[\d,]*\.\d+(?:[eE][+-]?\d+)?\s?%?", field.strip()) for row in rows for field in row
    )
    if points or not commas:
        return "."
    if len(grouped) == len(commas):
        if delimiter == ",":
            return "."
        notes.append(f"{commas[0]!r} was read with a decimal comma; --decimal . reads the comma between thousands")
    return ","


def convert_texts(
    name: str,
    column: pd.Series,
    decimal: str,
    place: Callable[[int], str],
    notes: list[str],
    *,
    as_text: bool = False,
) -> pd.Series:
    """Return a column of a text file as numbers if its texts are numbers in some way of writing.

    Args:
        name: the name of the column.
        column: the column as pandas has read it.
        decimal: the decimal sign.
        place: a function from a row to its place in the file.
        notes: the list that notes are appended to.
        as_text: If True, texts that are not numbers are categories.

    Raises:
        InputError: if most of the texts are numbers and one is none, or they are dates, or only look like numbers.

    Example:
        >>> convert_texts("a", pd.Series(["1,206", "7"], dtype="string"), ".", str, []).tolist()
        [1206, 7]
    """
    if not pd.api.types.is_string_dtype(column.dtype) and not pd.api.types.is_object_dtype(column.dtype):
        return column
    codes, texts = _factorized(column)
    known = codes[codes >= 0]
    if len(known) == 0:
        return _textual(codes, texts)
    share = np.bincount(known, minlength=len(texts)) / len(known)
    numbers = [parse_number(text, decimal) for text in texts]
    is_bad = np.array([number is None for number in numbers])
    if not is_bad.any():
        if all(text.endswith("%") for text in texts):
            notes.append(f"column {name!r} is in percent")
        return _numeric(codes, [number for number in numbers if number is not None])
    if as_text:
        return _textual(codes, texts)
    if share[~is_bad].sum() >= 0.5:
        row = int(np.argmax(is_bad[codes] & (codes >= 0)))
        text = texts[codes[row]]
        remedy = "remove the line, which repeats the names" if text == name else "correct it, or remove the row"
        if re.fullmatch(r"[+-]?\d*,\d+", text):
            remedy = "--decimal , reads decimal commas"
        raise InputError(f"{place(row)}, column {name!r}: {text[:40]!r} is not a number: {remedy}")
    _refuse_lookalikes(name, texts, share)
    return _textual(codes, texts)


def _factorized(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return the distinct texts of a column without white space around them, and their codes, -1 for missing ones."""
    codes, distinct = pd.factorize(column)
    stripped = [str(text).strip() for text in distinct]
    position = {text: code for code, text in enumerate(dict.fromkeys(t for t in stripped if t not in MISSING))}
    return np.array([*(position.get(text, -1) for text in stripped), -1])[codes], list(position)


def _textual(codes: np.ndarray, texts: Sequence[str]) -> pd.Series:
    """Return the texts of a column, with NA where a code is -1."""
    return pd.Series(pd.array(np.array([*texts, pd.NA], object)[codes], dtype="string"))


def _refuse_lookalikes(name: str, texts: Sequence[str], share: np.ndarray) -> None:
    def most(pattern: str) -> bool:
        return share[[bool(re.fullmatch(pattern, text)) for text in texts]].sum() > 0.5

    as_categories = f"or take its values for categories, --kinds {name}=categorical"
    if any(most(pattern) for pattern in DATES):
        raise InputError(
            f"column {name!r} has dates or times, such as {texts[0]!r}: leave it out, --drop {name}, {as_categories}"
        )
    for pattern, what in NEARLY.items():
        if most(pattern):
            raise InputError(f"column {name!r} has {what}, {texts[0]!r}: write plain numbers, {as_categories}")


def _numeric(codes: np.ndarray, numbers: Sequence[int | float]) -> pd.Series:
    """Return the numbers of a column, exact if they are whole, with NA where a code is -1."""
    if all(isinstance(number, int) and abs(number) < 2**63 for number in numbers):
        values = pd.array(np.array(numbers, np.int64)[codes], dtype="Int64")
    else:
        values = pd.array(np.array(numbers, np.float64)[codes], dtype="Float64")
    values[codes < 0] = pd.NA
    return pd.Series(values)
