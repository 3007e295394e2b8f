"""What the kinds of sheet share: what is on it, its scales, its notes and its colour bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ppl_vae.plots._common import limits, number
from ppl_vae.plots._images import Box, Scale, colour_bar, page
from ppl_vae.plots._text import LARGE, balance, height_of, text_width, widest, wrap

OWN = colormaps["BuPu"].with_extremes(bad="white")  # dark is much, as in grey
ORANGE_NOTE = "orange: missing or not finite"
STRUCK_NOTE = "orange and struck through: missing or not finite"
HATCH = (0.72, 0.45, 0.20)  # a stroke through what is missing tells it from a light grey in print
LEAST_WIDTH, BAR_LEAST = 5.2, 0.48  # inches


@dataclass(frozen=True)
class Sheet:
    """Data ``(R, C, D)``, which of them are drawn ``(R, C)``, and what is said of them; labels may be empty."""

    cells: np.ndarray
    shown: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    names: tuple[str, ...]
    own: tuple[int, ...]
    title: str
    row_title: str
    column_title: str
    note: str

    @property
    def main(self) -> list[int]:
        """Columns on the common scale."""
        return [c for c in range(self.cells.shape[1]) if c not in self.own]

    def scales(self) -> dict[int | None, Scale]:
        """The common scale, under None where a column has it, and each column's own: from 0 where nothing is less."""
        found: dict[int | None, Scale] = {None: limits(self.cells[:, self.main])} if self.main else {}
        for c in self.own:
            values = self.cells[:, c][np.isfinite(self.cells[:, c])]
            low, high = (min(0.0, float(values.min())), float(values.max())) if values.size else (0.0, 1.0)
            found[c] = (low, high if high > low else low + 1)
        return found

    def missing(self) -> bool:
        """Whether something on the common scale is missing."""
        return bool((~np.isfinite(self.cells) & self.shown[..., None])[:, self.main].any())


def shown_cells(cells: np.ndarray, own: tuple[int, ...]) -> np.ndarray:
    """Which data ``(R, C)`` are drawn: all but empty ones that end their row or are in a column of its own scale.

    Example:
        >>> shown_cells(np.array([[[1.0], [np.nan], [2.0]], [[3.0], [np.nan], [np.nan]]]), ()).tolist()
        [[True, True, True], [True, False, False]]
    """
    full = np.isfinite(cells).any(-1)
    followed = np.logical_or.accumulate(full[:, ::-1], 1)[:, ::-1]
    followed[:, list(own)] = full[:, list(own)]
    return followed


def first(most: int, count: int, what: str) -> str:
    """What a title says of what is left out.

    Example:
        >>> first(12, 30, "values"), first(12, 12, "values")
        ('first 12 of 30 values', '')
    """
    return f"first {most} of {count} {what}" if count > most else ""


def sheet_page(
    width: float, height: float, margins: Box, title: str, notes: list[str], hint: float = 0.0
) -> tuple[Figure, Axes, tuple[float, float, float]]:
    """A page with room for its title and its notes, however long.

    Args:
        width: of the sheet, inches.
        height: of the sheet, inches.
        margins: left, right, top and bottom, inches, without title and notes.
        title: of the figure.
        notes: below the sheet.
        hint: how far below the sheet the notes begin, inches.

    Returns:
        The figure, its axes, and where a colour bar may be: its left end, the sheet's bottom and height, inches.
    """
    left, right, top, bottom = margins
    short = max(0.0, (BAR_LEAST + 0.14 - height) / 2)  # a colour bar is not shorter, and its numbers stand out
    top, hint = max(top, short), max(hint, short)
    across = max(left + width + right, LEAST_WIDTH)
    title = balance(title, across - 0.3, LARGE)
    below = balance("; ".join(notes), across - 0.3)
    foot = hint + 0.08
    room = (left, right, top + height_of([title], LARGE) + 0.14, bottom + foot + height_of([below]) + 0.08)
    fig, ax, x0 = page(width, height, room, title, LEAST_WIDTH)
    if below:
        ax.text(across / 2 - x0, height + foot, below, ha="center", va="top", fontsize="small", color="0.4")
    return fig, ax, (x0 + width + 0.15, room[3], height)


def strike_missing(ax: Axes, images: list[tuple[np.ndarray, Box]]) -> None:
    """A stroke through every missing pixel of images ``(H, W, ...)`` at their places."""
    strokes = []
    for image, (left, top, width, height) in images:
        missing = ~np.isfinite(image)
        down, across = np.nonzero(missing if missing.ndim == 2 else missing.any(-1))
        x, y = width / image.shape[1], height / image.shape[0]
        lower_left = np.stack([left + across * x, top + (down + 1) * y], -1)
        strokes.append(np.stack([lower_left, lower_left + np.array([x, -y])], 1))
    if strokes and (every := np.concatenate(strokes)).size:
        ax.add_collection(LineCollection(list(every), colors=[HATCH], linewidths=0.4), autolim=False)


def bars(fig: Figure, drawn: dict[int | None, AxesImage], sheet: Sheet, beside: tuple[float, float, float]) -> None:
    """A colour bar for each scale."""
    left, bottom, height = beside
    for column, image in drawn.items():
        colour_bar(fig, image, (left, bottom, height), label=_called(sheet, column, height), least=BAR_LEAST)
        left += _bar_width(sheet, column, image.get_clim(), height)


def bar_room(sheet: Sheet, scales: dict[int | None, Scale], height: float) -> float:
    """Inches at the right of a sheet of this height for the colour bars of these scales."""
    return 0.25 + sum(_bar_width(sheet, column, scale, height) for column, scale in scales.items())


def _called(sheet: Sheet, column: int | None, height: float) -> str:
    label = "value" if column is None else (sheet.columns[column] if sheet.columns else f"column {column}")
    return wrap(label.replace("\n", " "), max(height, 0.8))


def _bar_width(sheet: Sheet, column: int | None, scale: Scale, height: float) -> float:
    ticks = widest(number(value) for value in (*scale, sum(scale) / 2))
    return 0.13 + 0.1 + ticks + height_of([_called(sheet, column, height)]) + 0.2


def label_room(texts: tuple[str, ...]) -> float:
    """Inches at the left for the labels of rows."""
    return max((text_width(text) for text in texts), default=0.0) + (0.1 if any(texts) else 0.0)
