"""Figures of calibration: distribution functions of ranks in their bands, histograms of ranks, expected coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.stats import binom

from ppl_vae.errors import InputError
from ppl_vae.plots.style import (
    BLUE,
    CLASS_COLOURS,
    INK,
    NOTE,
    ORANGE,
    PALE,
    blank,
    head,
    legend,
    note,
    number,
    panels,
    single,
    ticks,
)

MOST_LINES, MOST_NAMED, MOST_BINS = 100, 3, 20
LEVEL = 0.05

Bands = tuple[ArrayLike, ArrayLike, ArrayLike]
"""Points, and the lower and the upper ends of the band of a distribution function there, ``(L,)`` each."""


def ecdf_differences(
    ranks: Mapping[str, ArrayLike],
    names: Mapping[str, Sequence[str]],
    bands: Mapping[str, Bands],
    p_values: Mapping[str, ArrayLike],
    *,
    title: str = "Ranks of the latents of simulated data",
) -> Figure:
    """Draw the distribution functions of ranks minus the diagonal, within the bands of uniform ranks.

    A line that leaves its band shows draws that are wrong: one like an S that first rises, too narrow; one that first
    falls, too wide; one that lies on one side, shifted.

    Args:
        ranks: numbers in (0, 1) by method, ``(N, Q)``; NaN does not count.
        names: the names of the ``Q`` quantities by method.
        bands: the bands by method.
        p_values: the p values of the quantities by method, ``(Q,)``, adjusted for their number; lines at or below 0.05
            are orange, and the smallest are named.
        title: the title.

    Returns:
        A figure with one axes for each method; of more than 100 quantities, the smallest p values are drawn.

    Raises:
        InputError: there is no method.

    Example:
        >>> u = np.random.default_rng(0).uniform(size=(200, 2))
        >>> points = np.linspace(0.1, 1, 10)
        >>> bands = {"guide": (points, points - 0.1, points + 0.1)}
        >>> ecdf_differences({"guide": u}, {"guide": ["a", "b"]}, bands, {"guide": [0.5, 0.9]}).axes[0].get_title()
        'guide: 200 data'
    """
    if not ranks:
        raise InputError("ranks: expected one method or more, got none")
    fig = blank(title, max(5.0, 2.2 * len(ranks) + 0.8), 3.8)
    axes = panels(fig, len(ranks), len(ranks), share=True)
    left_out, coloured = 0, False
    for ax, (method, values) in zip(axes, ranks.items(), strict=True):
        u, chances = np.asarray(values, float), np.asarray(p_values[method], float)
        points, lower, upper = (np.r_[0.0, np.asarray(part, float)] for part in bands[method])
        ax.fill_between(points, lower - points, upper - points, color=PALE, alpha=0.6, linewidth=0)
        ax.axhline(0, color=INK, linewidth=0.8)
        order = np.argsort(np.where(np.isnan(chances), 2, chances), kind="stable")[:MOST_LINES]
        left_out = max(left_out, u.shape[1] - len(order))
        for place, q in reversed(list(enumerate(order))):
            column = np.sort(u[np.isfinite(u[:, q]), q])
            if not len(column):
                continue
            line = np.searchsorted(column, points, side="right") / len(column) - points
            bad = chances[q] <= LEVEL
            coloured |= bool(bad)
            label = names[method][q] if bad and place < MOST_NAMED else None
            colour = CLASS_COLOURS[(5, 1, 3)[place]] if label else ORANGE if bad else BLUE
            ax.plot(points, line, color=colour, linewidth=1.6 if label else 0.9, alpha=1.0 if bad else 0.6, label=label)
        head(ax, f"{method}: {len(u)} data", NOTE)
        ax.set_xlabel("rank u")
        if ax.get_legend_handles_labels()[0]:
            legend(ax, loc="lower left", bbox_to_anchor=(0, -0.02))
    axes[0].set_ylabel("distribution function \N{MINUS SIGN} u")
    low, high = axes[0].get_ylim()
    if any(ax.get_legend() for ax in axes):
        axes[0].set_ylim(low - 0.25 * (high - low), high)
    notes = ["grey: where the line of right draws stays, all along, with probability 95 %"]
    notes += ["colours other than blue: p value at or below 0.05"] if coloured else []
    note(fig, notes + ([f"{left_out} quantities with larger p values left out"] if left_out else []))
    return fig


def rank_histograms(ranks: Mapping[str, ArrayLike], name: str, *, title: str | None = None) -> Figure:
    """Draw histograms of the ranks of one quantity, one for each method.

    Args:
        ranks: numbers in (0, 1) by method, ``(N,)``; NaN does not count.
        name: the name of the quantity.
        title: the title.

    Returns:
        A figure with one axes for each method. A bar of uniform ranks ends between the dashed lines with
        probability 0.95.

    Raises:
        InputError: there is no method.

    Example:
        >>> rank_histograms({"guide": np.random.default_rng(0).beta(0.5, 0.5, 300)}, "z[0]").get_suptitle()
        'Ranks of z[0] of simulated data'
    """
    if not ranks:
        raise InputError("ranks: expected one method or more, got none")
    fig = blank(title or f"Ranks of {name} of simulated data", max(5.0, 2.2 * len(ranks) + 0.8), 3.4)
    for ax, (method, values) in zip(panels(fig, len(ranks), len(ranks)), ranks.items(), strict=True):
        u = np.asarray(values, float)
        u = u[np.isfinite(u)]
        count = int(np.clip(len(u) // 12, 4, MOST_BINS))
        low, high = binom.ppf([0.025, 0.975], len(u), 1 / count)
        heights = np.histogram(u, count, (0, 1))[0]
        inside = (heights >= low) & (heights <= high)
        left = np.arange(count) / count
        look: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.5}
        ax.bar(left, heights, 1 / count, color=np.where(inside, BLUE, ORANGE), **look)
        for end in (low, high):
            ax.axhline(end, color=INK, linewidth=0.9, linestyle="--")
        ax.grid(axis="x", visible=False)
        head(ax, f"{method}: {len(u)} data", NOTE)
        ax.yaxis.set_major_locator(ticks(whole=True))
        ax.set(xlabel="rank u", xlim=(0, 1))
    fig.axes[0].set_ylabel("number of data")
    note(fig, ["between the dashed lines end 95 % of the bars of uniform ranks; a U means too narrow, a hill too wide"])
    return fig


def coverage(levels: ArrayLike, shares: Mapping[str, ArrayLike], num_data: Mapping[str, int]) -> Figure:
    """Draw the shares of latents that lie in the central intervals of their draws, over the levels of the intervals.

    Args:
        levels: the levels, ``(L,)``.
        shares: the shares by method, ``(L,)``.
        num_data: the number of data of each method.

    Returns:
        A figure with one axes; a line below the diagonal shows draws that are too narrow or in the wrong place.

    Example:
        >>> levels = np.linspace(0.1, 0.9, 9)
        >>> coverage(levels, {"guide": levels**2}, {"guide": 300}).get_suptitle()
        'Expected coverage of central intervals'
    """
    fig, ax = single("Expected coverage of central intervals", 5.0, 4.6)
    grid = np.asarray(levels, float)
    fewest = min(num_data.values())
    low, high = (binom.ppf(end, fewest, grid) / fewest for end in (0.025, 0.975))
    ax.fill_between(grid, low, high, color=PALE, alpha=0.6, linewidth=0)
    ax.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    styles = ("-", "--", ":")
    for i, (method, values) in enumerate(shares.items()):
        share = np.asarray(values, float)
        at = int(np.argmin(np.abs(grid - 0.9)))
        label = f"{method}: {number(100 * share[at], '.0f')} % at {number(100 * grid[at], '.0f')} %"
        colour = (BLUE, ORANGE, INK)[i % 3]
        ax.plot(grid, share, color=colour, linestyle=styles[i % 3], linewidth=1.6, label=label)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    ax.set(xlabel="level of the interval", ylabel="share of latents inside", xlim=(0, 1), ylim=(0, 1))
    ax.set_aspect("equal")
    note(fig, [f"grey: where 95 % of the shares of {fewest} data lie, at each level"])
    return fig
