"""The data in the latent space."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.clouds import class_cloud, cloud, scaled_cloud
from ppl_vae.plots.style import BLUE, CLASS_COLOURS, HALO, LABEL, bins, legend, note, remarked, rows, single, ticks


def latent_space(
    z: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    axes: tuple[str, str] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the posterior means of the data, coloured by label.

    One dimension is drawn as a histogram (by class, if there are classes), two as they are, and more by their first two
    principal components.

    Args:
        z: posterior means, ``(N, D)``; ``(N,)`` is one dimension. Rows that are not finite are left out.
        labels: a label for each datum, ``(N,)``. Up to 10 distinct integers or names are classes, each with a colour
            and its name at its median; -1 beside others is a datum without a label, which is grey. More integers, or
            floats, are a continuous scale.
        axes: the names of the coordinates if ``z`` is a plane ``(N, 2)`` that was computed elsewhere (by t-SNE, say).
        title: the title of the figure; a remark about data that are left out is added to it.

    Returns:
        A figure with one axes, and a second for the colour bar of a continuous scale. Dots of many data would hide each
        other: from 3000 data, cells of a grid show the number of data, the mean label or the most frequent class.

    Example:
        >>> z = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 1, 0], [0, -1, 0]])
        >>> latent_space(z).axes[0].get_xlabel()
        'principal component 1 (90 % of variance)'
        >>> latent_space(z[:, :2], axes=("t-SNE 1", "t-SNE 2"), title="t-SNE").axes[0].get_xlabel()
        't-SNE 1'
    """
    points = rows(z, "z")
    if axes is not None and points.shape[1] != 2:
        raise InputError(f"z: expected coordinates (N, 2), one for each of axes {axes}, got {points.shape}")
    tags = None if labels is None else _checked(labels, len(points))
    finite = np.isfinite(points).all(1)
    if not finite.any():
        raise InputError("z: expected finite posterior means, got none (did the fit diverge?)")
    points, tags = points[finite], None if tags is None else tags[finite]
    if tags is not None and tags.dtype.kind == "i" and (tags == -1).all():
        tags = None
    names = None if tags is None or tags.dtype.kind == "f" else np.unique(tags[tags != -1])
    if names is not None and len(names) > len(CLASS_COLOURS):
        names = None

    left_out = f"{(~finite).sum()} not finite left out" if not finite.all() else ""
    count, size = points.shape
    dims = f"{size} dimension{'s' * (size > 1)}"
    title = title or f"Latent space: posterior means of {count} data, {dims}"
    fig, ax = single(remarked(title, [left_out], "\n"), 5.4, 4.5)
    if size == 1:
        _one_dimension(ax, points[:, 0], tags, names)
        return fig
    if size == 2:
        xlabel, ylabel = axes or ("z[0]", "z[1]")
        ax.set(xlabel=xlabel, ylabel=ylabel)
    else:
        points, shares = principal_components(points)
        xlabel, ylabel = (f"principal component {i + 1} ({s:.0%} of variance)" for i, s in enumerate(shares))
        ax.set(xlabel=xlabel.replace("%", " %"), ylabel=ylabel.replace("%", " %"))
    _plane(fig, ax, points, tags, names)
    return fig


def principal_components(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components of ``z`` ``(N, D)``, D at least 2, and their shares of the variance.

    Returns:
        Coordinates ``(N, 2)`` and shares ``(2,)``. The largest loading of a component is positive, so that
        the same data give the same picture everywhere.
    """
    centred = z - z.mean(0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=len(z) < 2)
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    variance = np.pad(singular**2, (0, 1))
    return centred @ axes.T, variance[:2] / max(variance.sum(), np.finfo(float).tiny)


def _checked(labels: ArrayLike, count: int) -> np.ndarray:
    """Return labels as integers, floats or at most 10 names."""
    tags = np.asarray(labels)
    if tags.shape != (count,):
        raise InputError(f"labels: expected shape ({count},), one a datum, got {tags.shape}")
    if tags.dtype.kind == "b":
        return tags.astype(int)
    if tags.dtype.kind not in "iuf" and len(np.unique(tags)) > len(CLASS_COLOURS):
        raise InputError(f"labels: expected numbers or at most {len(CLASS_COLOURS)} names, got {len(np.unique(tags))}")
    return tags


def _plane(fig: Figure, ax: Axes, points: np.ndarray, tags: np.ndarray | None, names: np.ndarray | None) -> None:
    """Draw points ``(N, 2)`` in one colour, on a scale of their labels, or by class."""
    ax.set_aspect("equal", adjustable="datalim")
    order = np.random.default_rng(0).permutation(len(points))
    x, y = points[order].T
    if tags is None:
        cloud(ax, *points.T)
    elif names is None:
        scaled_cloud(ax, x, y, tags[order])
    else:
        codes = np.where(np.isin(tags, names), np.searchsorted(names, tags), len(names))
        colours = to_rgba_array([*CLASS_COLOURS[: len(names)], "0.7"])  # grey without a label
        note(fig, filter(None, [class_cloud(ax, x, y, codes[order], colours)]))
        centres = np.array([np.median(points[tags == name], 0) for name in names])
        for name, (x, y) in zip(names, apart(centres, 0.05 * float(np.ptp(points, 0).max())), strict=True):
            ax.text(x, y, str(name), ha="center", va="center", weight="bold", fontsize=LABEL, path_effects=HALO)
        dot: dict[str, Any] = {"marker": "o", "linestyle": "none"}
        handles = [Line2D([], [], color=c, label=str(n), **dot) for c, n in zip(CLASS_COLOURS, names, strict=False)]
        legend(fig, handles=handles, title="label", loc="outside right center")


def apart(places: np.ndarray, distance: float) -> np.ndarray:
    """Move places ``(N, 2)`` until they are ``distance`` apart, so that no label hides another.

    Example:
        >>> places = apart(np.array([[0.0, 0.0], [0.0, 0.5], [9.0, 9.0]]), 1.0)
        >>> float(np.hypot(*(places[1] - places[0])).round(3)), places[2].tolist()
        (1.0, [9.0, 9.0])
    """
    order = np.arange(len(places))
    other = 1 - np.eye(len(places))
    for _ in range(100):
        between = places[:, None] - places[None]
        between = between + 1e-9 * (order[:, None] - order)[..., None]  # so that two at one place have a direction
        length = np.linalg.norm(between, axis=-1) + np.eye(len(places))
        lacking = np.clip(distance - length, 0, None) * other
        if not (lacking > 1e-6 * distance).any():
            break
        places = places + (between / length[..., None] * lacking[..., None] / 2).sum(1)
    return places


def _one_dimension(ax: Axes, z: np.ndarray, tags: np.ndarray | None, names: np.ndarray | None) -> None:
    """Draw values ``(N,)`` as a histogram, against their labels, or as one histogram for each class."""
    edges = bins(z)
    ax.set_xlabel("z")
    if tags is None:
        ax.hist(z, bins=edges, color=BLUE, edgecolor="white", linewidth=0.5)
        ax.yaxis.set_major_locator(ticks(whole=True))
        ax.set_ylabel("number of data")
    elif names is None:
        cloud(ax, z, tags)
        ax.set_ylabel("label")
    else:
        counts = [np.histogram(z[tags == name], edges)[0] for name in names]
        tallest = max(int(c.max()) for c in counts)
        for row, (heights, colour) in reversed(list(enumerate(zip(counts, CLASS_COLOURS, strict=False)))):
            style = {"facecolor": colour, "edgecolor": "0.25", "linewidth": 0.6, "alpha": 0.85}
            ax.stairs(row + 0.9 * heights / tallest, edges, baseline=row, fill=True, **style)
        ax.set_yticks(range(len(names)), [str(name) for name in names])
        ax.set_ylabel(f"label (tallest bar: {tallest} data)")
