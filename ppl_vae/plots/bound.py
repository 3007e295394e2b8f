"""The bound on the log evidence against the number of draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.isotonic import isotonic_regression

from ppl_vae.errors import InputError
from ppl_vae.plots.style import BLUE, HALO, INK, ORANGE, count_of_data, note, number, single
from ppl_vae.plots.style import rows as as_rows

STYLES: tuple[dict[str, Any], ...] = (
    {"color": ORANGE, "linestyle": "-", "marker": "o"},
    {"color": BLUE, "linestyle": "--", "marker": "^"},
    {"color": "0.45", "linestyle": "-.", "marker": "s"},
    {"color": INK, "linestyle": (0, (1, 1.5)), "marker": "D"},
)


def bound_over_samples(
    curves: Mapping[str, Mapping[int, ArrayLike]],
    *,
    exact: float | None = None,
    references: Mapping[str, float] | None = None,
) -> Figure:
    r"""Draw the bound of K draws on the log evidence, averaged over the data, against K.

    Every point is an average over the same data. A datum whose bound is not finite at the last K of a curve is left
    out of all of them, and a note says so. If another estimator starts or stays far below the best one, the axis leaves
    that part out, and a note says how low it is. A curve that still rises at the last K needs more draws.

    Args:
        curves: the bound of every datum, ``(N,)``, nats, by the name of an estimator and by the number of draws K. The
            ELBO is the first curve's bound at K = 1.
        exact: the exact log evidence if it is known, nats per datum.
        references: other estimates by name, nats per datum, such as ``{"ais": -17.0}``.

    Returns:
        A figure with one axes; the name and the last value of every line are at its right end.

    Raises:
        InputError: no curve, a K below 1, curves of different numbers of data, or no datum with a finite bound.

    Example:
        >>> curves = {"iwae": {1: np.array([-19.0, -18.0]), 10: np.array([-17.5, -16.5])}}
        >>> labels = [text.get_text() for text in bound_over_samples(curves, exact=-16.75).axes[0].texts]
        >>> [label.replace("\N{MINUS SIGN}", "-") for label in labels]
        ['ELBO -18.50', 'iwae -17.00', 'exact -16.75']
    """
    means, count, left_out = _mean_curves(curves)
    levels = dict(references or {}) | ({} if exact is None else {"exact": exact})
    fig, ax = single(f"Bound of K draws on the log evidence, mean of {count_of_data(count - left_out)}", 6.8, 4.2)
    notes = [f"{left_out} of {count} data left out: their bound is not finite"] if left_out else []
    ends: list[tuple[str, float, float, str]] = []
    for (name, points), style in zip(means.items(), cycle(STYLES), strict=False):
        finite = points[np.isfinite(points[:, 1])]
        ax.plot(*finite.T, linewidth=1.6, markersize=4.5, label=name, **style)
        ends.append((name, np.inf, float(points[-1, 1]), style["color"]))
        if len(finite) < len(points):
            lost = points[~np.isfinite(points[:, 1]), 0]
            notes.append(f"{name}: not finite below K = {finite[finite[:, 0] > lost.max(), 0].min():.0f}")
    notes += [f"{name}: {number(value)}" for name, value in levels.items() if not np.isfinite(value)]
    shown = {name: value for name, value in levels.items() if np.isfinite(value)}
    for name, value in shown.items():
        colour, line = (INK, "-") if name == "exact" and exact is not None else ("0.4", ":")
        ax.axhline(value, color=colour, linestyle=line, linewidth=1.1, zorder=1.5, label=name)
        ends.append((name, np.inf, value, colour))

    axis_of_draws(ax, means)
    notes += _crop(ax, means, list(shown.values()))
    first = next(iter(means.values()))
    if first[0, 0] == 1 and np.isfinite(first[0, 1]):
        elbo = f"ELBO {number(first[0, 1], '.2f')}"
        look: dict[str, Any] = {"fontsize": "small", "color": INK, "path_effects": HALO}
        ax.annotate(elbo, first[0], (8, -5), textcoords="offset points", va="top", **look)
    low = ax.get_ylim()[0]
    name_ends(ax, [(f"{name} {number(y, '.2f')}", x, y, colour) for name, x, y, colour in ends if y >= low])
    ax.set(xlabel="number of draws K", ylabel="log evidence (nats per datum)")
    note(fig, notes)
    return fig


def _mean_curves(curves: Mapping[str, Mapping[int, ArrayLike]]) -> tuple[dict[str, np.ndarray], int, int]:
    """Return ``(K, mean)`` of every curve, the number of data, and the number of data that are left out."""
    stacks = {}
    for name, curve in curves.items():
        ks = sorted(curve)
        if not ks or ks[0] < 1:
            raise InputError(f"curves: expected numbers of draws from 1 in {name!r}, got {ks[:1]}")
        stacks[name] = (np.array(ks, float), np.stack([as_rows(curve[k], f"curves[{name!r}][{k}]")[:, 0] for k in ks]))
    counts = {name: bounds.shape[1] for name, (_, bounds) in stacks.items()}
    if len(set(counts.values())) != 1:
        raise InputError(f"curves: expected one or more, all of the same data, got numbers of data {counts}")
    kept = np.all([np.isfinite(bounds[-1]) for _, bounds in stacks.values()], axis=0)
    if not kept.any():
        raise InputError("curves: no datum has a finite bound at the last K of every curve (did the fit diverge?)")
    # A lower bound of minus infinity is one; NaN and plus infinity are not, but are not drawn either.
    with np.errstate(invalid="ignore"):
        means = {name: np.stack([ks, bounds[:, kept].mean(1)], 1) for name, (ks, bounds) in stacks.items()}
    return means, len(kept), int((~kept).sum())


def _crop(ax: Axes, means: Mapping[str, np.ndarray], levels: Sequence[float]) -> list[str]:
    """Leave out what lies far below the best curve, and return notes about it."""
    finite = {name: points[np.isfinite(points[:, 1])] for name, points in means.items()}
    best = max(finite.values(), key=lambda points: float(points[-1, 1]))
    everything = np.concatenate([*(points[:, 1] for points in finite.values()), levels])
    top = float(everything.max())
    reach = max(top - float(best[:, 1].min()), 1e-3 * abs(top), 1e-6)
    low = top - 1.3 * reach
    low = float(everything[everything >= low].min())
    margin = 0.08 * (top - low) or 0.5
    ax.set_ylim(low - 2 * margin, top + margin)
    notes = []
    for name, points in finite.items():
        below = points[points[:, 1] < low]
        if len(below) == len(points):
            notes.append(f"{name} lies below the axis, {number(points[-1, 1], '.2f')} at K = {points[-1, 0]:.0f}")
        elif len(below):
            what = f"up to K = {below[-1, 0]:.0f}" if len(below) > 1 else f"at K = {below[0, 0]:.0f}"
            notes.append(f"{name} lies below the axis {what}, lowest {number(below[:, 1].min(), '.2f')}")
    return notes + [f"a reference lies below the axis: {number(v, '.2f')}" for v in levels if v < low]


def axis_of_draws(ax: Axes, curves: Mapping[str, np.ndarray]) -> None:
    """Give axes a logarithmic axis for the numbers of draws of curves ``(K, value)``, with ticks that have room."""
    ks = np.unique(np.concatenate([points[:, 0] for points in curves.values()]))
    beside = 1.15 if len(ks) > 1 else 3
    ax.set_xscale("log")
    ax.set_xlim(ks[0] / beside, ks[-1] * beside)
    ticks = [float(ks[0])]
    for k in ks:
        if np.log(k / ticks[-1]) > 0.06 * np.log(ks[-1] / ks[0]):
            ticks.append(float(k))
    ax.set_xticks(ticks, [f"{k:.0f}" for k in ticks])
    ax.minorticks_off()


def name_ends(ax: Axes, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """Write the names of lines in the right margin, moved apart so that none hides another.

    Args:
        ax: the axes, whose scales and limits are fixed.
        ends: the name of each line, its end x and y, and its colour; an x of infinity is the right end of the axes.
    """
    right = ax.get_xlim()[1]
    places = ax.transAxes.inverted().transform(
        ax.transData.transform([(min(x, right), y) for _, x, y, _ in ends]).reshape(-1, 2)
    )
    look: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.9, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3}
    for (name, x, _, colour), (across, up), height in zip(ends, places, spread(places[:, 1], 0.055), strict=True):
        leader = look | {"color": colour} | ({"shrinkB": 0} if x > right else {})
        ax.annotate(
            name, (across, up), (1.035, height), xycoords="axes fraction", textcoords="axes fraction", va="center",
            fontsize="small", color=INK, arrowprops=leader, annotation_clip=False,
        )  # fmt: skip


def spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Return the heights moved to be at least ``gap`` apart, in the same order; a crowded group keeps its middle.

    Example:
        >>> spread(np.array([0.5, 0.0, 0.5]), 0.25).tolist()
        [0.375, 0.0, 0.625]
    """
    order = np.argsort(heights, kind="stable")
    level = heights[order] - gap * np.arange(len(heights))  # must not fall: an isotonic regression of it is closest
    result = heights.astype(float)
    if len(level):
        result[order] += isotonic_regression(level) - level
    return result
