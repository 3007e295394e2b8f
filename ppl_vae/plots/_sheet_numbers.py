"""A sheet whose data are numbers: a table, or strips of colour where a datum has many."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ppl_vae.plots._common import INK, number
from ppl_vae.plots._images import GREY, MISSING, Box, draw_image
from ppl_vae.plots._sheet import ORANGE_NOTE, OWN, STRUCK_NOTE, Sheet, bar_room, bars, first, sheet_page, strike_missing
from ppl_vae.plots._text import height_of, text_width, widest, wrap

LINES, VALUES = 30, 12  # more are not drawn, and the title says so
LINE, STRIP, SPACE = 0.23, 0.19, 0.09  # inches: a line of a table, a strip, and what lies between two rows of data
SHADE, OWN_SHADE = (0.78, 0.86, 0.95), (0.88, 0.84, 0.95)  # light enough for text on it, in grey too


class Line(NamedTuple):
    """A datum of a sheet: its row and column, and what stands before it; a row that goes on is not called again."""

    row: int
    column: int
    row_label: str
    column_label: str


def lines_of(sheet: Sheet) -> list[Line]:
    """The data that are drawn, row by row."""
    lines: list[Line] = []
    for row, column in np.argwhere(sheet.shown).tolist():
        goes_on = bool(lines) and lines[-1].row == row
        row_label = sheet.rows[row] if sheet.rows and not goes_on else ""
        lines.append(Line(row, column, row_label, sheet.columns[column] if sheet.columns else ""))
    return lines


def digits(value: float) -> str:
    r"""A number with at least 3 significant digits, or whole where it is; what is missing is said to be.

    Example:
        >>> [digits(v) for v in (0.12345, 12.345, 1987.4, 3.0, 0.5, 1.5e7, np.nan)]
        ['0.123', '12.3', '1987', '3', '0.500', '1.5e+07', 'missing']
    """
    if not math.isfinite(value):
        return "missing" if math.isnan(value) else ("\N{INFINITY}" if value > 0 else "\N{MINUS SIGN}\N{INFINITY}")
    size = abs(value)
    if value == int(value) and size < 1e6:
        return number(value + 0.0, ".0f")  # no minus before 0
    if not 1e-3 <= size < 1e6:
        return number(value, ".3g")
    return number(value, f".{int(np.clip(2 - math.floor(math.log10(float(f'{size:.3g}'))), 0, 5))}f")


class Table(NamedTuple):
    """What a table shows: numbers ``(L, V)``, which are drawn and which are on their own scale, and its labels."""

    values: np.ndarray
    drawn: np.ndarray
    own: np.ndarray
    header: list[str]
    before: list[list[str]]
    titles: list[str]
    group: list[int]
    left_out: list[str]


def _table_of_cells(sheet: Sheet) -> Table:
    """The sheet's own rows and columns, of one value each."""
    n_rows, n_columns = sheet.shown.shape
    header = list(sheet.columns or (sheet.names if n_columns == 1 else ()))
    labelled = bool(sheet.rows)
    return Table(
        values=sheet.cells[:LINES, :VALUES, 0],
        drawn=sheet.shown[:LINES, :VALUES],
        own=np.tile([c in sheet.own for c in range(n_columns)], (n_rows, 1))[:LINES, :VALUES],
        header=header[:VALUES],
        before=[[label] for label in sheet.rows[:LINES]] if labelled else [[] for _ in range(min(n_rows, LINES))],
        titles=[sheet.row_title] if labelled else [],
        group=[0] * min(n_rows, LINES),
        left_out=[first(LINES, n_rows, "rows"), first(VALUES, n_columns, "columns")],
    )


def _first_lines(lines: list[Line], n_rows: int) -> tuple[list[Line], str]:
    """At most so many, in whole rows of the sheet if one has no more, and what a title says of the others."""
    if len(lines) <= LINES:
        return lines, ""
    if whole := [line for line in lines[:LINES] if line.row < lines[LINES].row]:
        return whole, first(whole[-1].row + 1, n_rows, "rows")
    return lines[:LINES], first(LINES, len(lines), "data")


def _table_of_data(sheet: Sheet) -> Table:
    """A line for each datum."""
    lines, size = lines_of(sheet), sheet.cells.shape[2]
    lines, cut = _first_lines(lines, len(sheet.cells))
    left_out = [cut, first(VALUES, size, "values")]
    before, titles = _before(sheet, lines)
    values = np.array([sheet.cells[line.row, line.column, :VALUES] for line in lines])
    return Table(
        values=values,
        drawn=np.ones(values.shape, bool),
        own=np.tile([[line.column in sheet.own] for line in lines], (1, values.shape[1])),
        header=list(sheet.names or [f"value {d}" for d in range(size)])[:VALUES],
        before=before,
        titles=titles,
        group=[line.row if sheet.cells.shape[1] > 1 else 0 for line in lines],
        left_out=left_out,
    )


def number_sheet(sheet: Sheet) -> Figure:
    """A table: of the sheet's rows and columns where a datum is one value, else with a line for each datum."""
    single = sheet.cells.shape[2] == 1
    table = _table_of_cells(sheet) if single else _table_of_data(sheet)
    values, drawn, own, header, before, titles, group, left_out = table
    texts = [
        [("\N{EN DASH}" if o and np.isnan(v) else digits(v)) if d else "" for v, d, o in zip(*line, strict=True)]
        for line in zip(values, drawn, own, strict=True)
    ]
    header = [wrap(name, 1.0) for name in header]
    widths = [max(widest(column), text_width(head)) + 0.2 for head, *column in _columns(header, texts)]
    label_widths = [max(widest(column), text_width(head)) + 0.2 for head, *column in _columns(titles, before)]
    tops = _tops(group, LINE, SPACE)
    labels, height = sum(label_widths), tops[-1] + LINE
    over = bool(single and sheet.column_title)
    top = height_of([*header, *titles]) + 0.1 + 0.2 * over
    notes = [sheet.note] if sheet.note else []
    if values.size > 1:
        notes.append(f"the darker a cell, the larger its value in {'the table' if single else 'its column'}")
    if sheet.own:
        apart = ", ".join(sheet.columns[c] if sheet.columns else f"column {c}" for c in sheet.own)
        notes.append(f"lilac, by itself: {apart}")
    if (drawn & ~np.isfinite(values) & ~own).any():
        notes.append(ORANGE_NOTE)
    title = _title(sheet.title, left_out)
    fig, ax, _ = sheet_page(labels + sum(widths), height, (0.25, 0.25, top, 0.0), title, notes)

    shades = _shares(values, drawn, own, single)
    right = labels + np.cumsum(widths)
    for i, line in enumerate(texts):
        for j, text in enumerate(line):
            if drawn[i, j]:
                colour = _tint(shades[i, j], own[i, j])
                ax.add_patch(Rectangle((right[j] - widths[j], tops[i]), widths[j], LINE, color=colour, linewidth=0))
                place = (right[j] - 0.1, tops[i] + 0.53 * LINE)
                ax.text(*place, text, ha="right", va="center", fontsize="small", color=INK)
    for x, name in zip(right, header, strict=False):
        ax.text(x - 0.1, -0.06, name, ha="right", va="bottom", fontsize="small", weight="bold", color=INK)
    if over:
        middle, at = labels + sum(widths) / 2, -0.1 - height_of(header)
        ax.text(middle, at, sheet.column_title, ha="center", va="bottom", color=INK)
    _labels(ax, before, titles, label_widths, tops, LINE)
    ax.plot([0, right[-1]], [-0.03, -0.03], color=INK, linewidth=0.9, clip_on=False)
    return fig


def strip_sheet(sheet: Sheet) -> Figure:
    """A strip for each datum, one colour for each of its values."""
    lines, cut = _first_lines(lines_of(sheet), len(sheet.cells))
    title = _title(sheet.title, [cut])
    before, titles = _before(sheet, lines)
    label_widths = [max(widest(column), text_width(head)) + 0.15 for head, *column in _columns(titles, before)]
    grouped = sheet.cells.shape[1] > 1
    tops = _tops([line.row if grouped else 0 for line in lines], STRIP + 0.03, SPACE)
    height, left = tops[-1] + STRIP, sum(label_widths)
    scales = sheet.scales()
    room = bar_room(sheet, scales, height)
    width = max(3.5, min(5.6, 9.8 - left - room))
    notes = [sheet.note] if sheet.note else []
    if sheet.missing():
        notes.append(STRUCK_NOTE)
    margins = (0.2 + left, room, height_of(titles) + 0.05, 0.0)
    fig, ax, beside = sheet_page(width, height, margins, title, notes, 0.38)
    drawn: dict[int | None, AxesImage] = {}
    common: list[tuple[np.ndarray, Box]] = []
    size = sheet.cells.shape[2]
    for line, top in zip(lines, tops, strict=True):
        key = line.column if line.column in sheet.own else None
        image, colours = sheet.cells[line.row, line.column][None], GREY if key is None else OWN
        blend = "auto" if size / width > 75 else "nearest"
        place = (0.0, top, width, STRIP)
        if key is None:
            common.append((image, place))
        drawn[key] = draw_image(ax, image, place, scales[key], colours=colours, interpolation=blend)
    strike_missing(ax, common)
    bars(fig, {key: drawn[key] for key in scales if key in drawn}, sheet, beside)
    _labels(ax, before, titles, label_widths, tops, STRIP, -left - 0.05)
    at = [int(i) for i in MaxNLocator(8, integer=True).tick_values(0, size - 1) if 0 <= i < size]
    ax.set_xticks([(i + 0.5) * width / size for i in at], [str(i) for i in at], fontsize="small")
    ax.tick_params(axis="x", length=3)
    ax.set_xlabel("index of the value", fontsize="small")
    return fig


def _before(sheet: Sheet, lines: list[Line]) -> tuple[list[list[str]], list[str]]:
    """The labels before each line, and what they are, where there are any."""
    kinds = [(sheet.rows, 2, sheet.row_title), (sheet.columns, 3, sheet.column_title)]
    kept = [(field, title) for labels, field, title in kinds if any(labels)]
    return [[str(line[field]) for field, _ in kept] for line in lines], [title for _, title in kept]


def _columns(head: list[str], body: list[list[str]]) -> list[tuple[str, ...]]:
    return list(zip(*([head] if head else [[""] * len(body[0])]), *body, strict=True))


def _tops(group: list[int], step: float, space: float) -> list[float]:
    """Where the lines begin, inches from the top, with a space between one row of data and the next."""
    starts = [float(this != last) for last, this in pairwise(group)]
    return [0.0, *np.cumsum([step + space * new for new in starts]).tolist()]


def _title(title: str, left_out: list[str]) -> str:
    which = ", ".join(text for text in left_out if text)
    return f"{title} ({which})" if which else title


def _shares(values: np.ndarray, drawn: np.ndarray, own: np.ndarray, single: bool) -> np.ndarray:
    """Where each value lies between the least and the largest of its kind, 0 to 1: of its column, or of the table."""
    shares = np.full(values.shape, np.nan)
    kinds = [~own] if single else [~own & (np.arange(values.shape[1]) == j) for j in range(values.shape[1])]
    kinds += [own & (np.arange(values.shape[1]) == j) for j in range(values.shape[1])]
    for kind in kinds:
        kind = kind & drawn & np.isfinite(values)
        if kind.any():
            low, high = values[kind].min(), values[kind].max()
            shares[kind] = (values[kind] - low) / (high - low) if high > low else 0.0
    return shares


def _tint(share: float, own: bool) -> tuple[float, float, float]:
    if not np.isfinite(share):
        return MISSING if not own else (1.0, 1.0, 1.0)
    red, green, blue = (1 - share * (1 - end) for end in (OWN_SHADE if own else SHADE))
    return red, green, blue


def _labels(
    ax: Axes, before: list[list[str]], titles: list[str], widths: list[float], tops: list[float], height: float,
    start: float = 0.0,
) -> None:  # fmt: skip
    """Labels before the lines, and what they are."""
    lefts = start + np.cumsum([0.0, *widths])
    for left, title in zip(lefts, titles, strict=False):
        ax.text(left + 0.05, -0.06, title, va="bottom", fontsize="small", weight="bold", color=INK)
    for line, top in zip(before, tops, strict=True):
        for left, text in zip(lefts, line, strict=False):
            ax.text(left + 0.05, top + 0.53 * height, text, va="center", fontsize="small", color=INK)
