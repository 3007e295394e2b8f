"""A sheet of data in rows and columns: images, sequences or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.cells import Cells, shown_cells
from ppl_vae.plots.images import GAP, Tile, cell_size, checked_shape, colour_notes, fit, label_ticks, picture
from ppl_vae.plots.style import NOTE, number, remarked, tallest, ticks, widest, wrap
from ppl_vae.plots.table import table_of

NUMBERS = 40  # a datum of more values is drawn as a strip
DENSE = 12  # more rows and columns have no gaps; a table of one value a datum with more is drawn as colours
ACROSS, DOWN = 6.0, 7.6  # inches for the images of a sheet
STRIP_WIDTH, STRIP = 5.0, 0.19  # inches
SILENT = 0.05  # of the scale: features that never exceed it, at either end of a roll, are left out


def sheet(
    cells: ArrayLike,
    *,
    title: str,
    rows: Sequence[object] = (),
    columns: Sequence[object] = (),
    image_shape: Sequence[int] | None = None,
    roll: bool = False,
    light: bool = False,
    names: Sequence[str] = (),
    own_scale: Sequence[int] = (),
    row_title: str = "",
    column_title: str = "",
    note: str = "",
) -> Figure:
    """Draw data in R rows and C columns, all on one scale.

    Images and sequences are drawn as such. Data of one value are a table of the sheet's own rows and columns, or a
    grid of colours if it is large. Data of 2 to 40 values are a table with a line for each datum and a column for
    each value: at most 12 values, and at most 30 lines, in whole rows of the sheet if one has no more. Longer data are
    strips of colour, one below the other. The title says what is left out.

    Args:
        cells: the data, ``(R, C, ...)``; NaN is a missing value. A datum that is NaN altogether is left out if it ends
            its row or is in a column of its own scale, and drawn as missing elsewhere.
        title: the title of the figure.
        rows: a label for each row, text or a number.
        columns: a label for each column.
        image_shape: the shape ``(H, W)`` or ``(H, W, 3)`` of a datum that is an image.
        roll: if true, the data are sequences, and ``image_shape`` is their features (the lowest last) and steps.
        light: if true, high values of grey images are light, as on a screen; else dark, as ink on paper.
        names: the names of the values of a datum that is no image.
        own_scale: indices of columns that hold another quantity, the standard deviation, say; each has its own scale
            and a colour bar with the column's label. Three colours there are averaged.
        row_title: what the labels of the rows are.
        column_title: what the labels of the columns are.
        note: a note below the figure.

    Returns:
        A figure whose first axes is the sheet, measured in inches; the others are its colour bars.

    Raises:
        InputError: there is nothing finite, or labels, names, shapes and indices do not fit ``cells``.

    Example:
        >>> x = np.linspace(0, 1, 2 * 3 * 16).reshape(2, 3, 16)
        >>> figure = sheet(x, title="Digits", rows=["a", "b"], columns=range(3), image_shape=(4, 4))
        >>> len(figure.axes[0].images), [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        (6, ['a', 'b'])
    """
    array = np.asarray(cells, dtype=float)
    if array.ndim < 2 or array.size == 0:
        raise InputError(f"cells: expected data in rows and columns, (R, C, ...), got an array of shape {array.shape}")
    n_rows, n_columns = array.shape[:2]
    array = array.reshape(n_rows, n_columns, -1)
    size = array.shape[2]
    if not np.isfinite(array).any():
        raise InputError(f"cells: none of {array.size} values is finite (did the fit diverge?)")
    for name, labels, count, what in [
        ("rows", rows, n_rows, "a row"), ("columns", columns, n_columns, "a column"), ("names", names, size, "a value")
    ]:  # fmt: skip
        if len(labels) not in (0, count):
            raise InputError(f"{name}: expected {count}, one for {what}, or none, got {len(labels)}")
    wrong = [c for c in own_scale if not 0 <= c < n_columns]
    if wrong:
        raise InputError(f"own_scale: expected columns from 0 to {n_columns - 1}, got {wrong[0]}")
    if roll and (image_shape is None or len(image_shape) != 2):
        raise InputError(f"image_shape: a roll needs its (features, steps), got {image_shape}")

    own = tuple(sorted(set(own_scale)))
    texts = (_texts(rows), _texts(columns), _texts(names))
    notes = (note,) if note else ()
    page = Cells(array, shown_cells(array, own), *texts, own, title, row_title, column_title, notes)
    if image_shape is not None:
        shape = checked_shape(image_shape, size, "cells")
        return _rolls(page, shape) if roll else _images(page, shape, light=light)
    if size == 1 and min(n_rows, n_columns) > DENSE:
        return _images(page, (1, 1))
    return _strips(page) if size > NUMBERS else table_of(page)


def _texts(labels: Sequence[object]) -> tuple[str, ...]:
    """Return labels as texts; numbers have a minus sign as on the axes."""
    texts = []
    for label in labels:
        if isinstance(label, float | np.floating):
            texts.append(number(float(label)))
        else:
            texts.append(number(label, "d") if type(label) is int else str(label))
    return tuple(texts)


def _images(
    sheet: Cells, shape: tuple[int, ...], size: tuple[float, float] | None = None, *, light: bool = False
) -> Figure:
    """Draw each datum as an image of this shape, of ``size`` inches or one that suits the number of images."""
    n_rows, n_columns = sheet.shown.shape
    dense = min(n_rows, n_columns) > DENSE
    gap = 0.0 if dense else GAP if max(n_rows, n_columns) <= DENSE else GAP / 2
    width, height = size or cell_size(shape)
    if size is None:  # larger if there are few, smaller if there are many
        few = min(4.5 / (n_columns * width), 4.5 / (n_rows * height))
        most = min((ACROSS / n_columns - gap) / width, (DOWN / n_rows - gap) / height)
        factor = min(most, float(np.clip(few, 1, 1.6)))
        width, height = width * factor, height * factor
    columns = [wrap(label, max(width, 0.7)) for label in sheet.columns]
    rows = [wrap(label, 1.6) if height > 0.4 else label for label in sheet.rows]
    step = max(width + gap, widest(columns) + 0.1 if columns and n_columns <= DENSE else 0.0)
    lefts = step * np.arange(n_columns) + (step - gap - width) / 2
    tops = (height + gap) * np.arange(n_rows)

    colour, scales = len(shape) == 3, sheet.scales()
    tiles = []
    for row, column in np.argwhere(sheet.shown).tolist():
        image, key = sheet.cells[row, column].reshape(shape), sheet.key(column)
        if key is not None and colour:
            image = np.where(np.isfinite(image).any(-1), np.nan_to_num(image).mean(-1), np.nan)
        tiles.append(Tile(image, lefts[column], tops[row], key))
    notes = [*sheet.notes, *(colour_notes(scales.get(None, (0.0, 1.0))) if colour else [])]
    notes += ["scale at the right: mean of three colours"] if colour and sheet.own else []
    bars = {k: "value" if k is None else sheet.column_name(k) for k in scales if k is not None or not colour}
    frame = 0.0 if shape == (1, 1) and dense else 0.3 if dense else 0.6
    extent = (lefts[-1] + width, tops[-1] + height)
    fig, ax = picture(sheet.title, tiles, (width, height), extent, scales, bars, notes, frame=frame, light=light)
    label_ticks(ax.xaxis, lefts + width / 2, columns, widest(columns) + 0.1, sheet.column_title)
    label_ticks(ax.yaxis, tops + height / 2, rows, tallest(rows), sheet.row_title)
    fit(fig, ax)
    return fig


def _rolls(sheet: Cells, shape: tuple[int, ...]) -> Figure:
    """Draw each datum as a piano roll, without the silent features above and below."""
    n_rows, n_columns = sheet.shown.shape
    low, high = sheet.scales().get(None, (0.0, 1.0))
    rolls = sheet.cells.reshape(*sheet.shown.shape, *shape)
    main = [c for c in range(n_columns) if c not in sheet.own]
    loud = np.nan_to_num(rolls[:, main], nan=low) > low + SILENT * (high - low)
    heard = np.flatnonzero(loud.any((0, 1, 3)))
    start, stop = (max(heard[0] - 1, 0), min(heard[-1] + 2, shape[0])) if len(heard) else (0, shape[0])
    lowest, highest = shape[0] - stop, shape[0] - 1 - start
    notes = [f"step 0 to {shape[1] - 1} left to right, feature {lowest} to {highest} upwards"]
    if stop - start < shape[0]:
        notes.append(f"outer features that never exceed {100 * SILENT:.0f} % of the scale are left out")
    kept = rolls[:, :, start:stop].reshape(*sheet.shown.shape, -1)
    width = min((ACROSS + 0.6) / n_columns - GAP, 3.0)
    height = min(max(0.45 * width, 0.62), 1.2, DOWN / n_rows - GAP)
    page = replace(sheet, cells=kept, notes=(*sheet.notes, *notes))
    return _images(page, (int(stop - start), shape[1]), (width, height))


def _strips(sheet: Cells) -> Figure:
    """Draw each datum as a strip, with one colour for each of its values."""
    (lines, left_out), size = sheet.lines(), sheet.cells.shape[2]
    grouped = sheet.cells.shape[1] > 1
    steps = [STRIP + 0.03 + 0.09 * (grouped and this[0] != last[0]) for last, this in pairwise(lines)]
    tops = np.cumsum([0.0, *steps])
    tiles = [Tile(sheet.cells[r, c][None], 0.0, top, sheet.key(c)) for top, (r, c) in zip(tops, lines, strict=True)]
    scales = sheet.scales()
    bars = {key: "value" if key is None else sheet.column_name(key) for key in scales}
    title, extent = remarked(sheet.title, [left_out]), (STRIP_WIDTH, tops[-1] + STRIP)
    fig, ax = picture(title, tiles, (STRIP_WIDTH, STRIP), extent, scales, bars, sheet.notes)
    labels = []
    for i, (row, column) in enumerate(lines):
        begins = i == 0 or lines[i - 1][0] != row
        label = [sheet.rows[row] if sheet.rows and begins else "", sheet.columns[column] if sheet.columns else ""]
        labels.append("   ".join(part for part in label if part))
    title = ", ".join(part for part in (sheet.row_title, sheet.column_title) if part)
    label_ticks(ax.yaxis, tops + STRIP / 2, labels, tallest(labels), title)
    indices = [int(i) for i in ticks(8, whole=True).tick_values(0, size - 1) if 0 <= i < size]
    ax.set_xticks([(i + 0.5) * STRIP_WIDTH / size for i in indices], [str(i) for i in indices])
    ax.tick_params(axis="x", bottom=True, length=3, labelbottom=True, labeltop=False)
    ax.xaxis.set_label_position("bottom")
    ax.set_xlabel("index of the value", fontsize=NOTE)
    fit(fig, ax)
    return fig
