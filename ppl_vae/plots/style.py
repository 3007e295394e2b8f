"""The type scale and the colours that the figures share, and helpers for their axes, arrays, numbers and texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError

INK = "#30363d"
BLUE = "#2f6fab"
ORANGE = "#d55e00"  # beside INK, not BLUE, if only the shade would distinguish two things in grey
PALE = "#c8ccd1"
HALO = [withStroke(linewidth=3, foreground="white")]

# Okabe and Ito's colours, safe for colour-blind readers; olive for their yellow (lost on white); two more.
CLASS_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
    "#d55e00", "#222222", "#999933", "#882255", "#a0a0a0",
)  # fmt: skip

TITLE, LABEL, NOTE = 12.0, 10.0, 8.5
"""The type scale, in points: titles of figures; labels of axes and titles of panels; ticks, legends and notes."""
LINE = 1.25 / 72  # inches from line to line for each point of the font size
ROUND = (1, 2, 5, 10)
"""Steps between ticks, times a power of ten."""


def blank(title: str, width: float = 5.2, height: float = 3.8) -> Figure:
    """Return an empty figure of ``width`` by ``height`` inches; a long title is broken into lines."""
    fig = Figure(figsize=(width, height), layout="constrained")
    entitle(fig, title)
    return fig


def entitle(fig: Figure, title: str) -> None:
    """Write the title of a figure, which is broken into lines if it is long."""
    fig.suptitle(title, wrap=True, fontsize=TITLE)


def single(title: str, width: float = 5.2, height: float = 3.8) -> tuple[Figure, Axes]:
    """Return a figure and its one axes."""
    fig = blank(title, width, height)
    return fig, tidy(fig.add_subplot())


def panels(fig: FigureBase, count: int, columns: int, *, grid: bool = True, share: bool = False) -> list[Axes]:
    """Add ``count`` axes in rows of ``columns``; if they share their scales, only the outer ones have numbers."""
    axes: list[Axes] = []
    for i in range(count):
        first = axes[0] if axes and share else None
        ax = tidy(fig.add_subplot(-(-count // columns), columns, i + 1, sharex=first, sharey=first), grid=grid)
        if share:
            ax.tick_params(labelleft=i % columns == 0, labelbottom=i + columns >= count)
        axes.append(ax)
    return axes


def tidy(ax: Axes, *, grid: bool = True) -> Axes:
    """Leave two spines, ticks at round numbers, text on the type scale and, behind the data, a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=NOTE)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_fontsize(LABEL)
        axis.offsetText.set_fontsize(NOTE)
        axis.set_major_locator(ticks())
    if grid:
        ax.grid(color="0.92", linewidth=0.8)
    return ax


def ticks(most: int | None = None, *, whole: bool = False) -> MaxNLocator:
    """Return a locator of ticks at round numbers.

    Args:
        most: the largest number of intervals; by default as many as have room.
        whole: if True, the ticks are whole numbers.
    """
    return MaxNLocator("auto" if most is None else most, integer=whole, steps=ROUND, min_n_ticks=1 if whole else 2)


def head(ax: Axes, title: str, size: float = LABEL, **style: Any) -> None:
    """Write the title of one panel of a figure."""
    ax.set_title(title, fontsize=size, **{"color": "0.25"} | style)


def legend(owner: Axes | FigureBase, *args: Any, **style: Any) -> Legend:
    """Add a legend without a frame."""
    look: dict[str, Any] = {"frameon": False, "fontsize": NOTE, "title_fontsize": NOTE}
    return owner.legend(*args, **look | style)


def note(fig: Figure, notes: Iterable[str], between: str = "\n", **style: Any) -> None:
    """Write notes below the axes, if there are any; long ones are broken into lines."""
    if text := between.join(notes):
        look: dict[str, Any] = {"x": 0.99, "ha": "right", "fontsize": NOTE, "color": "0.35"}
        fig.supxlabel(text, wrap=True, **look | style)


def rows(x: ArrayLike, name: str) -> np.ndarray:
    """Return data ``(N, ...)`` as rows ``(N, D)`` of floats.

    Example:
        >>> rows(np.zeros((5, 2, 3)), "x").shape, rows([1, 2], "x").shape
        ((5, 6), (2, 1))
    """
    array = np.asarray(x)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{name}: expected an array (N, ...) of at least one datum, got shape {array.shape}")
    return array.reshape(len(array), -1).astype(float)


def limits(*arrays: np.ndarray) -> tuple[float, float]:
    """Return one scale for all arrays: 0 to 1 if every finite value lies within it, else their range.

    Example:
        >>> limits(np.array([0.2, 0.9])), limits(np.array([-2.0, np.nan]), np.array([3.0]))
        ((0.0, 1.0), (-2.0, 3.0))
    """
    values = np.concatenate([a[np.isfinite(a)].ravel() for a in arrays])
    if values.size == 0 or (values.min() >= 0 and values.max() <= 1):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def bulk(values: np.ndarray, outside: float, reach: float) -> tuple[float, float]:
    """Return the range of the values without their tails.

    Args:
        values: the values, ``(N,)``.
        outside: share of the values that are left out at either end.
        reach: the largest distance from the median, in interquartile ranges.
    """
    low, first, median, third, high = np.quantile(values, [outside, 0.25, 0.5, 0.75, 1 - outside])
    most = reach * (third - first) or np.inf
    return max(low, median - most), min(high, median + most)


def normal_density(at: np.ndarray, mean: float, sd: float) -> np.ndarray:
    """Return the density of a Gaussian at points ``(P,)``."""
    return np.exp(-0.5 * ((at - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))


def bins(values: np.ndarray) -> list[float]:
    """Return the edges of 10 to 50 equal bins of finite ``values``, about the square root of their number."""
    return np.histogram_bin_edges(values, bins=int(np.clip(np.sqrt(values.size), 10, 50))).tolist()


def fullest(count: int, most: int) -> int:
    """Return the number of columns, at most ``most``, that fills the last row best without another row."""
    return -(-count // -(-count // most))


def number(value: float, spec: str = ".3g") -> str:
    r"""Return a number as text, with a minus sign as on the axes.

    Example:
        >>> number(91.625, ".1f"), number(-2.0) == "\N{MINUS SIGN}2"
        ('91.6', True)
    """
    return format(value, spec).replace("-", "\N{MINUS SIGN}")


def count_of_data(count: int) -> str:
    """Return the number of data in words."""
    return f"{count} data" if count > 1 else "1 datum"


def first(most: int, count: int, what: str = "") -> str:
    """Return what a title says if only the first of many are drawn.

    Example:
        >>> first(12, 30, "values"), first(12, 12, "values")
        ('first 12 of 30 values', '')
    """
    return f"first {most} of {count} {what}".strip() if count > most else ""


def remarked(title: str, remarks: Iterable[str], between: str = " ") -> str:
    """Return a title with remarks in parentheses, if there are any.

    Example:
        >>> remarked("Digits", ["first 2 of 9", ""]), remarked("Digits", [""])
        ('Digits (first 2 of 9)', 'Digits')
    """
    text = ", ".join(remark for remark in remarks if remark)
    return f"{title}{between}({text})" if text else title


@lru_cache(maxsize=4096)
def text_width(text: str, size: float = NOTE) -> float:
    """Return the width of a text in inches, which is the width of its longest line.

    Example:
        >>> 0.1 < text_width("x[0]") < text_width("two\\nlines") < 0.5
        True
    """
    font = FontProperties(size=size)
    sizes = (text_to_path.get_text_width_height_descent(line, font, ismath=False) for line in text.split("\n"))
    return float(max(width for width, _, _ in sizes)) / 72


def widest(texts: Sequence[str], size: float = NOTE) -> float:
    """Return the width of the widest text in inches, 0 if there is none."""
    return max((text_width(text, size) for text in texts), default=0.0)


def tallest(texts: Sequence[str], size: float = NOTE) -> float:
    """Return the height of the tallest text in inches; an empty text has none."""
    return max((text.count("\n") + 1 for text in texts if text), default=0) * size * LINE


def wrap(text: str, inches: float) -> str:
    """Break a small text between words into lines of about ``inches``; a longer word keeps a line to itself.

    Example:
        >>> wrap("posterior standard deviation", 1.2)
        'posterior\\nstandard\\ndeviation'
    """
    return fill(text, round(14 * inches), break_long_words=False, break_on_hyphens=False)
