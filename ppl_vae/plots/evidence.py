"""What the evidence of the data is, how far to trust it, and which data are explained worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots._common import BLUE, INK, ORANGE, PALE, blank, number, tidy
from ppl_vae.plots._common import rows as as_rows
from ppl_vae.plots._images import GAP, cell_size, checked_shape
from ppl_vae.plots._lines import small_multiples
from ppl_vae.plots.samples import reconstructions

WORST_IMAGES, WORST_VECTORS = 20, 12  # more are not drawn, and the title says so
LOWEST_K, HIGHEST_K = -1.0, 2.0  # Pareto shapes beyond these are in one bar
HALO = [withStroke(linewidth=3, foreground="white")]
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
    r"""The bound of K draws on the log evidence, averaged over the data, against K: has it levelled off?

    Every point is an average over the same data. A datum whose bound is not finite at the last K of a curve is left
    out of all of them, and a note says so. Where another estimator starts or stays far below the best one, the axis
    leaves that part out, and a note says how low it is.

    Args:
        curves: by the name of an estimator, by the number of draws K, the bound of every datum, ``(N,)``, nats. The
            ELBO is the first curve's bound at K = 1.
        exact: the exact log evidence where it is known, nats per datum.
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
    fig = blank(6.8, 4.2)
    ax = tidy(fig.add_subplot())
    notes = [f"{left_out} of {count} data left out: their bound is not finite"] if left_out else []
    ends: list[tuple[str, float, str]] = []
    for i, (name, points) in enumerate(means.items()):
        style = STYLES[i % len(STYLES)]
        finite = points[np.isfinite(points[:, 1])]
        ax.plot(*finite.T, linewidth=1.6, markersize=4.5, label=name, **style)
        ends.append((name, float(points[-1, 1]), style["color"]))
        if len(finite) < len(points):
            lost = points[~np.isfinite(points[:, 1]), 0]
            notes.append(f"{name}: not finite below K = {_draws(finite[finite[:, 0] > lost.max(), 0].min())}")
    shown = {name: value for name, value in levels.items() if np.isfinite(value)}
    notes += [f"{name}: {number(value)}" for name, value in levels.items() if name not in shown]
    for name, value in shown.items():
        colour, line = (INK, "-") if name == "exact" and exact is not None else ("0.4", ":")
        ax.axhline(value, color=colour, linestyle=line, linewidth=1.1, zorder=1.5, label=name)
        ends.append((name, value, colour))

    ks = np.unique(np.concatenate([points[:, 0] for points in means.values()]))
    ax.set_xscale("log")
    beside = 1.15 if len(ks) > 1 else 3
    ax.set_xlim(ks[0] / beside, ks[-1] * beside)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if ks[-1] < 10 * ks[0]:
        ax.set_xticks(ks)
        ax.minorticks_off()
    else:
        ax.xaxis.set_major_locator(LogLocator(numticks=8))
    notes += _crop(ax, means, list(shown.values()))
    first = next(iter(means.values()))
    if first[0, 0] == 1 and np.isfinite(first[0, 1]):
        ax.annotate(
            f"ELBO {number(first[0, 1], '.2f')}",
            (1, first[0, 1]),
            (8, -5),
            textcoords="offset points",
            va="top",
            fontsize="small",
            color=INK,
            path_effects=HALO,
        )
    _name_ends(ax, [end for end in ends if end[1] >= ax.get_ylim()[0]])
    kept = count - left_out
    fig.suptitle(f"Bound of K draws on the log evidence, mean of {_data(kept)}")
    ax.set(xlabel="number of draws K", ylabel="log evidence (nats per datum)")
    if notes:
        fig.supxlabel("\n".join(notes), x=0.99, ha="right", fontsize="x-small", color="0.4")
    return fig


def _mean_curves(curves: Mapping[str, Mapping[int, ArrayLike]]) -> tuple[dict[str, np.ndarray], int, int]:
    """``(K, mean)`` of every curve, the number of data, and how many of them no curve's mean has."""
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
    """Leave out what lies far below the best curve; say so."""
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
            notes.append(f"{name} lies below the axis, {number(points[-1, 1], '.2f')} at K = {_draws(points[-1, 0])}")
        elif len(below):
            what = f"up to K = {_draws(below[-1, 0])}" if len(below) > 1 else f"at K = {_draws(below[0, 0])}"
            notes.append(f"{name} lies below the axis {what}, lowest {number(below[:, 1].min(), '.2f')}")
    return notes + [f"a reference lies below the axis: {number(v, '.2f')}" for v in levels if v < low]


def _name_ends(ax: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Each line's name and last value in the right margin, pushed apart so that none hides another."""
    low, high = ax.get_ylim()
    heights = spread(np.array([(value - low) / (high - low) for _, value, _ in ends]), 0.055)
    leader: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.9, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 0}
    for (name, value, colour), height in zip(ends, heights, strict=True):
        ax.annotate(
            f"{name} {number(value, '.2f')}",
            (1, value),
            (1.035, height),
            xycoords=ax.get_yaxis_transform(),
            textcoords="axes fraction",
            va="center",
            fontsize="small",
            color=INK,
            arrowprops=leader | {"color": colour},
            annotation_clip=False,
        )


def spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Heights in order, at least ``gap`` apart, each group of crowded ones about its middle.

    Example:
        >>> spread(np.array([0.5, 0.0, 0.5]), 0.25).tolist()
        [0.375, 0.0, 0.625]
    """
    order = np.argsort(heights, kind="stable")
    groups = [[float(heights[i])] for i in order]

    def placed(group: list[float]) -> np.ndarray:
        return np.mean(group) + gap * (np.arange(len(group)) - (len(group) - 1) / 2)

    i = 0
    while i + 1 < len(groups):
        if placed(groups[i + 1])[0] - placed(groups[i])[-1] < gap - 1e-12:
            groups[i : i + 2] = [groups[i] + groups[i + 1]]
            i = max(i - 1, 0)
        else:
            i += 1
    result = np.empty(len(heights))
    result[order] = np.concatenate([placed(group) for group in groups]) if groups else []
    return result


def _draws(k: float) -> str:
    return f"{k:.0f}"


def _data(count: int) -> str:
    return f"{count} data" if count > 1 else "1 datum"


def pareto_k_histogram(k: ArrayLike, threshold: float) -> Figure:
    """The Pareto shape of every datum's importance weights, and the share above a threshold.

    Above it, the weights' tail is so heavy that neither the estimate of the log evidence nor its error should be
    believed (Vehtari, Simpson, Gelman, Yao and Gabry, Pareto smoothed importance sampling, 2024).

    Args:
        k: ``(N,)``. Shapes of -1 or less (minus infinity: all weights are equal), of 2 or more, and NaN (too few
            draws, or all weights zero: it cannot be told) have bars of their own, beside the axis.
        threshold: such as 0.7; fewer draws have a lower one. Below -1, it is in the title only.

    Returns:
        A figure with one axes: blue bars up to the threshold, hatched ones above it.

    Raises:
        InputError: no datum.

    Example:
        >>> pareto_k_histogram(np.array([0.1, 0.3, 0.9, np.nan]), 0.7).get_suptitle()
        'Pareto shape of the weights: 1 of 4 data (25 %) above 0.7'
    """
    shapes = as_rows(k, "k").ravel()
    known = shapes[~np.isnan(shapes)]
    unknown = len(shapes) - len(known)
    values = known[(known > LOWEST_K) & (known < HIGHEST_K)]
    width = 0.05 if values.size > 200 else 0.1
    # Bins (a, b] with an edge at the threshold: what is coloured as above it is above it.
    drawn = LOWEST_K <= threshold <= HIGHEST_K
    anchor = threshold if drawn else 0.0
    place = np.ceil((values - anchor) / width).astype(int)
    first, last = (np.ceil((end - anchor) / width).astype(int) for end in (0.0, 1.0))
    first, last = min(first, place.min(initial=0)), max(last, place.max(initial=1))
    heights = np.bincount(place - first, minlength=last - first + 1)
    left = anchor + (np.arange(first, last + 1) - 1) * width

    fig = blank(6.4, 3.8)
    ax = tidy(fig.add_subplot())
    ax.grid(axis="x", visible=False)
    good: dict[str, Any] = {"color": BLUE, "edgecolor": "white", "linewidth": 0.5}
    doubtful = good | {"color": ORANGE, "hatch": "////"}
    above = np.arange(first, last + 1) > 0 if drawn else np.full(len(left), threshold < LOWEST_K)
    ax.bar(left[~above], heights[~above], width, align="edge", **good)
    ax.bar(left[above], heights[above], width, align="edge", **doubtful)
    if drawn:
        ax.axvline(threshold, color=INK, linestyle="--", linewidth=1.4)
        ax.annotate(
            f"threshold {number(threshold)}",
            (threshold, 1),
            (0, 3),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    start, end = float(left[0]), float(left[-1]) + width
    inside = [float(t) for t in MaxNLocator(6).tick_values(start, end) if start - 1e-9 <= t <= end + 1e-9]
    ticks = {t: number(round(t, 9)) for t in inside}
    apart = 0.09 * (end - start)  # such that the names of the bars outside have room
    lowest = known[known <= LOWEST_K]
    lowest_name = "equal\nweights" if np.isinf(lowest).all() else f"{number(LOWEST_K)} or\nless"
    for count, name, side, style in [
        (len(lowest), lowest_name, -1, good if threshold >= LOWEST_K else doubtful),
        (
            int((known >= HIGHEST_K).sum()),
            f"{number(HIGHEST_K)} or\nmore",
            1,
            doubtful if threshold < HIGHEST_K else good,
        ),
        (unknown, "cannot\ntell", 1, {"color": PALE, "edgecolor": "0.45", "linewidth": 0.5}),
    ]:
        if count:
            middle = start - apart if side < 0 else end + apart
            ax.bar(middle, count, 0.4 * apart, **style)
            ticks[middle] = name
            start, end = min(start, middle + 0.3 * apart * side), max(end, middle + 0.3 * apart * side)
    ax.set_xlim(start - 0.3 * apart, end + 0.3 * apart)
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    bad = int((known > threshold).sum())
    share = f" ({100 * bad / len(shapes):.0f} %)" if bad else ""
    told = f"{bad or 'none'} of {_data(len(shapes))}{share} above {number(threshold)}"
    fig.suptitle(f"Pareto shape of the weights: {told}")
    notes = ["above the threshold, an estimate is doubtful"] if bad else []
    if unknown:
        notes.append(f"of {unknown}, the shape cannot be told")
    if notes:
        fig.supxlabel("; ".join(notes), x=0.99, ha="right", fontsize="x-small", color="0.4")
    ax.set(xlabel="Pareto shape k (lower is better)", ylabel="number of data")
    return fig


def worst_explained(
    data: ArrayLike,
    means: ArrayLike,
    log_evidence: ArrayLike,
    *,
    image_shape: Sequence[int] | None = None,
    rows: ArrayLike | None = None,
) -> Figure:
    r"""The data of the lowest log evidence, with their reconstructions.

    Args:
        data: ``(n, ...)``, the worst first; NaN is a missing value.
        means: their reconstructions, ``(n, ...)``.
        log_evidence: ``(n,)``, nats.
        image_shape: ``(H, W)`` or ``(H, W, 3)`` to draw every datum as an image.
        rows: the row of each in its data set, ``(n,)``.

    Returns:
        Images: data above reconstructions. Else both as lines, an axes a datum. Under or above each, its row and
        its log evidence.

    Raises:
        InputError: the shapes do not agree.

    Example:
        >>> x = np.linspace(0, 1, 2 * 16).reshape(2, 16)
        >>> figure = worst_explained(x, x**2, np.array([-31.5, -20.0]), image_shape=(4, 4), rows=np.array([7, 3]))
        >>> [text.get_text().replace("\N{MINUS SIGN}", "-") for text in figure.axes[0].texts]
        ['row 7: -31.5', 'row 3: -20.0']
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
    which = "" if shown == len(x) else f" (the worst {shown} of {len(x)})"
    title = f"The data explained worst{which}: log evidence in nats"

    if shape is not None:
        fig = reconstructions(x[:shown], mean[:shown], image_shape=shape)
        _label_images(fig.axes[0], labels, cell_size(shape)[0] + GAP)
        fig.suptitle(title, y=1 - 0.08 / fig.get_figheight())
        return fig
    fig = small_multiples({"original": x[:shown], "reconstruction": mean[:shown]}, title, "datum")
    for ax, label in zip(fig.axes, labels, strict=True):
        ax.set_title(label, fontsize="small", color="0.35", pad=2)
        if x.shape[1] <= 4:
            ax.set(xticks=range(x.shape[1]), xlim=(-0.5, x.shape[1] - 0.5))
            for line in ax.get_lines():
                line.set_markersize(6)
    return fig


def _label_images(ax: Axes, labels: Sequence[str], pitch: float) -> None:
    """A label under each reconstruction, in the gap between the bands; ``ax`` is in inches."""

    def size(texts: Sequence[str]) -> float:
        return 72 * pitch / (0.62 * max(len(line) for text in texts for line in text.split("\n")))

    if size(labels) < 6:
        labels = [label.removeprefix("row ").replace(": ", "\n") for label in labels]
    points = min(size(labels), 6.5)
    for image, label in zip(ax.images[len(labels) :], labels, strict=True):
        left, right, bottom, _ = image.get_extent()
        ax.text((left + right) / 2, bottom + 0.02, label, fontsize=points, ha="center", va="top", color=INK)
    ax.xaxis.labelpad = 17 if "\n" in labels[0] else 12
    ax.xaxis.label.set_fontsize("x-small")


def sandwich(lower: ArrayLike, upper: ArrayLike) -> Figure:
    """The widths of bidirectional Monte Carlo's bounds on the log evidence of simulated data.

    The lower bound is annealed from the prior, the upper one back from the draw that made the datum (Grosse,
    Ghahramani and Adams, Sandwiching the marginal likelihood using bidirectional Monte Carlo, 2015). The mean width
    bounds the mean error of either. It tends to be thousands of times smaller than the log evidence, so the width is
    drawn, over the middle of the two bounds. Both are random: a pair can cross, and its width is then negative.

    Args:
        lower: ``(N,)``, nats.
        upper: ``(N,)``, nats.

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

    fig = blank(6.4, 4.0)
    ax = tidy(fig.add_subplot())
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
    mean = number(float(width.mean()), ".2g")
    ax.annotate(
        f"mean\n{mean}",
        (1, width.mean()),
        (4, 0),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize="small",
        color=INK,
        annotation_clip=False,
    )
    count = len(width)
    data = "simulated data" if count > 1 else "simulated datum"
    fig.suptitle(f"Bounds on the log evidence of {count} {data}: mean width {mean} nats")
    notes = []
    if count > 2:
        notes.append(f"median {number(float(np.median(width)), '.2g')}, largest {number(float(width.max()), '.2g')}")
    if crossed.any():
        notes.append(f"{crossed.sum()} crossed (triangles): the bounds are random")
    if not finite.all():
        notes.append(f"{(~finite).sum()} of {len(finite)} not finite, left out")
    if notes:
        fig.supxlabel("; ".join(notes), x=0.99, ha="right", fontsize="x-small", color="0.4")
    ax.set(xlabel="log evidence: middle of the two bounds (nats)", ylabel="upper \N{MINUS SIGN} lower bound (nats)")
    return fig
