"""A sheet whose data are few numbers: a table with shades."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ppl_vae.plots.cells import Cells
from ppl_vae.plots.images import MISSING, fit, page
from ppl_vae.plots.style import INK, LINE, NOTE, PALE, first, note, number, remarked, tallest, widest, wrap

BOLD = 1.12 * NOTE  # a size at which normal letters are as wide as small bold ones
VALUES = 12  # more columns are not drawn, and the title says so
HEIGHT, PAD = 0.23, 0.1  # of a line and beside a number, inches
SHADE, OWN_SHADE = (0.78, 0.86, 0.95), (0.88, 0.84, 0.95)  # light enough for text on it, in grey too


def table_of(sheet: Cells) -> Figure:
    """Draw a table of the sheet's rows and columns if a datum is one value, else with a line for each datum."""
    n_rows, n_columns, size = sheet.cells.shape
    data, one_value = sheet, size == 1
    if one_value:  # the rows are the data, and the columns their values
        data = replace(sheet, cells=sheet.cells.reshape(n_rows, 1, n_columns), shown=np.ones((n_rows, 1), bool))
        names = sheet.columns or (sheet.names if n_columns == 1 else ()) or ("",) * n_columns
    else:
        names = sheet.names or tuple(f"value {d}" for d in range(size))
    lines, left_out = data.lines()
    remarks = [left_out, first(VALUES, len(names), "columns" if one_value else "values")]
    values = np.array([data.cells[line][:VALUES] for line in lines])
    drawn = sheet.shown[: len(lines), :VALUES] if one_value else np.ones(values.shape, bool)
    index = np.arange(values.shape[1])
    own = np.isin(index if one_value else [[column] for _, column in lines], sheet.own) & np.ones(values.shape, bool)
    kinds = np.where(own, -1 - index, 0 if one_value else index)

    write = np.vectorize(lambda v, alone: "\N{EN DASH}" if alone and np.isnan(v) else digits(v), otypes=[object])
    texts = np.where(drawn, write(values, own), "")
    header = [wrap(name, 1.0) for name in names[:VALUES]]
    colours = np.ones((*values.shape, 3))
    colours[drawn] = shades(values, kinds, drawn)[drawn]
    begins = [i == 0 or lines[i - 1][0] != row for i, (row, _) in enumerate(lines)]
    before = []
    if any(sheet.rows):
        one_line = [label.replace("\n", ": ") for label in sheet.rows]
        labels = [one_line[row] if new else "" for new, (row, _) in zip(begins, lines, strict=True)]
        before.append([sheet.row_title, *labels])
    if any(sheet.columns) and not one_value:
        before.append([sheet.column_title, *(sheet.columns[column] for _, column in lines)])
    columns = [*before, *([name, *column] for name, column in zip(header, texts.T, strict=True))]
    widths = [max(widest(column), widest(column[:1], BOLD)) + 2 * PAD for column in columns]
    top = max(tallest(header), NOTE * LINE) + 0.06

    notes = list(sheet.notes)
    if values.size > 1:
        notes.append(f"the darker a cell, the larger its value in {'the table' if one_value else 'its column'}")
    if sheet.own:
        notes.append(f"lilac, by itself: {', '.join(sheet.column_name(c) for c in sheet.own)}")
    if (drawn & ~np.isfinite(values) & ~own).any():
        notes.append("orange: missing or not finite")
    fig, ax = page(remarked(sheet.title, remarks), sum(widths), top + HEIGHT * len(lines))
    if one_value and sheet.column_title:
        ax.set_xlabel(sheet.column_title)
    white = np.ones((len(lines), len(before), 3))
    table = ax.table(
        cellText=list(map(list, zip(*(column[1:] for column in columns), strict=True))),
        cellColours=np.concatenate([white, colours], 1).tolist(),
        colLabels=[column[0] for column in columns],
        colWidths=widths,
        bbox=Bbox.unit(),
    )
    table.auto_set_font_size(False)
    table.set_in_layout(False)  # it fills its axes, whose size is known
    for (line, column), cell in table.get_celld().items():
        cell.set(height=HEIGHT if line else top, linewidth=0)
        cell.PAD = PAD / widths[column]  # a share of its width
        cell.set_text_props(size=NOTE, color=INK, ha="left" if column < len(before) else "right")
        cell.get_text().set_fontweight("normal" if line else "bold")
    ax.hlines(top, 0, sum(widths), color=INK, linewidth=0.9)
    if n_columns > 1 and not one_value:
        new = np.flatnonzero(begins)[1:]
        ax.hlines(top + HEIGHT * new, 0, sum(widths), color=PALE, linewidth=0.6)
    note(fig, notes, "; ", x=0.5, ha="center")
    fit(fig, ax)
    return fig


def digits(value: float) -> str:
    r"""Return a number with at least 3 significant digits, or whole if it is, or the word "missing".

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


def shades(values: np.ndarray, kinds: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return a colour for each value, the darker the larger it is among the values of its kind.

    Args:
        values: the values, ``(L, V)``.
        kinds: integers ``(L, V)``; a negative one is a kind on its own scale, of which nothing is missing.
        drawn: the values that are drawn, Boolean, ``(L, V)``.
    """
    colours = np.where((kinds < 0)[..., None], 1.0, np.array(MISSING))
    for kind in np.unique(kinds):
        alike = (kinds == kind) & drawn & np.isfinite(values)
        if alike.any():
            low, high = values[alike].min(), values[alike].max()
            share = (values[alike] - low) / (high - low) if high > low else np.zeros(alike.sum())
            colours[alike] = 1 - share[:, None] * (1 - np.array(OWN_SHADE if kind < 0 else SHADE))
    return colours
