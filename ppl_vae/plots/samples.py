"""Figures of a program's data: its reconstructions, and its draws from the prior predictive.

A datum is drawn by its size: as an image if ``image_shape`` is given; else as one value, two values (a point in the
plane), or a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.clouds import cloud, dot_style
from ppl_vae.plots.images import bands, cell_size, checked_shape
from ppl_vae.plots.style import (
    BLUE,
    INK,
    LABEL,
    NOTE,
    ORANGE,
    blank,
    first,
    fullest,
    head,
    legend,
    limits,
    panels,
    remarked,
    rows,
    single,
    ticks,
)

PAIRS, PAIRS_OF_VECTORS, IMAGES, VECTORS = 40, 12, 100, 15  # more are not drawn, and the title says so


def reconstructions(
    originals: ArrayLike, means: ArrayLike, *, image_shape: Sequence[int] | None = None, light: bool = False
) -> Figure:
    """Draw data beside the means of their posterior predictive.

    Args:
        originals: the data, ``(N, ...)``; NaN is a missing value.
        means: the mean of ``x`` under the posterior predictive of each datum, ``(N, ...)``.
        image_shape: ``(H, W)`` or ``(H, W, 3)`` to draw every datum as an image, on the originals' scale.
        light: if true, high values of grey images are light, as on a screen; else dark, as ink on paper.

    Returns:
        Images: a row of originals above a row of reconstructions. One value a datum: reconstruction against
        original. Two values: both in the plane, joined. More: both as lines, an axes a datum.

    Example:
        >>> x = np.linspace(0, 1, 3 * 16).reshape(3, 16)
        >>> figure = reconstructions(x, x**2, image_shape=(4, 4))
        >>> len(figure.axes[0].images), figure.get_suptitle()
        (6, 'Data and their reconstructions')
    """
    x, mean = rows(originals, "originals"), rows(means, "means")
    if x.shape != mean.shape:
        raise InputError(f"means: expected as many values as originals, {x.shape}, got {mean.shape}")
    title = "Data and their reconstructions"
    if image_shape is not None:
        shape = checked_shape(image_shape, x.shape[1], "originals")
        stacks = {"original": x[:PAIRS], "reconstruction": mean[:PAIRS]}
        return image_pairs(stacks, shape, remarked(title, [first(PAIRS, len(x))]), light=light)
    if x.shape[1] == 1:
        return _scalar_pairs(x[:, 0], mean[:, 0], title)
    if x.shape[1] == 2:
        return _point_pairs(x, mean, title)
    most = PAIRS_OF_VECTORS
    stacks = {"original": x[:most], "reconstruction": mean[:most]}
    return vectors(stacks, remarked(title, [first(most, len(x))]), [f"datum {i}" for i in range(len(x))])


def prior_samples(
    means: ArrayLike,
    *,
    image_shape: Sequence[int] | None = None,
    light: bool = False,
    title: str = "Draws from the prior: mean of x given z",
) -> Figure:
    """Draw the prior predictive, each draw as the mean of ``x`` given its ``z``.

    Args:
        means: the mean of ``x`` given ``z``, one ``z`` from the prior for each row, ``(N, ...)``.
        image_shape: ``(H, W)`` or ``(H, W, 3)`` to draw every row as an image, on one scale.
        light: see ``reconstructions``.
        title: the title of the figure.

    Returns:
        Images or lines in a grid. Two values a datum: points in the plane. One: a histogram.

    Example:
        >>> figure = prior_samples(np.zeros((9, 2)))
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
        ('value 0', 'value 1')
    """
    mean = rows(means, "means")
    count, size = mean.shape
    if image_shape is not None:
        shape = checked_shape(image_shape, size, "means")
        mean, (width, height) = mean[:IMAGES], cell_size(shape)
        columns = fullest(len(mean), max(1, round(np.sqrt(len(mean) * height / width))))
        return bands({"": mean}, shape, columns, remarked(title, [first(IMAGES, count)]), light=light)
    if size > 2:
        labels = [f"draw {i}" for i in range(count)]
        return vectors({"": mean[:VECTORS]}, remarked(title, [first(VECTORS, count)]), labels)
    if size == 1:
        fig, ax = single(title, 5.2, 3.6)
        values = mean[np.isfinite(mean)]
        ax.hist(values, bins="sqrt", color=BLUE, edgecolor="white", linewidth=0.5)
        ax.yaxis.set_major_locator(ticks(whole=True))
        ax.set(xlabel="value", ylabel=f"number of draws (of {count})")
        return fig
    fig, ax = single(title, 5.2, 4.6)
    ax.set_aspect("equal", adjustable="datalim")
    x, y = mean[np.isfinite(mean).all(1)].T
    cloud(ax, x, y, what="draws")
    ax.set(xlabel="value 0", ylabel="value 1")
    return fig


def image_pairs(
    stacks: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    title: str,
    below: Sequence[str] = (),
    *,
    light: bool = False,
) -> Figure:
    """Draw two stacks of images ``(N, D)``, one above the other, with a label below each pair if there are labels."""
    columns = fullest(len(stacks["original"]), int(np.clip(5.2 / cell_size(shape)[0], 1, 10)))
    return bands(stacks, shape, columns, title, below, light=light)


def vectors(stacks: Mapping[str, np.ndarray], title: str, labels: Sequence[str]) -> Figure:
    """Draw an axes for each row of the stacks ``(N, D)``, in which the stacks are lines of different styles.

    Args:
        stacks: one or two stacks by their names.
        title: the title of the figure.
        labels: the title of each axes.
    """
    count, size = next(iter(stacks.values())).shape
    columns = fullest(count, min(3, max(1, round(np.sqrt(count * 1.3)))))
    fig = blank(title, max(5.2, 2.1 * columns + 0.6), max(3.0, 1.4 * -(-count // columns) + 1.1))
    thin = 1.4 if size <= 200 else 0.8
    styles: list[dict[str, Any]] = [{"color": BLUE, "linewidth": thin}]
    if len(stacks) > 1:
        broad = {"color": "0.68", "linewidth": 1.8 * thin}
        styles = [broad, {"color": ORANGE, "linewidth": thin, "linestyle": "--"}]
    if size <= 30:
        styles = [{**style, "marker": mark} for style, mark in zip(styles, "o^", strict=False)]
    axes = panels(fig, count, columns, share=True)
    for i, ax in enumerate(axes):
        for (name, stack), style in zip(stacks.items(), styles, strict=False):
            ax.plot(np.arange(size), stack[i], markersize=3 if size > 4 else 6, label=name, **style)
        head(ax, labels[i], NOTE, pad=2)
    if size <= 4:
        axes[0].set(xticks=range(size), xlim=(-0.5, size - 0.5))
    for ax in axes[-columns:]:
        ax.set_xlabel("index of the value", fontsize=NOTE)
    fig.supylabel("value", fontsize=LABEL)
    if len(stacks) > 1:
        handles, names = axes[0].get_legend_handles_labels()
        legend(fig, handles, names, loc="outside lower center", ncols=2)
    return fig


def _scalar_pairs(x: np.ndarray, mean: np.ndarray, title: str) -> Figure:
    """Draw reconstructions ``(N,)`` against the data."""
    fig, ax = single(title, 5.0, 4.6)
    low, _ = limits(x, mean)
    ax.set_aspect("equal", adjustable="datalim")
    ax.axline((low, low), slope=1, color=INK, linewidth=1, linestyle="--", label="reconstruction = original")
    finite = np.isfinite(x) & np.isfinite(mean)
    cloud(ax, x[finite], mean[finite], colour=ORANGE)
    ax.set(xlabel="original", ylabel="reconstruction")
    legend(ax, loc="upper left")
    return fig


def _point_pairs(x: np.ndarray, mean: np.ndarray, title: str) -> Figure:
    """Draw data ``(N, 2)`` and their reconstructions in the plane, joined by lines."""
    finite = np.isfinite(x).all(1) & np.isfinite(mean).all(1)
    count, x, mean = len(x), x[finite], mean[finite]
    lost = count - len(x)
    fig, ax = single(
        remarked(title, [f"{lost} of {count} missing or not finite, left out" if lost else ""], "\n"), 5.2, 4.8
    )
    faint = {"colors": "0.5", "linewidths": 0.6, "alpha": float(np.clip(300 / max(len(x), 1), 0.06, 0.7))}
    ax.add_collection(LineCollection(list(np.stack([x, mean], 1)), zorder=0.9, rasterized=True, **faint))
    ax.scatter(*x.T, color=INK, label="original", **dot_style(len(x)))
    ax.scatter(*mean.T, color=ORANGE, marker="^", label="reconstruction", **dot_style(len(x)))
    ax.set(xlabel="value 0", ylabel="value 1")
    ax.set_aspect("equal", adjustable="datalim")
    key = legend(fig, loc="outside lower center", ncols=2)
    for handle in key.legend_handles:
        if handle is not None:
            handle.set(alpha=1, sizes=[30])
    return fig
