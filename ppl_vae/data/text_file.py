"""Delimited text as people have it: the delimiter, the line of names, the decimal sign and the encoding are found."""

from __future__ import annotations

import codecs
import csv
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

from ppl_vae.data.numbers_in_text import MISSING, convert_texts, find_decimal, is_number
from ppl_vae.errors import InputError
from ppl_vae.imports import by_need

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = by_need("pandas")

DELIMITERS = ("\t", ";", "|", ",", " ")
"""The delimiters, the first that splits all lines alike is taken; a space stands for any number of them."""
WORDS = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma", " ": "space"}
SAMPLE_LINES, CONSISTENT = 200, 0.9
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
CHUNK = 1 << 20
LIKE_ASCII = ("utf-8", "utf-8-sig", "cp1252", "ascii", "latin-1", "iso-8859-1")
"""The encodings in which a byte of a delimiter, a quote or the end of a line stands for nothing else."""


class Layout(NamedTuple):
    """The layout of a text file, as it was given; None stands for a part that is inferred."""

    delimiter: str | None = None
    """The delimiter; a space stands for any white space."""
    decimal: str | None = None
    """The decimal sign, "." or ","."""
    header_lines: int | None = None
    """The number of lines before the data: 0, 1 for a line of names, 2 if a line of units follows it."""
    encoding: str | None = None
    """The encoding, such as utf-8 or cp1252."""


FIND_ALL = Layout()


class TextTable(NamedTuple):
    """The columns of a text file, what was guessed, and a function from a row to its line in the file."""

    frame: pd.DataFrame
    notes: list[str]
    path: Path
    layout: Layout
    skipped: int

    def place(self, row: int) -> str:
        """Return the place of a row in words: its line in the file."""
        lines = (line for line, _ in _logical_lines(self.path, self.layout, self.skipped))
        line = next(islice(lines, row, None), "?")
        return f"{self.path} line {line}"


def read_text(path: Path, asked: Layout = FIND_ALL, kinds: Sequence[str] = ()) -> TextTable:
    """Read delimited text.

    Args:
        path: path of the file.
        asked: what is known of its layout; the rest is found.
        kinds: names of columns whose texts are categories.

    Raises:
        InputError: if the file is no text, has no rows, lines differ in their number of fields, or a number is broken.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "own.csv"
        >>> _ = path.write_text("height;weight\\n1,5;60\\n1,7;?\\n")
        >>> read_text(path).frame["height"].tolist()
        [1.5, 1.7]
    """
    notes: list[str] = []
    layout = asked._replace(encoding=asked.encoding or _find_encoding(path, notes))
    with _opened(path, layout) as file:
        lines = list(islice(file, SAMPLE_LINES))
    if len("".join(lines)) == 0 or not any(line.strip() for line in lines):
        raise _no_rows(path)
    if "\0" in "".join(lines):
        raise InputError(f"cannot read {path} (it is no text): save it as plain text, UTF-8")
    top = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    if marked := re.fullmatch(r"sep=(.)\s*", lines[top]) if top < len(lines) else None:
        layout, top = layout._replace(delimiter=layout.delimiter or marked[1]), top + 1
    delimiter = layout.delimiter or _find_delimiter(lines[top:])
    if delimiter not in DELIMITERS and len(delimiter) != 1:
        raise InputError(f"delimiter {delimiter!r}: expected one sign, such as ';', or ' ' for any white space")
    layout = layout._replace(delimiter=delimiter)
    rows = list(_rows_of(lines[top:], delimiter))
    if not rows:
        raise _no_rows(path)
    names, num_header = _find_names(path, [row for _, row in rows], asked.header_lines, notes)
    if num_header >= len(rows):
        raise _no_rows(path)
    width = len(names)
    decimal = asked.decimal or find_decimal([row for _, row in rows[num_header:]], delimiter, notes)
    if decimal not in (".", ","):
        raise InputError(f"decimal {decimal!r}: expected '.' or ','")
    layout = layout._replace(decimal=decimal, header_lines=num_header)
    skipped = top + (rows[num_header - 1][0] if num_header else 0)
    table = TextTable(_read(path, layout, skipped, width), notes, path, layout, skipped)
    _check_widths(table, width)
    for name in names:
        if name and names.count(name) > 1:
            raise InputError(f"{path}: two columns are called {name!r}: rename one of them")
    if names.count("") > 1:
        names = [name or f"column {i + 1}" for i, name in enumerate(names)]
    columns = {
        name: convert_texts(name, table.frame.iloc[:, i], decimal, table.place, notes, as_text=name in kinds)
        for i, name in enumerate(names)
    }
    return table._replace(frame=pd.DataFrame(columns, copy=False))


def _opened(path: Path, layout: Layout) -> TextIO:
    try:
        return path.open(encoding=layout.encoding, newline="")
    except LookupError as error:
        raise InputError(f"encoding {layout.encoding!r} is unknown: expected a name such as utf-8 or cp1252") from error


def _find_encoding(path: Path, notes: list[str]) -> str:
    """Return the encoding of a file: that of its byte-order mark, UTF-8, or Windows-1252."""
    with path.open("rb") as file:
        start = file.read(4)
        for mark, name in BOMS:
            if start.startswith(mark):
                return name
        for name in ("utf-8", "cp1252"):
            file.seek(0)
            decoder = codecs.getincrementaldecoder(name)()
            try:
                while chunk := file.read(CHUNK):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                continue
            if name != "utf-8":
                notes.append("the file is no UTF-8 and was read as Windows-1252; --encoding decides otherwise")
            return name
    raise InputError(f"cannot read {path} (it is neither UTF-8 nor Windows-1252): save it as UTF-8, or name --encoding")


def _find_delimiter(lines: Sequence[str]) -> str:
    for delimiter in DELIMITERS:
        rows = list(_rows_of(lines, delimiter))
        widths = Counter(len(row) for _, row in rows)
        width, count = widths.most_common(1)[0] if widths else (1, 0)
        if width > 1 and count >= CONSISTENT * len(rows):
            return delimiter
    return max(DELIMITERS[:-1], key=lambda delimiter: sum(line.count(delimiter) for line in lines[:2]))


def _rows_of(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of lines that are not blank, each with the number of lines up to its end."""
    if delimiter == " ":  # any white space
        yield from ((i, line.split()) for i, line in enumerate(lines, start=1) if line.strip())
        return
    last = ""

    def remembered() -> Iterator[str]:
        nonlocal last
        for line in lines:
            last = line
            yield line

    reader = csv.reader(remembered(), delimiter=delimiter, skipinitialspace=True)
    for row in reader:
        if last.strip() or len(row) > 1:
            yield reader.line_num, row


def _find_names(path: Path, rows: list[list[str]], asked: int | None, notes: list[str]) -> tuple[list[str], int]:
    """Return the names of the columns and the number of rows before the data."""
    width = Counter(map(len, rows[1:] or rows)).most_common(1)[0][0]
    first, rest = [field.strip() for field in rows[0]], rows[1 : SAMPLE_LINES // 2]
    number = asked
    if number is None:
        number = int(_is_header(first, rest, notes))
        second = [field.strip() for field in rest[0]] if rest else []
        if number and len(rest) > 1 and len(second) == width and _is_units(second, rest[1:]):
            number = 2
            notes.append(f"line 2 was read as units ({', '.join(second[:4])}); --header-lines 1 reads it as data")
    if number == 0:
        return [str(i + 1) for i in range(width)], 0
    if len(first) == width - 1 and rest:  # R writes the names of the rows without a name
        first = ["", *first]
    if len(first) != width:
        raise InputError(f"{path} has {len(first)} names and {width} columns: complete the first line")
    return first, number


def _is_header(first: list[str], rest: list[list[str]], notes: list[str]) -> bool:
    """Return True if the first row holds the names of the columns."""
    columns = list(zip(*(row for row in rest if len(row) == len(first)), strict=True))
    below = [[field.strip() for field in column if field.strip() not in MISSING] for column in columns]
    is_numeric = [sum(map(is_number, column)) > len(column) / 2 for column in below]
    known = [field for field in first if field not in MISSING]
    texts = [field for field in known if not is_number(field)]
    if texts:
        reals = [field for field in known if is_number(field) and not re.fullmatch(r"[+-]?\d+", field)]
        if len(reals) > len(texts) and len(known) > 1:  # a broken number in the first row
            return False
        if any(not is_number(field) and numeric for field, numeric in zip(first, is_numeric, strict=False)):
            return True
        repeated = [field in column for field, column in zip(first, below, strict=False)]
        return len(texts) == len(known) and not all(repeated) if below else True
    if not known or any(not re.fullmatch(r"\d+", field) for field in known) or len(known) < 3:
        return False
    numbers = [int(field) for field in known]
    steps = {after - before for before, after in pairwise(numbers)}
    is_real = bool(below) and all(
        any(not re.fullmatch(r"[+-]?\d+", f) for f in column) for column in below[-len(known) :]
    )
    counts = numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
    others = [[int(f) if re.fullmatch(r"\d+", f.strip()) else None for f in row] for row in rest[:20]]
    unlike = not any(None not in row and len(set(row)) == len(row) and sorted(row) == row for row in others)  # type: ignore[type-var]
    if len(steps) == 1 and steps != {0} and (is_real or (counts and unlike)):
        notes.append(f"line 1 ({', '.join(known[:4])}, ...) was read as names; --header-lines 0 reads it as data")
        return True
    return False


def _is_units(second: list[str], rest: list[list[str]]) -> bool:
    columns = list(zip(*(row for row in rest if len(row) == len(second)), strict=True))
    numeric = [i for i, column in enumerate(columns) if any(is_number(field.strip()) for field in column)]
    return bool(numeric) and all(
        second[i] not in MISSING and not any(sign.isdigit() for sign in second[i]) for i in numeric
    )


def _read(path: Path, layout: Layout, skipped: int, width: int) -> pd.DataFrame:
    """Read the columns, whose types are inferred in blocks of lines; if the blocks differ, in all lines at once."""
    try:
        frame = _parsed(path, layout, skipped, width, low_memory=True)
        differing = [name for name in frame if frame[name].dtype == object]
        if differing:
            frame[differing] = _parsed(path, layout, skipped, width, usecols=differing, low_memory=False)
        return frame
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        for line, row in _logical_lines(path, layout, skipped):
            _check_width(path, line, row, width)
        raise InputError(f"cannot read {path} ({str(error).strip()[:90]}): save it again") from error


def _parsed(path: Path, layout: Layout, skipped: int, width: int, **options: Any) -> pd.DataFrame:
    with _opened(path, layout) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)
        for _ in range(skipped):
            file.readline()
        return pd.read_csv(
            file,
            sep=r"\s+" if layout.delimiter == " " else layout.delimiter,
            header=None,
            names=list(range(width)),
            index_col=False,
            skipinitialspace=True,
            decimal=layout.decimal or ".",
            na_values=sorted(MISSING),
            keep_default_na=False,
            dtype_backend="numpy_nullable",
            on_bad_lines="error",
            **options,
        )


def _check_widths(table: TextTable, width: int) -> None:
    """Raise ``InputError`` for a line with too few or too many fields; pandas fills them up or cuts them."""
    if table.frame.iloc[:, -1].isna().any() or table.layout.delimiter == " " or len(table.frame) <= SAMPLE_LINES:
        if _are_plainly_whole(table, width):
            return
        for line, row in _logical_lines(table.path, table.layout, table.skipped):
            _check_width(table.path, line, row, width)


def _are_plainly_whole(table: TextTable, width: int) -> bool:
    """Return True if every line has the right number of delimiters, which are counted without parsing the fields.

    False decides nothing: the fields are then parsed one by one.
    """
    delimiter = (table.layout.delimiter or ",").encode()
    if delimiter == b" " or len(delimiter) > 1 or (table.layout.encoding or "").lower() not in LIKE_ASCII:
        return False
    with table.path.open("rb") as file:
        before = b"".join(file.readline() for _ in range(table.skipped))
        if before.count(b"\r") != before.count(b"\r\n"):
            return False
        while chunk := file.read(CHUNK) + file.readline():
            while chunk.count(b'"') % 2 and len(chunk) < 3 * CHUNK and (line := file.readline()):
                chunk += line  # the last line ends within quotes
            if not _have_delimiters(chunk, delimiter, width):
                return False
    return True


def _have_delimiters(chunk: bytes, delimiter: bytes, width: int) -> bool:
    """Return True if every line of a chunk is empty or has the delimiters that separate ``width`` fields.

    Example:
        >>> [_have_delimiters(chunk, b",", 2) for chunk in (b'1,2\\n\\n"3,5",4,\\n', b"1,2\\n3\\n", b'1,"2\\n')]
        [True, False, False]
    """
    if chunk.count(b"\r") != chunk.count(b"\r\n") or chunk.count(b'"') % 2:
        return False
    signs = np.frombuffer(chunk, np.uint8)
    is_end, is_delimiter = signs == ord("\n"), signs == delimiter[0]
    if b'"' in chunk:
        outside = np.bitwise_xor.accumulate((signs == ord('"')).view(np.uint8)) == 0
        is_end, is_delimiter = is_end & outside, is_delimiter & outside
    places, ends = np.flatnonzero(is_delimiter), np.flatnonzero(is_end)
    if not chunk.endswith(b"\n"):
        ends = np.append(ends, len(signs))
    starts = np.append(0, ends[:-1] + 1)
    stops = ends - (signs[np.maximum(ends - 1, 0)] == ord("\r"))  # of the line without its end
    counts = np.diff(np.searchsorted(places, ends), prepend=0)
    is_closed = (counts == width) & (signs[np.maximum(stops - 1, 0)] == delimiter[0])  # by a delimiter, as some write
    return bool(((counts == width - 1) | is_closed | (stops <= starts)).all())


def _check_width(path: Path, line: int, row: list[str], width: int) -> None:
    if len(row) != width and not (len(row) == width + 1 and not row[-1].strip()):
        comment = ", which is a comment: remove it" if row[0].startswith("#") else ": complete it"
        raise InputError(f"{path} line {line} has {len(row)} values, the first row {width}{comment}")


def _logical_lines(path: Path, layout: Layout, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of data, each with the number of its line in the file, counted from 1."""
    with _opened(path, layout) as file:
        for _ in range(skipped):
            file.readline()
        yield from ((skipped + line, row) for line, row in _rows_of(file, layout.delimiter or ","))


def _no_rows(path: Path) -> InputError:
    return InputError(f"{path} has no rows of numbers: expected one line a datum, values between commas")
