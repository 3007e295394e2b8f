"""Points in the plane: as dots, or as the density of many, which would hide each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgba

from ppl_vae.plots.style import BLUE, INK, NOTE

MANY = 3000
"""The number of points from which their density is drawn."""
FEW = 12
"""The largest number of places of many points that have the number of their points beside them."""
CELLS = 45
"""The number of cells of a density from left to right."""
PALEST = 0.25
"""The opacity of a cell with one point, if the fullest has 1."""


def dot_style(n: int) -> dict[str, Any]:
    """Return the size and the opacity at which 10 of ``n`` dots are visible and 10000 do not become one blot."""
    size, alpha = float(np.clip(350 / np.sqrt(max(n, 1)), 4, 30)), float(np.clip(1000 / max(n, 1), 0.5, 0.85))
    return {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": True}


def cloud(ax: Axes, x: np.ndarray, y: np.ndarray, what: str = "data", colour: str = BLUE, **style: Any) -> None:
    """Draw points as dots, or the number of points in each cell of a grid of hexagons if there are many.

    If many points lie at a few places, each place has a dot and the number of its points.

    Args:
        ax: the axes.
        x: first coordinates, ``(N,)``.
        y: second coordinates, ``(N,)``.
        what: what the points are, for the label of the colour bar.
        colour: the colour of the dots, and of the fullest cell.
        style: further arguments of ``scatter``, for the dots.
    """
    places, counts = np.unique(np.stack([x, y], 1), axis=0, return_counts=True)
    if len(places) <= min(FEW, len(x) / 2):
        size = 30 + 270 * counts / counts.max()
        ax.scatter(*places.T, color=colour, **dot_style(1) | style | {"s": size})
        for place, count in zip(places, counts, strict=True):
            ax.annotate(str(count), place, (11, 8), textcoords="offset points", fontsize=NOTE, color=INK)
        return
    if len(x) < MANY:
        ax.scatter(x, y, color=colour, **dot_style(len(x)) | style)
        return
    pale = LinearSegmentedColormap.from_list("pale", [to_rgba(colour, 0.12), to_rgba(colour)])
    cells = hexagons(ax, x, y, cmap=pale, norm=PowerNorm(0.5))
    colour_bar(ax, cells, f"number of {what} in a cell")


def scaled_cloud(ax: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray) -> None:
    """Draw points in the colours of their values, or the mean value in each cell if there are many."""
    if len(x) < MANY:
        dots = ax.scatter(x, y, c=values, cmap="viridis", **dot_style(len(x)))
        colour_bar(ax, dots, "label")
    else:
        colour_bar(ax, hexagons(ax, x, y, C=values, cmap="viridis"), "label, mean of a cell")


def class_cloud(ax: Axes, x: np.ndarray, y: np.ndarray, codes: np.ndarray, colours: np.ndarray) -> str:
    """Draw points in the colours of their classes, or each cell in that of its most frequent class if there are many.

    Args:
        ax: the axes.
        x: first coordinates, ``(N,)``, in random order: class by class, the last class would hide the others.
        y: second coordinates, ``(N,)``.
        codes: the number of the class of each point, ``(N,)``; the last is that of points without one, which lie below.
        colours: the colours of the classes, ``(C, 4)``.

    Returns:
        A note about the colours, or an empty text.
    """
    if len(x) < MANY:
        is_known = codes < len(colours) - 1
        for some in filter(np.any, (~is_known, is_known)):
            ax.scatter(x[some], y[some], c=colours[codes[some]], **dot_style(len(x)))
        return ""
    cells = hexagons(ax, x, y, C=codes, reduce_C_function=lambda inside: int(np.bincount(inside).argmax()))
    modes = np.asarray(cells.get_array(), dtype=int)
    counted = hexagons(ax, x, y, C=codes, reduce_C_function=len)
    counts = np.asarray(counted.get_array(), dtype=float)
    counted.remove()
    faces = colours[modes].copy()
    faces[:, 3] = PALEST + (1 - PALEST) * np.sqrt(counts / counts.max())
    cells.set_array(None)
    cells.set_facecolor(faces)
    return "colour: the most frequent label of a cell; the darker, the more data"


def hexagons(ax: Axes, x: np.ndarray, y: np.ndarray, **style: Any) -> PolyCollection:
    """Divide the range of points into hexagons that are about as high as wide, and draw those that hold a point."""
    across, up = max(float(np.ptp(x)), 1e-9), max(float(np.ptp(y)), 1e-9)
    is_plane = ax.get_aspect() != "auto"
    rows = round(CELLS / np.sqrt(3) * (np.clip(up / across, 0.2, 5) if is_plane else 0.8))
    return ax.hexbin(x, y, gridsize=(CELLS, max(rows, 4)), mincnt=1, linewidths=0.1, rasterized=True, **style)


def colour_bar(ax: Axes, coloured: Any, label: str) -> None:
    """Add a colour bar beside axes."""
    bar = ax.figure.colorbar(coloured, ax=ax, shrink=0.8)
    bar.set_label(label, fontsize=NOTE)
    bar.ax.tick_params(labelsize=NOTE)
    bar.set_alpha(1)
