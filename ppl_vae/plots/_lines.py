"""Vectors as lines, an axes for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_vae.plots._common import BLUE, ORANGE, blank, fullest, tidy


def small_multiples(stacks: dict[str, np.ndarray], title: str, what: str) -> Figure:
    """An axes for each row of the stacks ``(N, D)``, in which the stacks are lines of different styles."""
    count, size = next(iter(stacks.values())).shape
    columns = fullest(count, min(4, max(1, round(np.sqrt(count * 1.3)))))
    n_rows = -(-count // columns)
    fig = blank(max(5.2, 2.1 * columns + 0.6), max(3.0, 1.5 * n_rows + 1.0))
    thin = 1.4 if size <= 200 else 0.8
    styles: list[dict[str, Any]] = [{"color": BLUE, "linewidth": thin}]
    if len(stacks) > 1:
        broad = {"color": "0.68", "linewidth": 1.8 * thin}
        styles = [broad, {"color": ORANGE, "linewidth": thin, "linestyle": "--"}]
    if size <= 30:
        styles = [{**style, "marker": mark} for style, mark in zip(styles, "o^", strict=False)]
    axes = _panels(fig, count, columns)
    for i, ax in enumerate(axes):
        for (name, stack), style in zip(stacks.items(), styles, strict=False):
            ax.plot(np.arange(size), stack[i], markersize=3, label=name, **style)
        ax.set_title(f"{what} {i}", fontsize="small", color="0.35", pad=2)
    fig.suptitle(title)
    for ax in axes[-columns:]:
        ax.set_xlabel("index of the value", fontsize="small")
    fig.supylabel("value", fontsize="medium")
    if len(stacks) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, frameon=False, fontsize="small", loc="outside lower center", ncols=2)
    return fig


def _panels(fig: Figure, count: int, columns: int) -> Sequence[Axes]:
    """``count`` small axes in rows of ``columns``, sharing both axes, with no empty one at the end."""
    axes: list[Axes] = []
    for i in range(count):
        first = axes[0] if axes else None
        ax = tidy(fig.add_subplot(-(-count // columns), columns, i + 1, sharex=first, sharey=first))
        ax.tick_params(labelleft=i % columns == 0, labelbottom=i + columns >= count, labelsize="small")
        axes.append(ax)
    return axes
