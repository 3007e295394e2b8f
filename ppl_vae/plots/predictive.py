"""Figures of criticism: statistics of data among those of draws, and the evidence of data beside that of draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.style import (
    BLUE,
    INK,
    NOTE,
    ORANGE,
    PALE,
    bins,
    bulk,
    legend,
    note,
    number,
    remarked,
    single,
    widest,
)
from ppl_vae.plots.style import first as first_of

MOST_ROWS, REACH, LEVEL = 24, 8.0, 0.05


def statistics_among_draws(
    names: Sequence[str],
    observed: ArrayLike,
    replicated: ArrayLike,
    p_values: ArrayLike,
    *,
    given_data: ArrayLike = (),
    title: str = "Statistics of the data",
) -> Figure:
    """Draw statistics of data among those of data sets that are drawn from the model.

    Args:
        names: the names of the ``S`` statistics.
        observed: the statistics of the data, ``(S,)``.
        replicated: those of data sets that are drawn from the model, ``(R, S)``.
        p_values: the p values, ``(S,)``, adjusted for their number; a statistic at or below 0.05 is orange.
        given_data: the statistics of data sets that are drawn given the data, ``(R', S)``.
        title: the title.

    Returns:
        A figure with a row for each statistic: the middle 95 % of the draws and the data, on a scale on which the draws
        have mean zero and standard deviation one. The numbers are beside it. Of many, those with the smallest p values.

    Raises:
        InputError: the shapes do not agree.

    Example:
        >>> draws = np.random.default_rng(0).normal(size=(200, 2))
        >>> statistics_among_draws(["mean", "zeros"], [0.1, 9.0], draws, [0.9, 0.005]).get_suptitle()
        'Statistics of the data: 1 of 2 outside of the draws'
    """
    values, drawn, chances = (np.asarray(part, float) for part in (observed, replicated, p_values))
    if drawn.ndim != 2 or not (len(names) == len(values) == drawn.shape[1] == len(chances)):
        raise InputError(f"replicated: expected (R, {len(names)}), one number for each statistic, got {drawn.shape}")
    given = np.asarray(given_data, float).reshape(-1, len(names))
    chosen = np.sort(np.argsort(chances, kind="stable")[:MOST_ROWS])
    bad = int((chances <= LEVEL).sum())
    head = f"{title}: {bad or 'none'} of {len(names)} outside of the draws"
    labels = [names[i] for i in chosen]
    ends = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    texts = [f"{number(values[i])}; draws {number(ends[0, i])} to {number(ends[1, i])}" for i in chosen]
    width = 3.4 + widest(labels) + widest(texts)
    fig, ax = single(remarked(head, [first_of(MOST_ROWS, len(names))]), width, 1.7 + 0.26 * len(chosen))
    centre, sd = np.nanmean(drawn, 0), np.nanstd(drawn, 0)
    sd = np.where(sd > 1e-12 * (1 + np.abs(centre)), sd, 1.0)
    for place, i in enumerate(chosen):
        y, scale = len(chosen) - 1 - place, lambda part, i=i: np.clip((part - centre[i]) / sd[i], -REACH, REACH)
        ax.plot(scale(ends[:, i]), [y, y], color=PALE, linewidth=9, solid_capstyle="butt")
        if len(given):
            ax.plot(scale(np.nanquantile(given[:, i], [0.025, 0.975])), [y - 0.3, y - 0.3], color=INK, linewidth=1.2)
        z = float(scale(values[i]))
        marker = "<" if z <= -REACH else ">" if z >= REACH else "o"
        ax.plot(z, y, marker, color=ORANGE if chances[i] <= LEVEL else BLUE, markersize=6)
        ax.text(1.02, y, texts[place], transform=ax.get_yaxis_transform(), va="center", fontsize=NOTE, color="0.25")
    ax.set_yticks(range(len(chosen)), labels[::-1], fontsize=NOTE)
    ax.set(ylim=(-0.7, len(chosen) - 0.3), xlim=(-REACH - 0.6, REACH + 0.6))
    ax.set_xlabel("distance from the mean of the draws, in their standard deviations")
    ax.grid(axis="y", visible=False)
    notes = ["dot: data; bar: 95 % of data sets drawn from the model"]
    note(fig, notes + (["thin line: 95 % of data sets drawn given the data"] if len(given) else []))
    return fig


def evidence_of_two(test: ArrayLike, simulated: ArrayLike) -> Figure:
    """Draw the log evidence of test data beside that of data that are drawn from the model.

    Args:
        test: log evidence of test data, ``(N,)``, nats.
        simulated: log evidence of simulated data, ``(M,)``, nats.

    Raises:
        InputError: one of them has no finite number.

    Example:
        >>> random = np.random.default_rng(0)
        >>> evidence_of_two(random.normal(-20, 3, 200), random.normal(-18, 3, 300)).axes[0].get_xlabel()
        'log evidence (nats)'
    """
    parts = {"test data": np.asarray(test, float).ravel(), "drawn from the model": np.asarray(simulated, float).ravel()}
    finite = {name: values[np.isfinite(values)] for name, values in parts.items()}
    for name, values in finite.items():
        if not len(values):
            raise InputError(f"{name}: no log evidence is finite")
    fig, ax = single("Log evidence of test data and of data drawn from the model")
    both = np.concatenate(list(finite.values()))
    low, high = bulk(both, 0.002, 6.0)
    edges = bins(both[(both >= low) & (both <= high)])
    lost = 0
    for (name, values), colour in zip(finite.items(), (BLUE, INK), strict=True):
        heights = np.histogram(values, edges)[0]
        lost += len(parts[name]) - int(heights.sum())
        label = f"{name}: mean {number(float(values.mean()), '.1f')}"
        fill = colour == BLUE
        ax.stairs(heights / len(values), edges, color=colour, label=label, fill=fill, alpha=0.55 if fill else 1, lw=1.4)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    ax.set(xlabel="log evidence (nats)", ylabel="share of the data")
    note(fig, [f"{lost} outside of the axis or not finite"] if lost else [])
    return fig
