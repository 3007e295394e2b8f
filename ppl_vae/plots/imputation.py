"""Values that were filled in beside those that were seen, one column of a table at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ppl_vae.errors import InputError
from ppl_vae.plots.style import (
    BLUE,
    INK,
    NOTE,
    PALE,
    bins,
    blank,
    entitle,
    first,
    fullest,
    head,
    legend,
    panels,
    remarked,
    ticks,
)

PANELS, CATEGORIES, LINES = 12, 8, 200  # that are drawn: columns, categories of one, and intervals of one
NAME, LETTERS = 30, 14  # letters of the name of a column, and of a category
SEEN = (-0.75, 0.6)  # where the histogram of what was seen begins, and its width; intervals lie between 0 and 1


class FilledColumn(NamedTuple):
    """A column with holes: what was seen, and the distribution of what was missing."""

    name: str
    seen: np.ndarray
    """The values that were seen; of categories, their codes."""
    mean: np.ndarray
    """The mean of each missing number, ``(M,)``; of categories, their probabilities, ``(M, C)``."""
    lower: np.ndarray
    """The lower end of the interval of each missing number, ``(M,)``; of categories, anything."""
    upper: np.ndarray
    """The upper ends."""
    categories: Sequence[str] = ()
    """The names of the categories; by default their numbers."""


def filled_columns(columns: Sequence[FilledColumn], *, title: str = "Missing values, filled in") -> Figure:
    """Draw the intervals of missing numbers beside a histogram of those seen, and shares of categories.

    The missing numbers of a column are in the order of their means. Of more than 200, every so many are drawn.

    Args:
        columns: the columns; those without a missing number are left out, and so are those after the first 12.
        title: the title of the figure.

    Raises:
        InputError: nothing is missing.

    Example:
        >>> seen, mean = np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0])
        >>> figure = filled_columns([FilledColumn("price", seen, mean, mean - 1, mean + 1)])
        >>> [ax.get_title() for ax in figure.axes]
        ['price']
    """
    holes = [column for column in columns if len(column.mean)]
    if not holes:
        raise InputError("columns: nothing is missing, so that there is nothing to draw")
    shown = holes[:PANELS]
    across = fullest(len(shown), 3)
    down = -(-len(shown) // across)
    fig = blank(title, max(4.6, 2.3 * across + 0.4), max(3.2, 1.9 * down + 1.0))
    for column, ax in zip(shown, panels(fig, len(shown), across, grid=False), strict=True):
        draw = _shares if column.mean.ndim == 2 else _intervals
        remark = draw(ax, column)
        head(ax, remarked(_short(column.name, NAME), [remark], "\n"), NOTE)
    entitle(fig, remarked(title, [first(PANELS, len(holes), "columns with holes")], "\n"))
    numbers, shares = (any((column.mean.ndim == 2) == is_share for column in shown) for is_share in (False, True))
    what = ["the mean and the 90 % interval"] * numbers + ["probabilities"] * shares
    handles = [Patch(facecolor=PALE, label="seen"), Patch(facecolor=BLUE, label=f"missing: {', '.join(what)}")]
    legend(fig, handles=handles, loc="outside lower center", ncols=1 if across < 2 else 2)
    return fig


def _intervals(ax: Axes, column: FilledColumn) -> str:
    """Draw a histogram of what was seen, and the intervals at its right; return a remark for the title."""
    begin, width = SEEN
    seen = column.seen[np.isfinite(column.seen)]
    if len(seen):
        counts, edges = np.histogram(seen, bins(seen))
        ax.barh(edges[:-1], width * counts / counts.max(), np.diff(edges), begin, align="edge", color=PALE)
    order = np.argsort(column.mean, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(LINES, len(order))).round().astype(int))]
    x = (np.arange(len(chosen)) + 0.5) / len(chosen)
    thickness = float(np.clip(60 / len(chosen), 0.6, 2.5))
    ax.vlines(x, column.lower[chosen], column.upper[chosen], color=BLUE, alpha=0.55, linewidth=thickness)
    ax.plot(x, column.mean[chosen], "o", color=INK, markersize=float(np.clip(50 / len(chosen), 1.2, 4)))
    ax.set(xlim=(begin - 0.05, 1.05), xticks=[begin + width / 2, 0.5])
    ax.set_xticklabels([f"{len(seen)} seen", f"{len(order)} missing"])
    ax.tick_params(axis="x", length=0)
    ax.yaxis.set_major_locator(ticks(5))
    return f"{len(chosen)} of {len(order)} intervals" if len(chosen) < len(order) else ""


def _shares(ax: Axes, column: FilledColumn) -> str:
    """Draw the share of each category among what was seen, and its mean probability among what was missing."""
    count = column.mean.shape[1]
    names = [_short(str(name), LETTERS) for name in column.categories] or [str(code) for code in range(count)]
    seen = np.bincount(column.seen[np.isfinite(column.seen)].astype(int), minlength=count)[:count]
    at = np.arange(min(count, CATEGORIES))
    look: dict[str, Any] = {"height": 0.36}
    ax.barh(at - 0.19, (seen / max(1, seen.sum()))[at], color=PALE, **look)
    ax.barh(at + 0.19, column.mean.mean(0)[at], color=BLUE, **look)
    ax.set(ylim=(len(at) - 0.4, -0.6), yticks=at)
    ax.set_yticklabels(names[: len(at)])
    ax.set_xlabel("share", fontsize=NOTE)
    ax.xaxis.set_major_locator(ticks(4))
    return first(CATEGORIES, count, "categories")


def _short(text: str, most: int) -> str:
    """Return a text of at most a number of letters."""
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
