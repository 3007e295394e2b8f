"""A sheet of data in rows and columns: images, sequences or numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots._common import number
from ppl_vae.plots._images import checked_shape
from ppl_vae.plots._sheet import Sheet, shown_cells
from ppl_vae.plots._sheet_images import image_sheet
from ppl_vae.plots._sheet_numbers import number_sheet, strip_sheet

NUMBERS = 40  # a datum of more values is drawn as a strip
COLUMNS = 12  # more columns of one value a datum are drawn as colours, if there are as many rows


def sheet(
    cells: ArrayLike,
    *,
    title: str,
    rows: Sequence[object] = (),
    columns: Sequence[object] = (),
    image_shape: Sequence[int] | None = None,
    roll: bool = False,
    names: Sequence[str] = (),
    own_scale: Sequence[int] = (),
    row_title: str = "",
    column_title: str = "",
    note: str = "",
) -> Figure:
    """Data in R rows and C columns, all on one scale.

    Images and sequences are drawn as such. Data of one value are a table of the sheet's own rows and columns, or a
    grid of colours where it is large. Data of 2 to 40 values are a table with a line for each datum and a column for
    each value: at most 12 values, and at most 30 lines, in whole rows of the sheet if one has no more. Longer data are
    strips of colour, one below the other. What is left out is said in the title.

    Args:
        cells: ``(R, C, ...)``; NaN is a missing value. A datum that is NaN altogether is left out where it ends its
            row or is in a column of its own scale, and drawn as missing elsewhere.
        title: of the figure.
        rows: a label for each row, text or a number.
        columns: a label for each column.
        image_shape: ``(H, W)`` or ``(H, W, 3)`` of a datum that is an image.
        roll: the data are sequences, ``image_shape`` their features (the lowest last) and steps.
        names: of the values of a datum that is no image.
        own_scale: indices of columns that hold another quantity, the standard deviation, say; each has its own scale
            and a colour bar called by the column's label. Three colours there are averaged.
        row_title: what the rows' labels are.
        column_title: what the columns' labels are.
        note: below the figure.

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
    page = Sheet(array, shown_cells(array, own), *texts, own, title, row_title, column_title, note)
    if image_shape is not None:
        return image_sheet(page, checked_shape(image_shape, size, "cells"), roll=roll)
    if size == 1 and min(n_rows, n_columns) > COLUMNS:
        return image_sheet(page, (1, 1))
    if size > NUMBERS:
        return strip_sheet(page)
    return number_sheet(page)


def _texts(labels: Sequence[object]) -> tuple[str, ...]:
    return tuple(number(float(label)) if isinstance(label, float | np.floating) else str(label) for label in labels)
