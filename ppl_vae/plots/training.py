"""The ELBO in the course of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_vae.errors import InputError
from ppl_vae.plots.style import BLUE, INK, ORANGE, legend, note, number, single, ticks


def elbo_over_epochs(metrics: Sequence[Mapping[str, float]]) -> Figure:
    """Draw the training and validation ELBO against the epoch, with the best validation epoch marked.

    The first epochs are often hundreds of nats lower than the rest. If they are, the axis leaves them out, and a note
    below it says which and how low; a collapse later in the fit is never left out.

    Args:
        metrics: one row for each epoch: ``epoch`` (from 1), ``elbo_train`` and ``elbo_valid`` in nats per datum, higher
            is better. A row may lack either (there are no validation data, or not every epoch is validated). If an
            epoch has several rows, they are drawn against their ``step``.

    Returns:
        A figure with one axes.

    Example:
        >>> figure = elbo_over_epochs([{"epoch": 1, "elbo_train": -120.0, "elbo_valid": -121.5}])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()][:2]
        ['training', 'validation']
    """
    epochs = [row["epoch"] for row in metrics]
    unit = "step" if len(set(epochs)) < len(epochs) else "epoch"
    train, valid = _curve(metrics, unit, "elbo_train"), _curve(metrics, unit, "elbo_valid")
    if not len(train) and not len(valid):
        keys = sorted({key for row in metrics for key in row})
        raise InputError(f"metrics: expected rows with 'elbo_train' or 'elbo_valid', got keys {keys}")

    fig, ax = single("Training and validation bound")
    marker = "o" if len(metrics) <= 15 else ""
    if len(train):
        ax.plot(*train.T, color=BLUE, linewidth=1.2, linestyle="--", marker=marker, markersize=4, label="training")
    if len(valid):
        ax.plot(*valid.T, color=ORANGE, linewidth=1.8, marker=marker, markersize=4, label="validation")
        if np.isfinite(valid[:, 1]).any():
            epoch, best = valid[np.nanargmax(np.where(np.isfinite(valid[:, 1]), valid[:, 1], np.nan))]
            label = f"best validation: {number(best, '.2f')} at {unit} {epoch:,.0f}"
            ring: dict[str, Any] = {"color": INK, "markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.5}
            ax.plot([epoch], [best], linestyle="none", marker="o", zorder=4, label=label, **ring)

    both = np.concatenate([train, valid])
    notes = _crop(ax, both[np.isfinite(both[:, 1])], unit)
    lost = np.unique(both[~np.isfinite(both[:, 1]), 0])
    if lost.size:
        notes.append(f"not finite at {lost.size} {unit}{'s' * (lost.size > 1)}, first at {lost[0]:.0f}")
    note(fig, notes)
    ax.set(xlabel="epoch" if unit == "epoch" else "gradient step", ylabel="ELBO (nats per datum, higher is better)")
    ax.xaxis.set_major_locator(ticks(whole=True))
    if len(metrics) == 1:
        ax.set_xlim(both[0, 0] - 0.5, both[0, 0] + 0.5)
        ax.margins(y=0.3)
    # Above the axes: inside, a curve that falls (overfitting, a collapse) would run through it.
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return fig


def elbo_over_rates(rates: np.ndarray, elbos: np.ndarray, suggestion: float) -> Figure:
    """Draw the objective in a search for a learning rate against the rate of each step.

    Args:
        rates: the rates, rising, ``(n,)``.
        elbos: what training ascends before each step, nats per datum, ``(n,)``.
        suggestion: the rate that was chosen, which is marked.

    Returns:
        A figure with one axes.

    Example:
        >>> figure = elbo_over_rates(np.array([1e-3, 1e-2, 1e-1]), np.array([-9.0, -5.0, -7.0]), 1e-3)
        >>> figure.axes[0].get_xscale()
        'log'
    """
    fig, ax = single("Search for a learning rate")
    ax.plot(rates, elbos, color=BLUE, linewidth=1.8)
    ax.axvline(suggestion, color=ORANGE, linewidth=1.2, linestyle="--", label=f"suggested: {suggestion:g}")
    ax.set(xscale="log", xlabel="learning rate of the step", ylabel="ELBO (nats per datum, higher is better)")
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig


def _curve(metrics: Sequence[Mapping[str, float]], unit: str, key: str) -> np.ndarray:
    """Return ``(epoch, value)`` or ``(step, value)`` of the rows that have ``key``, shape ``(E, 2)``."""
    pairs = [(row[unit], row[key]) for row in metrics if row.get(key) is not None]
    return np.array(pairs, dtype=float).reshape(-1, 2)


def _crop(ax: Axes, points: np.ndarray, unit: str) -> list[str]:
    """Leave out the first epochs if they would squash the rest, and return a note about them."""
    if len(points) == 0:
        return []
    epochs = np.unique(points[:, 0])
    lowest = np.array([points[points[:, 0] == epoch, 1].min() for epoch in epochs])
    top, floor = points[:, 1].max(), np.quantile(lowest, 0.1)
    floor -= 0.5 * (top - floor)
    kept = int(np.argmax(lowest >= floor))
    if len(epochs) < 5 or kept == 0:
        return []
    low = lowest[kept:].min()
    ax.set_ylim(low - 0.08 * (top - low), top + 0.08 * (top - low))
    several = f"{unit}s {epochs[0]:.0f} to {epochs[kept - 1]:.0f} lie"
    which = several if kept > 1 else f"{unit} {epochs[0]:.0f} lies"
    return [f"{which} below the axis, lowest {number(lowest[:kept].min(), '.1f')}"]
