"""Figures of the evidence: how far to trust it, and the data that are explained worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.images import checked_shape
from ppl_vae.plots.samples import image_pairs, vectors
from ppl_vae.plots.style import BLUE, INK, NOTE, ORANGE, PALE, count_of_data, note, number, remarked, single
from ppl_vae.plots.style import rows as as_rows
from ppl_vae.plots.style import ticks as locate_ticks

WORST_IMAGES, WORST_VECTORS = 20, 12  # more are not drawn, and the title says so
LOWEST_K, HIGHEST_K = -1.0, 2.0  # Pareto shapes beyond these are in one bar


def pareto_k_histogram(k: ArrayLike, threshold: float) -> Figure:
    """Draw the Pareto k of the importance weights of the data, and the share above a threshold.

    Above it, the weights' tail is so heavy that neither the estimate of the log evidence nor its error should be
    believed (Vehtari, Simpson, Gelman, Yao and Gabry, Pareto smoothed importance sampling, 2024).

    Args:
        k: the Pareto k of every datum, the shape of the tail of its weights, ``(N,)``. Values of -1 or less (minus
            infinity: all weights are equal), of 2 or more, and NaN (not known: too few draws, or all weights are zero)
            have bars of their own beside the axis.
        threshold: the threshold, such as 0.7; fewer draws have a lower one. Below -1, it is in the title only.

    Returns:
        A figure with one axes: blue bars up to the threshold, hatched ones above it.

    Raises:
        InputError: no datum.

    Example:
        >>> pareto_k_histogram(np.array([0.1, 0.3, 0.9, np.nan]), 0.7).get_suptitle()
        'Pareto k of the weights: 1 of 4 data (25 %) above 0.7'
    """
    shapes = as_rows(k, "k").ravel()
    known = shapes[~np.isnan(shapes)]
    bad, unknown = int((known > threshold).sum()), len(shapes) - len(known)
    share = f" ({100 * bad / len(shapes):.0f} %)" if bad else ""
    above = f"{bad or 'none'} of {count_of_data(len(shapes))}{share} above {number(threshold)}"
    fig, ax = single(f"Pareto k of the weights: {above}", height=3.6)
    ax.grid(axis="x", visible=False)

    # Bins (a, b] with an edge at the threshold: what is coloured as above it is above it.
    values = known[(known > LOWEST_K) & (known < HIGHEST_K)]
    width = 0.05 if values.size > 200 else 0.1
    drawn = LOWEST_K <= threshold <= HIGHEST_K
    anchor = threshold if drawn else 0.0
    place = np.ceil((np.r_[0.0, 1.0, values] - anchor) / width).astype(int)
    heights = np.bincount((place - place.min())[2:], minlength=np.ptp(place) + 1)
    left = anchor + (np.arange(place.min(), place.max() + 1) - 1) * width
    high = left > threshold - width / 2
    edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.5}
    hatches = np.where(high, "////", "").tolist()
    ax.bar(left, heights, width, align="edge", color=np.where(high, ORANGE, BLUE), hatch=hatches, **edge)
    if drawn:
        ax.axvline(threshold, color=INK, linestyle="--", linewidth=1.4)
        above_axes = ax.get_xaxis_transform()
        ax.text(threshold, 1.02, f"threshold {number(threshold)}", transform=above_axes, ha="center", fontsize=NOTE)

    start, end = float(left[0]), float(left[-1]) + width
    ticks = {
        float(t): number(round(t, 9))
        for t in locate_ticks(6).tick_values(start, end)
        if start - 1e-9 <= t <= end + 1e-9
    }
    apart = 0.09 * (end - start)  # room for the names of the bars beside the axis
    lowest = known[known <= LOWEST_K]
    lowest_name = "equal\nweights" if np.isinf(lowest).all() else f"{number(LOWEST_K)} or\nless"
    for count, name, middle, colour in [
        (len(lowest), lowest_name, start - apart, BLUE if threshold >= LOWEST_K else ORANGE),
        (
            int((known >= HIGHEST_K).sum()),
            f"{number(HIGHEST_K)} or\nmore",
            end + apart,
            ORANGE if threshold < HIGHEST_K else BLUE,
        ),
        (unknown, "not\nknown", end + 2.3 * apart, PALE),
    ]:
        if count:
            look = edge | {"color": colour, "hatch": "////" if colour == ORANGE else ""}
            ax.bar(middle, count, 0.4 * apart, **look | ({"edgecolor": "0.45"} if colour == PALE else {}))
            ticks[middle] = name
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.margins(x=0.03)
    ax.yaxis.set_major_locator(locate_ticks(whole=True))
    doubt = ["above the threshold, an estimate is doubtful"] if bad else []
    note(fig, doubt + ([f"k of {unknown} is not known"] if unknown else []))
    ax.set(xlabel="Pareto k (lower is better)", ylabel="number of data")
    return fig


def worst_explained(
    data: ArrayLike,
    means: ArrayLike,
    log_evidence: ArrayLike,
    *,
    image_shape: Sequence[int] | None = None,
    light: bool = False,
    rows: ArrayLike | None = None,
) -> Figure:
    r"""Draw the data with the lowest log evidence, and their reconstructions.

    Args:
        data: the data, ``(n, ...)``, the worst first; NaN is a missing value.
        means: their reconstructions, ``(n, ...)``.
        log_evidence: their log evidence, ``(n,)``, nats.
        image_shape: ``(H, W)`` or ``(H, W, 3)`` to draw every datum as an image.
        light: if true, high values of grey images are light, as on a screen; else dark, as ink on paper.
        rows: the row of each in its data set, ``(n,)``.

    Returns:
        Images: data above reconstructions. Else both as lines, with one axes for each datum. The row and the log
        evidence of each are below its image or above its axes.

    Raises:
        InputError: the shapes do not agree.

    Example:
        >>> x = np.linspace(0, 1, 2 * 16).reshape(2, 16)
        >>> figure = worst_explained(x, x**2, np.array([-31.5, -20.0]), image_shape=(4, 4), rows=np.array([7, 3]))
        >>> [text.get_text().split("\n")[0] for text in figure.axes[0].texts]
        ['row 7:', 'row 3:']
    """
    x, mean = as_rows(data, "data"), as_rows(means, "means")
    evidence = as_rows(log_evidence, "log_evidence").ravel()
    if x.shape != mean.shape:
        raise InputError(f"means: expected as many values as data, {x.shape}, got {mean.shape}")
    numbers = None if rows is None else np.asarray(rows).ravel()
    for name, values in {"log_evidence": evidence, "rows": numbers}.items():
        if values is not None and len(values) != len(x):
            raise InputError(f"{name}: expected one for each of the {len(x)} data, got {len(values)}")
    shape = None if image_shape is None else checked_shape(image_shape, x.shape[1], "data")
    most = WORST_VECTORS if shape is None else WORST_IMAGES
    shown = min(len(x), most)
    labels = [number(value, ".1f") for value in evidence[:shown]]
    if numbers is not None:
        labels = [f"row {row}: {label}" for row, label in zip(numbers, labels, strict=False)]
    which = "" if shown == len(x) else f"the worst {shown} of {len(x)}"
    title = f"{remarked('The data explained worst', [which])}: log evidence in nats"
    stacks = {"original": x[:shown], "reconstruction": mean[:shown]}
    if shape is None:
        return vectors(stacks, title, labels)
    return image_pairs(stacks, shape, title, [label.replace(": ", ":\n") for label in labels], light=light)


def sandwich(lower: ArrayLike, upper: ArrayLike) -> Figure:
    """Draw the widths of bidirectional Monte Carlo's bounds on the log evidence of simulated data.

    The lower bound is annealed from the prior, the upper one back from the draw that made the datum (Grosse,
    Ghahramani and Adams, Sandwiching the marginal likelihood using bidirectional Monte Carlo, 2015). The mean width
    bounds the mean error of either. It tends to be thousands of times smaller than the log evidence, so the width is
    drawn, over the middle of the two bounds. Both are random: a pair can cross, and its width is then negative.

    Args:
        lower: the lower bounds, ``(N,)``, nats.
        upper: the upper bounds, ``(N,)``, nats.

    Returns:
        A figure with one axes: for every datum, an interval from zero to its width, and the mean as a line.

    Raises:
        InputError: the shapes do not agree, or no datum has two finite bounds.

    Example:
        >>> sandwich(np.array([-20.0, -31.0]), np.array([-19.5, -30.9])).get_suptitle()
        'Bounds on the log evidence of 2 simulated data: mean width 0.3 nats'
    """
    low, high = as_rows(lower, "lower").ravel(), as_rows(upper, "upper").ravel()
    if low.shape != high.shape:
        raise InputError(f"upper: expected as many as lower, {len(low)}, got {len(high)}")
    finite = np.isfinite(low) & np.isfinite(high)
    if not finite.any():
        raise InputError("lower, upper: no datum has two finite bounds (did the fit diverge?)")
    order = np.argsort((low + high)[finite], kind="stable")
    low, high = low[finite][order], high[finite][order]
    width, middle = high - low, (high + low) / 2

    count, mean = len(width), number(float(width.mean()), ".2g")
    data = "simulated data" if count > 1 else "simulated datum"
    fig, ax = single(f"Bounds on the log evidence of {count} {data}: mean width {mean} nats")
    crossed = width < 0
    ax.vlines(middle, np.minimum(width, 0), np.maximum(width, 0), color="0.72", linewidth=1.2, rasterized=True)
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 4.5 if len(width) <= 200 else 3}
    ax.plot(middle[~crossed], width[~crossed], marker="o", color=BLUE, **dot)
    ax.plot(middle[crossed], width[crossed], marker="v", color=ORANGE, **dot)
    ax.axhline(0, color=INK, linewidth=0.9)
    ax.axhline(width.mean(), color=INK, linewidth=1.3, linestyle="--")
    ax.margins(y=0.12)
    if len(width) == 1:
        ax.set_xlim(middle[0] - 1, middle[0] + 1)
    beside = ax.get_yaxis_transform()
    ax.text(1.01, width.mean(), f"mean\n{mean}", transform=beside, va="center", fontsize=NOTE, color=INK)
    notes = []
    if count > 2:
        notes.append(f"median {number(float(np.median(width)), '.2g')}, largest {number(float(width.max()), '.2g')}")
    if crossed.any():
        notes.append(f"{crossed.sum()} crossed (triangles): the bounds are random")
    if not finite.all():
        notes.append(f"{(~finite).sum()} of {len(finite)} not finite, left out")
    note(fig, notes)
    ax.set(xlabel="log evidence: middle of the two bounds (nats)", ylabel="upper \N{MINUS SIGN} lower bound (nats)")
    return fig
