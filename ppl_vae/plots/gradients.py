"""The variance of the gradient's estimators against the number of particles."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ppl_vae.errors import InputError
from ppl_vae.plots.bound import axis_of_draws, name_ends
from ppl_vae.plots.style import BLUE, INK, ORANGE, note, single

STYLES: tuple[dict[str, Any], ...] = (
    {"color": INK, "linestyle": "-", "marker": "o"},
    {"color": BLUE, "linestyle": "--", "marker": "^"},
    {"color": INK, "linestyle": (0, (1, 1.5)), "marker": "v"},
    {"color": ORANGE, "linestyle": "-", "marker": "D"},
    {"color": "0.55", "linestyle": "-.", "marker": "s"},
)


def variance_over_particles(curves: Mapping[str, Mapping[int, float]]) -> Figure:
    """Draw the variance of each estimator of a gradient against the number of particles, on logarithmic axes.

    A variance that is not a positive number cannot be drawn there, and a note names its estimator.

    Args:
        curves: the variance, nats squared, by the name of an estimator and by the number of particles.

    Returns:
        A figure with one axes; the name of every line is at its right end.

    Raises:
        InputError: no curve, a number of particles below 1, or nothing to draw.

    Example:
        >>> curves = {"path derivative": {1: 2.0, 4: 0.5}, "score function": {1: 90.0, 4: 22.5}}
        >>> figure = variance_over_particles(curves)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['path derivative', 'score function']
    """
    for name, curve in curves.items():
        if not curve or min(curve) < 1:
            raise InputError(f"curves: expected numbers of particles from 1 in {name!r}, got {sorted(curve)[:1]}")
    drawn: dict[str, np.ndarray] = {}
    notes = []
    for name, curve in curves.items():
        points = np.array(sorted(curve.items()), float)
        positive = np.isfinite(points[:, 1]) & (points[:, 1] > 0)
        if not positive.all():
            which = ", ".join(f"{k:.0f}" for k in points[~positive, 0])
            notes.append(f"{name}: not positive, or not finite, at K = {which}")
        if positive.any():
            drawn[name] = points[positive]
    if not drawn:
        raise InputError(f"curves: expected one or more with a positive variance, got {list(curves)}")
    fig, ax = single("Variance of the estimators of the ELBO's gradient", 7.2, 4.4)
    ends = []
    for (name, points), style in zip(drawn.items(), cycle(STYLES), strict=False):
        ax.plot(*points.T, linewidth=1.6, markersize=4.5, label=name, **style)
        ends.append((name, *points[-1], style["color"]))
    axis_of_draws(ax, drawn)
    ax.set_yscale("log")
    everything = np.concatenate([points[:, 1] for points in drawn.values()])
    ax.set_ylim(everything.min() / 1.6, everything.max() * 1.6)
    name_ends(ax, ends)
    ax.set(xlabel="number of particles K", ylabel="variance, sum over \N{GREEK SMALL LETTER LAMDA} (nats squared)")
    note(fig, notes)
    return fig
