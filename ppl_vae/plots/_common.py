"""What the figures share: colours, blank axes, arrays as rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError

INK = "#30363d"
BLUE = "#2f6fab"
ORANGE = "#d55e00"  # beside INK, not BLUE, where only the shade would tell two things apart in grey
PALE = "#c8ccd1"

# Okabe and Ito's colours, safe for colour-blind readers; olive for their yellow (lost on white); two more.
CLASS_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
    "#d55e00", "#222222", "#999933", "#882255", "#a0a0a0",
)  # fmt: skip


def blank(width: float = 6.4, height: float = 4.0) -> Figure:
    """An empty figure, ``width`` by ``height`` inches."""
    return Figure(figsize=(width, height), layout="constrained")


def tidy(ax: Axes, *, grid: bool = True) -> Axes:
    """Two spines and, behind the data, a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(color="0.92", linewidth=0.8)
    return ax


def rows(x: ArrayLike, name: str) -> np.ndarray:
    """Data ``(N, ...)`` as rows ``(N, D)`` of floats.

    Example:
        >>> rows(np.zeros((5, 2, 3)), "x").shape, rows([1, 2], "x").shape
        ((5, 6), (2, 1))
    """
    array = np.asarray(x)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{name}: expected an array (N, ...) of at least one datum, got shape {array.shape}")
    return array.reshape(len(array), -1).astype(float)


def limits(*arrays: np.ndarray) -> tuple[float, float]:
    """One scale for all arrays: 0 to 1 where every finite value lies within it, else their range.

    Example:
        >>> limits(np.array([0.2, 0.9])), limits(np.array([-2.0, np.nan]), np.array([3.0]))
        ((0.0, 1.0), (-2.0, 3.0))
    """
    values = np.concatenate([a[np.isfinite(a)].ravel() for a in arrays])
    if values.size == 0 or (values.min() >= 0 and values.max() <= 1):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def dot_style(n: int) -> dict[str, Any]:
    """Size and opacity of ``n`` dots, such that 10 are seen and 10000 do not become one blot."""
    size = float(np.clip(350 / np.sqrt(max(n, 1)), 4, 30))
    return {
        "s": size,
        "alpha": float(np.clip(1000 / max(n, 1), 0.5, 0.85)),
        "linewidths": 0,
        "rasterized": True,
    }


def number(value: float, spec: str = ".3g") -> str:
    r"""A number as text, with a minus sign as on the axes.

    Example:
        >>> number(91.625, ".1f"), number(-2.0) == "\N{MINUS SIGN}2"
        ('91.6', True)
    """
    return format(value, spec).replace("-", "\N{MINUS SIGN}")


def bins(values: np.ndarray) -> list[float]:
    """Edges of 10 to 50 equal bins over finite ``values``, about the square root of their number."""
    return np.histogram_bin_edges(values, bins=int(np.clip(np.sqrt(values.size), 10, 50))).tolist()


def fullest(count: int, most: int) -> int:
    """As many columns as leave the last row fullest, without another row."""
    return -(-count // -(-count // most))


def count_of_data(count: int) -> str:
    return f"{count} data" if count > 1 else "1 datum"
