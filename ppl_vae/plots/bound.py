"""The bound on the log evidence, and the variance of a gradient, against the number of draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.style import BLUE, HALO, INK, NOTE, ORANGE, count_of_data, legend, note, number, single, text_width
from ppl_vae.plots.style import rows as as_rows

STYLES: tuple[dict[str, Any], ...] = (
    {"color": ORANGE, "linestyle": "-", "marker": "o"},
    {"color": BLUE, "linestyle": "--", "marker": "^"},
    {"color": INK, "linestyle": (0, (1, 1.5)), "marker": "D"},
    {"color": "0.45", "linestyle": "-.", "marker": "s"},
    {"color": INK, "linestyle": "-", "marker": "v"},
)
WIDTH = 3.2
"""The width of the axes beside the longest names of lines, inches."""


def bound_over_samples(
    curves: Mapping[str, Mapping[int, ArrayLike]],
    *,
    exact: float | None = None,
    references: Mapping[str, float] | None = None,
    first_point: str = "ELBO",
) -> Figure:
    r"""Draw the bound of K draws on the log evidence, averaged over the data, against K.

    Every point is an average over the same data. A datum whose bound is not finite at the last K of a curve is left
    out of all of them, and a note says so. If another estimator starts or stays far below the best one, the axis leaves
    that part out, and a note says how low it is. A curve that still rises at the last K needs more draws.

    Args:
        curves: the bound of every datum, ``(N,)``, nats, by the name of an estimator and by the number of draws K.
        exact: the exact log evidence if it is known, nats per datum.
        references: other estimates by name, nats per datum, such as ``{"ais": -17.0}``.
        first_point: the name of the first curve's bound at K = 1.

    Returns:
        A figure with one axes, and the name and the last value of every line beside it, the highest first.

    Raises:
        InputError: no curve, a K below 1, curves of different numbers of data, or no datum with a finite bound.

    Example:
        >>> curves = {"iwae": {1: np.array([-19.0, -18.0]), 10: np.array([-17.5, -16.5])}}
        >>> labels = bound_over_samples(curves, exact=-16.75).legends[0].get_texts()
        >>> [label.get_text().replace("\N{MINUS SIGN}", "-") for label in labels]
        ['exact -16.75', 'iwae -17.00']
    """
    means, count, left_out = _mean_curves(curves)
    levels = dict(references or {}) | ({} if exact is None else {"exact": exact})
    fig, ax = single(f"Bound of K draws on the log evidence, mean of {count_of_data(count - left_out)}", 6.4, 3.8)
    notes = [f"{left_out} of {count} data left out: their bound is not finite"] if left_out else []
    finite = {name: points[np.isfinite(points[:, 1])] for name, points in means.items()}
    _draw(ax, finite)
    for name, points in means.items():
        if len(finite[name]) < len(points):
            lost = points[~np.isfinite(points[:, 1]), 0].max()
            notes.append(f"{name}: not finite below K = {finite[name][finite[name][:, 0] > lost, 0].min():.0f}")
    notes += [f"{name}: {number(value)}" for name, value in levels.items() if not np.isfinite(value)]
    shown = {name: value for name, value in levels.items() if np.isfinite(value)}
    for (name, value), dash in zip(shown.items(), cycle([":", "--", "-."])):
        colour, line = (INK, "-") if name == "exact" and exact is not None else ("0.4", dash)
        ax.axhline(value, color=colour, linestyle=line, linewidth=1.1, zorder=1.5, label=name)
    notes += _crop(ax, finite, list(shown.values()))
    first = next(iter(means.values()))[0]
    if first[0] == 1 and np.isfinite(first[1]):
        elbo = f"{first_point} {number(first[1], '.2f')}"
        look: dict[str, Any] = {"fontsize": NOTE, "color": INK, "path_effects": HALO}
        ax.annotate(elbo, first, (8, -5), textcoords="offset points", va="top", **look)
    _name_lines(fig, ax, ".2f")
    ax.set(xlabel="number of draws K", ylabel="bound on the log evidence\n(nats per datum)")
    note(fig, notes)
    return fig


def variance_over_particles(curves: Mapping[str, Mapping[int, float]]) -> Figure:
    """Draw the variance of each estimator of a gradient against the number of particles, on logarithmic axes.

    A variance that is not a positive number cannot be drawn there, and a note names its estimator.

    Args:
        curves: the variance, nats squared, by the name of an estimator and by the number of particles.

    Returns:
        A figure with one axes, and the names of the lines beside it, the highest end first.

    Raises:
        InputError: no curve, a number of particles below 1, or nothing to draw.

    Example:
        >>> curves = {"path derivative": {1: 2.0, 4: 0.5}, "score function": {1: 90.0, 4: 22.5}}
        >>> figure = variance_over_particles(curves)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['score function', 'path derivative']
    """
    drawn: dict[str, np.ndarray] = {}
    notes = []
    for name, curve in curves.items():
        points = np.array(_sorted(name, curve), float)
        positive = np.isfinite(points[:, 1]) & (points[:, 1] > 0)
        if not positive.all():
            which = ", ".join(f"{k:.0f}" for k in points[~positive, 0])
            notes.append(f"{name}: not positive, or not finite, at K = {which}")
        if positive.any():
            drawn[name] = points[positive]
    if not drawn:
        raise InputError(f"curves: expected one or more with a positive variance, got {list(curves)}")
    fig, ax = single("Variance of the estimators of the ELBO's gradient", 6.8, 4.0)
    _draw(ax, drawn)
    ax.set_yscale("log")
    ax.set(xlabel="number of particles K", ylabel="variance, sum over \N{GREEK SMALL LETTER LAMDA} (nats²)")
    _name_lines(fig, ax)
    note(fig, notes)
    return fig


def _sorted(name: str, curve: Mapping[int, Any]) -> list[tuple[int, Any]]:
    """Return the numbers of draws of a curve, in order, with what belongs to each."""
    if not curve or min(curve) < 1:
        raise InputError(f"curves: expected numbers of draws from 1 in {name!r}, got {sorted(curve)[:1]}")
    return sorted(curve.items())


def _mean_curves(curves: Mapping[str, Mapping[int, ArrayLike]]) -> tuple[dict[str, np.ndarray], int, int]:
    """Return ``(K, mean)`` of every curve, the number of data, and the number of data that are left out."""
    stacks = {}
    for name, curve in curves.items():
        points = _sorted(name, curve)
        bounds = np.stack([as_rows(values, f"curves[{name!r}][{k}]")[:, 0] for k, values in points])
        stacks[name] = (np.array([k for k, _ in points], float), bounds)
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


def _crop(ax: Axes, finite: Mapping[str, np.ndarray], levels: Sequence[float]) -> list[str]:
    """Leave out what lies far below the best curve, and return notes about it."""
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


def _draw(ax: Axes, curves: Mapping[str, np.ndarray]) -> None:
    """Draw curves ``(K, value)`` over a logarithmic axis, whose ticks are the numbers of draws that have room."""
    for (name, points), style in zip(curves.items(), cycle(STYLES)):
        ax.plot(*points.T, linewidth=1.6, markersize=4.5, label=name, **style)
    ks = np.unique(np.concatenate([points[:, 0] for points in curves.values()]))
    inches = WIDTH / max(np.log(ks[-1] / ks[0]), 1e-9)
    ticks = [float(ks[0])]
    for k in ks:
        room = 0.1 + (text_width(f"{k:.0f}") + text_width(f"{ticks[-1]:.0f}")) / 2
        if inches * np.log(k / ticks[-1]) > room:
            ticks.append(float(k))
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{k:.0f}" for k in ticks])
    ax.minorticks_off()


def _name_lines(fig: Figure, ax: Axes, spec: str = "") -> None:
    """Name the lines beside the axes, the highest end first; with ``spec``, a format, each name has its last value."""
    ends = {line: float(np.asarray(line.get_ydata())[-1]) for line in ax.get_lines()}
    lines = sorted(ends, key=ends.__getitem__, reverse=True)
    names = [f"{line.get_label()} {number(ends[line], spec) if spec else ''}".strip() for line in lines]
    legend(fig, lines, names, handlelength=3, loc="outside right center")
