"""A sheet whose data are images, or sequences drawn as piano rolls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from ppl_vae.plots._common import PALE, number
from ppl_vae.plots._images import GAP, GREY, Box, cell_size, draw_image
from ppl_vae.plots._sheet import OWN, STRUCK_NOTE, Sheet, bar_room, bars, label_room, sheet_page, strike_missing
from ppl_vae.plots._text import height_of, widest, wrap

DENSE = 12  # more rows and columns have no gaps; so many columns are not widened for their labels
ACROSS, DOWN, FINEST = 7.0, 7.6, 75  # inches for a sheet's images, and pixels in one from which they are blended
HINTED = 0.62  # inches of a roll that has room for its axes
SILENT = 0.05  # of the scale: features that never exceed it, at either end of a roll, are left out


def image_sheet(sheet: Sheet, shape: tuple[int, ...], *, roll: bool = False) -> Figure:
    """Each datum an image of this shape at its place."""
    n_rows, n_columns = sheet.shown.shape
    dense = min(n_rows, n_columns) > DENSE
    gap = 0.0 if dense else (GAP if max(n_rows, n_columns) <= DENSE else GAP / 2)
    top_feature, bottom_feature = shape[0] - 1, 0
    full = shape[0] * shape[1]
    if roll:
        sheet, shape, top_feature = _heard(sheet, shape)
        bottom_feature = top_feature - shape[0] + 1
    features = (bottom_feature, top_feature)
    width, height = _roll_size(n_rows, n_columns, gap) if roll else _cell_size(shape, n_rows, n_columns, gap)
    labels = [wrap(label, max(width, 0.7)) for label in sheet.columns]
    step = width + gap
    if n_columns <= DENSE:
        step = max(step, widest(labels) + 0.1 if labels else 0.0)
    total_width, total_height = n_columns * step - gap, n_rows * (height + gap) - gap
    every = thinned(widest(labels) + 0.1, step, n_columns)
    row_labels = [wrap(label, 1.6) if height > 0.4 else label for label in sheet.rows]

    colour = len(shape) == 3
    scales = sheet.scales()
    hinted = roll and min(width, height) >= HINTED
    notes = _notes(sheet, shape, features if roll and not hinted else None, whole=shape[0] * shape[1] == full)
    pad = 0.26 if hinted else 0.0
    left = max(0.2 + 0.22 * bool(sheet.row_title) + label_room(tuple(row_labels)) + pad, 0.3)
    top = height_of(labels) + 0.06 * bool(labels) + 0.2 * bool(sheet.column_title)
    barred = {column: scale for column, scale in scales.items() if column is not None or not colour}
    margins = (left, bar_room(sheet, barred, total_height), top, 0.0)
    fig, ax, beside = sheet_page(total_width, total_height, margins, sheet.title, notes, 0.13 * hinted)

    left_of_cell = (step - gap - width) / 2
    finest = max(shape[0] / height, shape[1] / width) > FINEST
    frame = 0.6 if not dense else (0.3 if shape != (1, 1) else 0.0)
    style: dict[str, Any] = {"frame": frame, "interpolation": "auto" if finest else "nearest"}
    drawn: dict[int | None, AxesImage] = {}
    common: list[tuple[np.ndarray, Box]] = []
    for row, column in np.argwhere(sheet.shown).tolist():
        image = sheet.cells[row, column].reshape(shape)
        key = column if column in sheet.own else None
        if key is not None and colour:
            image = np.where(np.isfinite(image).any(-1), np.nan_to_num(image).mean(-1), np.nan)
        place = (column * step + left_of_cell, row * (height + gap), width, height)
        colours = GREY if key is None else OWN
        if key is None:
            common.append((image, place))
        drawn[key] = draw_image(ax, image, place, scales[key], colours=colours, **style)
    strike_missing(ax, common)
    if dense:
        ax.add_patch(Rectangle((0, 0), total_width, total_height, fill=False, edgecolor=PALE, clip_on=False))
    bars(fig, {key: drawn[key] for key in barred if key in drawn}, sheet, beside)
    _label_columns(ax, labels[::every], step * every, (step - gap) / 2)
    if sheet.column_title:
        above = -0.06 - height_of(labels) - 0.06 * bool(labels)
        ax.text(total_width / 2, above, sheet.column_title, ha="center", va="bottom")
    label_rows(ax, row_labels, height + gap, height / 2, sheet.row_title, pad)
    if hinted:
        _hint(ax, features, shape[1], (left_of_cell, total_height - height, width, height))
    return fig


def _notes(sheet: Sheet, shape: tuple[int, ...], features: tuple[int, int] | None, *, whole: bool) -> list[str]:
    """What is said below the images; of the axes of rolls where it is not said beside one."""
    notes = [sheet.note] if sheet.note else []
    if features is not None:
        notes.append(f"step 0 to {shape[1] - 1} left to right, feature {features[0]} to {features[1]} upwards")
    if not whole:
        notes.append(f"outer features that never exceed {100 * SILENT:.0f} % of the scale are left out")
    if len(shape) == 3:
        low, high = sheet.scales().get(None, (0.0, 1.0))
        if (low, high) != (0.0, 1.0):
            notes.append(f"values from {number(low)} to {number(high)} drawn as 0 to 1")
        if sheet.own:
            notes.append("scale at the right: mean of three colours")
    return [*notes, STRUCK_NOTE] if sheet.missing() else notes


def _cell_size(shape: tuple[int, ...], n_rows: int, n_columns: int, gap: float) -> tuple[float, float]:
    """Larger where there are few, smaller where there are many."""
    width, height = cell_size(shape)
    most = min((ACROSS / n_columns - gap) / width, (DOWN / n_rows - gap) / height)
    few = min(4.5 / (n_columns * width), 4.5 / (n_rows * height))
    factor = min(most, float(np.clip(few, 1, 1.6)))
    return width * factor, height * factor


def _roll_size(n_rows: int, n_columns: int, gap: float) -> tuple[float, float]:
    width = min((ACROSS + 0.6) / n_columns - gap, 3.0)
    return width, min(max(0.45 * width, HINTED), 1.2, DOWN / n_rows - gap)


def _heard(sheet: Sheet, shape: tuple[int, ...]) -> tuple[Sheet, tuple[int, ...], int]:
    """Rolls without the silent features above and below, their shape, and the highest feature left."""
    low, high = sheet.scales().get(None, (0.0, 1.0))
    rolls = sheet.cells.reshape(*sheet.shown.shape, *shape)
    loud = np.nan_to_num(rolls[:, sheet.main], nan=low) > low + SILENT * (high - low)
    heard = np.flatnonzero(loud.any((0, 1, 3)))
    if not len(heard):
        return sheet, shape, shape[0] - 1
    start, stop = max(heard[0] - 1, 0), min(heard[-1] + 2, shape[0])
    kept = rolls[:, :, start:stop].reshape(*sheet.shown.shape, -1)
    return replace(sheet, cells=kept), (int(stop - start), shape[1]), int(shape[0] - 1 - start)


def thinned(needed: float, step: float, count: int) -> int:
    """Of labels that need so many inches each, the first and every how many are written.

    Example:
        >>> thinned(0.3, 0.4, 20), thinned(0.9, 0.4, 20)
        (1, 3)
    """
    return 1 if step >= needed or count == 1 else int(np.ceil(needed / step))


def _label_columns(ax: Axes, labels: list[str], step: float, middle: float) -> None:
    for i, label in enumerate(labels):
        ax.text(i * step + middle, -0.06, label, ha="center", va="bottom", fontsize="small")


def label_rows(ax: Axes, labels: list[str], step: float, middle: float, title: str, pad: float = 0.0) -> None:
    """Labels of rows that begin ``step`` inches apart, thinned where they lie too close, and what they are."""
    every = thinned(height_of(labels), step, len(labels))
    kept = labels[::every]
    ax.set_yticks([i * every * step + middle for i in range(len(kept))], kept, fontsize="small")
    ax.tick_params(axis="y", pad=3.5 + 72 * pad)
    if title:
        at = -0.12 - pad - label_room(tuple(kept))
        ax.text(at, ax.get_ylim()[0] / 2, title, rotation=90, ha="right", va="center")


def _hint(ax: Axes, features: tuple[int, int], steps: int, place: Box) -> None:
    """Below and beside the bottom left roll: what its axes are."""
    small: dict[str, Any] = {"fontsize": "x-small", "color": "0.4"}
    left, top, width, height = place
    below, beside, last = top + height + 0.03, left - 0.04, str(steps - 1)
    ax.text(left, below, "0", ha="left", va="top", **small)
    ax.text(left + width, below, last, ha="right", va="top", **small)
    ax.text(left + width / 2, below, "step", ha="center", va="top", **small)
    ax.text(beside, top + height, str(features[0]), ha="right", va="bottom", **small)
    ax.text(beside, top, str(features[1]), ha="right", va="top", **small)
    ax.text(beside, top + height / 2, "feature", ha="right", va="center", rotation=90, **small)
