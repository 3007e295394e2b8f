"""The structure of all results: named rows of numbers, and columns that say how the numbers are printed."""

from __future__ import annotations

import html
import math
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple


class Column(NamedTuple):
    """A column of a table: the key of its numbers, and how they are printed."""

    key: str
    """The key in a row and in JSON."""
    head: str
    spec: str = ""
    """The format of a number."""
    error: str = ""
    """The key of an error that is printed behind the number."""
    scale: float = 1.0
    """A factor of the printed number."""
    rank: int = 0
    """The order in which columns are left out of a table that is too wide, the highest first; 0 always stays."""


class ResultTable(NamedTuple):
    """A table of results, one row per estimator, run or posterior.

    The rows are what JSON files hold. The terminal, a notebook and a report print the same cells.

    Example:
        >>> columns = (Column("", "run"), Column("nats", "nats", ".2f", error="se"))
        >>> print("\\n".join(ResultTable("a fit", columns, {"a": {"nats": -17.053, "se": 0.1234}}).lines()))
        run            nats
        a    -17.05 ± 0.12
    """

    caption: str
    columns: tuple[Column, ...]
    rows: Mapping[str, Mapping[str, Any]]
    """Values by key, for every row by its name."""
    texts: Mapping[str, Mapping[str, str]] = {}
    """Cells that print a text instead of the number that the row has there."""
    left: int = 1
    """The number of columns that are aligned to the left."""

    @property
    def head(self) -> list[str]:
        """The headings of the columns."""
        return [column.head for column in self.columns]

    def cells(self, missing: str | None = None) -> list[list[str]]:
        """Return the cells as text; a cell without a value is empty, and the first cell is the row's name.

        Args:
            missing: the text of a number that is not known or not finite; by default it is printed as it is.
        """
        return [
            [
                self._cell(column, {self.columns[0].key: name, **row, **self.texts.get(name, {})}, missing)
                for column in self.columns
            ]
            for name, row in self.rows.items()
        ]

    def lines(self, width: int | None = None) -> list[str]:
        """Return the head and the rows as lines of text, with aligned columns.

        If a table is too wide, its headings take two lines. If it is still too wide, columns are left out by their
        rank, and a last line names them.

        Args:
            width: the largest number of characters in a line; by default that of the terminal, or 80.
        """
        width = shutil.get_terminal_size().columns if width is None else width
        kept, rows = list(range(len(self.columns))), self.cells()
        heads = [[head] for head in self.head]
        if _width(rows, kept, heads) > width:
            heads = [_in_two(head) for head in self.head]
        ranked = sorted((i for i in kept if self.columns[i].rank), key=lambda i: -self.columns[i].rank)
        left_out = []
        while _width(rows, kept, heads) > width and ranked:
            left_out.append(ranked.pop(0))
            kept.remove(left_out[-1])
        height = max(len(heads[i]) for i in kept)
        head_lines = [[([""] * (height - len(heads[i])) + heads[i])[line] for i in kept] for line in range(height)]
        lines = [*head_lines, *([row[i] for i in kept] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        signs = ["<" if i < self.left else ">" for i in kept]
        note = f"left out in {width} columns: {', '.join(self.head[i] for i in sorted(left_out))}"
        return [
            *(
                "  ".join(f"{cell:{sign}{size}}" for cell, sign, size in zip(line, signs, widths, strict=True)).rstrip()
                for line in lines
            ),
            *(_wrapped(note, width).split("\n") if left_out else []),
        ]

    def text(self, *notes: str) -> str:
        """Return the caption, the lines and some notes as one text, which fits the terminal."""
        width = max(shutil.get_terminal_size().columns, 40)
        caption, *below = (_wrapped(note, width) for note in (self.caption, *notes))
        return "\n".join([caption, *self.lines(width), *below])

    def _repr_html_(self) -> str:
        rows = [("th", self.head), *(("td", row) for row in self.cells())]
        body = ("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) for tag, cells in rows)
        return (
            f"<table><caption>{html.escape(self.caption)}</caption>{''.join(f'<tr>{row}</tr>' for row in body)}</table>"
        )

    @staticmethod
    def _cell(column: Column, row: Mapping[str, Any], missing: str | None) -> str:
        if column.key not in row:
            return ""
        values = [row[column.key]]
        if column.error and not isinstance(values[0], str):
            values.append(row.get(column.error))
        return " ± ".join(shown(value, column.spec, column.scale, missing=missing) for value in values)


def _width(rows: Sequence[Sequence[str]], kept: Sequence[int], heads: Sequence[Sequence[str]]) -> int:
    """Return the width of some columns of a table whose headings have some lines each."""
    widths = [max(map(len, [*heads[i], *(row[i] for row in rows)])) for i in kept]
    return sum(widths) + 2 * (len(widths) - 1)


def _in_two(head: str) -> list[str]:
    """Return a heading in two lines that are as short as can be.

    Example:
        >>> _in_two("Monte Carlo error"), _in_two("seconds")
        (['Monte Carlo', 'error'], ['seconds'])
    """
    words = head.split(" ")
    splits = [[" ".join(words[:i]), " ".join(words[i:])] for i in range(1, len(words))]
    return min(splits, key=lambda split: (max(map(len, split)), -len(split[0]))) if splits else [head]


def _wrapped(text: str, width: int) -> str:
    """Return a text whose lines have at most this width; words that are longer stay whole."""
    fill = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(fill(line) if len(line) > width else line for line in text.split("\n"))


def text_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> ResultTable:
    """Make a table of cells that are text."""
    columns = tuple(Column(str(i), name) for i, name in enumerate(head))
    return ResultTable(
        caption,
        columns,
        {str(n): {str(i): cell for i, cell in enumerate(row)} for n, row in enumerate(rows)},
        left=left,
    )


def shown(value: Any, spec: str = "", scale: float = 1.0, *, missing: str | None = None) -> str:
    """Return a number as text.

    Args:
        value: the number; text stays as it is.
        spec: the format.
        scale: a factor.
        missing: the text of None and of a number that is not finite; by default they are printed as they are.

    Example:
        >>> shown(-17.0627, ".2f"), shown(0.0129, ".2f", 1000), shown("cpu"), shown(math.inf, ".1f", missing="-")
        ('-17.06', '12.90', 'cpu', '-')
    """
    if missing is not None and (value is None or (isinstance(value, float) and not math.isfinite(value))):
        return missing
    if isinstance(value, str | bool) or value is None:
        return str(value)
    return format(value * scale if scale != 1 else value, spec)
