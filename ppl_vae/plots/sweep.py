"""The validation bounds of the trials of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.style import (
    BLUE,
    INK,
    LABEL,
    ORANGE,
    PALE,
    blank,
    entitle,
    first,
    legend,
    number,
    panels,
    remarked,
    ticks,
)

TITLE = "Validation bound of the trials"
MOST_PARAMETERS = 8
"""The largest number of parameters that are drawn."""


def bound_over_trials(
    bounds: ArrayLike,
    parameters: Mapping[str, Sequence[Any]],
    *,
    pruned: ArrayLike,
    log: Sequence[str] = (),
) -> Figure:
    """Draw the validation bound of each trial of a sweep, and the same bounds against each parameter.

    Low bounds are left out if they would squash the rest; a note says how many.

    Args:
        bounds: best validation bound of each trial in nats per datum, in the order of the trials, shape ``(N,)``. It is
            not finite for a trial that has none.
        parameters: values of each parameter by name, ``N`` each. Values that are not numbers are categories.
        pruned: True for the trials that were stopped early, shape ``(N,)``.
        log: names of the parameters with a logarithmic axis.

    Returns:
        A figure with one axes for the trials, and one for each parameter.

    Example:
        >>> figure = bound_over_trials([-20.0, -18.0], {"latent_dim": [2, 8]}, pruned=[True, False])
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['trial', 'latent_dim']
    """
    y, is_pruned = np.asarray(bounds, dtype=float), np.asarray(pruned, dtype=bool)
    is_drawn = np.isfinite(y)
    if not is_drawn.any():
        raise InputError("bounds: expected a finite bound of at least one trial")
    shown = dict(list(parameters.items())[:MOST_PARAMETERS])
    columns = min(3, 1 + len(shown))
    rows = -(-(1 + len(shown)) // columns)
    fig = blank(TITLE, max(5.0, 2.3 * columns + 0.5), 2.4 * rows + 1.0)
    axes = panels(fig, 1 + len(shown), columns)
    may_win = is_drawn & ~is_pruned if (is_drawn & ~is_pruned).any() else is_drawn
    best = int(np.nanargmax(np.where(may_win, y, np.nan)))
    x = np.arange(len(y), dtype=float)
    running = np.fmax.accumulate(np.where(may_win, y, np.nan))
    axes[0].step(x[np.isfinite(running)], running[np.isfinite(running)], where="post", color=PALE, zorder=1)
    _points(axes[0], x, y, is_pruned, best)
    axes[0].set_xlabel("trial")
    axes[0].xaxis.set_major_locator(ticks(5, whole=True))
    for ax, (name, values) in zip(axes[1:], shown.items(), strict=True):
        _slice(ax, name, values, y, is_pruned, best, is_log=name in log)
    low, top = np.quantile(y[is_drawn], 0.25), y[is_drawn].max()
    floor = low - 2 * (top - low) if top > low else -np.inf
    is_low = is_drawn & (y < floor)
    bottom = y[is_drawn & ~is_low].min()
    margin = 0.08 * (top - bottom) or 0.5
    for ax in axes:
        ax.set_ylim(bottom - margin, top + margin)
        ax.yaxis.set_major_locator(ticks(5))
    fig.supylabel("validation bound (nats per datum)", fontsize=LABEL)
    handles, names = axes[0].get_legend_handles_labels()
    legend(fig, handles, names, loc="outside lower center", ncols=3)
    notes = [first(MOST_PARAMETERS, len(parameters), "parameters")]
    notes += [f"{is_low.sum()} below the axes, lowest {number(y[is_drawn].min(), '.1f')}"] if is_low.any() else []
    notes += [f"{(~is_drawn).sum()} without a bound"] if not is_drawn.all() else []
    entitle(fig, remarked(TITLE, [text for text in notes if text], "\n"))
    return fig


def _points(ax: Axes, x: np.ndarray, y: np.ndarray, is_pruned: np.ndarray, best: int) -> None:
    ax.plot(x[~is_pruned], y[~is_pruned], "o", color=BLUE, markersize=5, label="trained to the end")
    if is_pruned.any():
        ax.plot(x[is_pruned], y[is_pruned], "x", color=ORANGE, markersize=5, label="stopped early")
    ring: dict[str, Any] = {"color": INK, "markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.5}
    ax.plot(x[[best]], y[[best]], "o", zorder=4, label="best", **ring)


def _slice(
    ax: Axes, name: str, values: Sequence[Any], y: np.ndarray, is_pruned: np.ndarray, best: int, *, is_log: bool
) -> None:
    """Draw the bounds against the values of a parameter, which are numbers or categories."""
    is_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if is_numbers:
        x = np.asarray(values, dtype=float)
        if is_log and x.max() > 4 * x.min():  # a shorter axis may have no round number of a logarithmic scale
            ax.set_xscale("log")
            subs = (1, 2, 5) if x.max() < 8 * x.min() else (1, 3) if x.max() < 30 * x.min() else (1,)
            ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, "g")))
        else:
            whole = all(isinstance(value, int) for value in values)
            ax.xaxis.set_major_locator(ticks(4, whole=whole))
        ax.minorticks_off()
    else:
        texts = [str(value) for value in values]
        kinds = list(dict.fromkeys(texts))
        x = np.array([kinds.index(text) for text in texts], dtype=float)
        labels = [kind if len(kind) <= 12 else f"{kind[:11]}…" for kind in kinds]
        ax.set_xticks(range(len(kinds)), labels, rotation=30 if len(kinds) > 2 else 0)
        ax.set_xlim(-0.5, len(kinds) - 0.5)
    _points(ax, x, y, is_pruned, best)
    ax.set_xlabel(name)
