"""What a program makes: its reconstructions of data, and its draws from the prior predictive.

A datum is drawn by its size: images where ``image_shape`` is given; else one value, two values (a point in
the plane), or a vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots._common import BLUE, INK, ORANGE, bins, blank, dot_style, fullest, limits, rows, tidy
from ppl_vae.plots._images import bands, cell_size, checked_shape
from ppl_vae.plots._lines import small_multiples

PAIRS, PAIRS_OF_VECTORS, IMAGES, VECTORS = 40, 12, 100, 16  # more are not drawn, and the title says so


def reconstructions(originals: ArrayLike, means: ArrayLike, *, image_shape: Sequence[int] | None = None) -> Figure:
    """Data beside the means of their posterior predictive.

    Args:
        originals: the data, ``(N, ...)``; NaN is a missing value.
        means: the mean of ``x`` under the posterior predictive of each datum, ``(N, ...)``.
        image_shape: ``(H, W)`` or ``(H, W, 3)`` to draw every datum as an image, on the originals' scale.

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
        x, mean, title = x[:PAIRS], mean[:PAIRS], title + _first(PAIRS, len(x))
        columns = fullest(len(x), int(np.clip(8 / cell_size(shape)[0], 1, 10)))
        return bands({"original": x, "reconstruction": mean}, shape, columns, title)
    if x.shape[1] == 1:
        return _scalar_pairs(x[:, 0], mean[:, 0], title)
    if x.shape[1] == 2:
        return _point_pairs(x, mean, title)
    x, mean, title = x[:PAIRS_OF_VECTORS], mean[:PAIRS_OF_VECTORS], title + _first(PAIRS_OF_VECTORS, len(x))
    return small_multiples({"original": x, "reconstruction": mean}, title, "datum")


def prior_samples(
    means: ArrayLike,
    *,
    image_shape: Sequence[int] | None = None,
    title: str = "Draws from the prior: mean of x given z",
) -> Figure:
    """Draws from the prior predictive, each as the mean of ``x`` given its ``z``.

    Args:
        means: the mean of ``x`` given ``z``, one ``z`` from the prior for each row, ``(N, ...)``.
        image_shape: ``(H, W)`` or ``(H, W, 3)`` to draw every row as an image, on one scale.
        title: of the figure.

    Returns:
        Images or lines in a grid. Two values a datum: points in the plane. One: a histogram.

    Example:
        >>> figure = prior_samples(np.zeros((9, 2)))
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
        ('value 0', 'value 1')
    """
    mean = rows(means, "means")
    if image_shape is not None:
        shape = checked_shape(image_shape, mean.shape[1], "means")
        title, mean = title + _first(IMAGES, len(mean)), mean[:IMAGES]
        width, height = cell_size(shape)
        columns = fullest(len(mean), max(1, round(np.sqrt(len(mean) * height / width))))
        return bands({"": mean}, shape, columns, title)
    if mean.shape[1] > 2:
        title, mean = title + _first(VECTORS, len(mean)), mean[:VECTORS]
        return small_multiples({"": mean}, title, "draw")
    if mean.shape[1] == 1:
        fig = blank(5.2, 3.6)
        ax = tidy(fig.add_subplot())
        values = mean[np.isfinite(mean)]
        ax.hist(values, bins=bins(values), color=BLUE, edgecolor="white", linewidth=0.5)
        fig.suptitle(title)
        ax.set(xlabel="value", ylabel=f"number of draws (of {len(mean)})")
        return fig
    fig = blank(5.2, 4.6)
    ax = tidy(fig.add_subplot())
    ax.scatter(*mean.T, color=BLUE, **dot_style(len(mean)))
    fig.suptitle(title)
    ax.set(xlabel="value 0", ylabel="value 1")
    ax.set_aspect("equal", adjustable="datalim")
    return fig


def _first(most: int, count: int) -> str:
    return f" (first {most} of {count})" if count > most else ""


def _scalar_pairs(x: np.ndarray, mean: np.ndarray, title: str) -> Figure:
    fig = blank(5.0, 4.6)
    ax = tidy(fig.add_subplot())
    ends = limits(x, mean)
    ax.plot(ends, ends, color=INK, linewidth=1, linestyle="--", label="reconstruction = original")
    ax.scatter(x, mean, color=ORANGE, **dot_style(len(x)))
    fig.suptitle(title)
    ax.set(xlabel="original", ylabel="reconstruction")
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return fig


def _point_pairs(x: np.ndarray, mean: np.ndarray, title: str) -> Figure:
    fig = blank(5.2, 4.8)
    ax = tidy(fig.add_subplot())
    finite = np.isfinite(x).all(1) & np.isfinite(mean).all(1)
    x, mean = x[finite], mean[finite]
    if not finite.all():
        title += f"\n({(~finite).sum()} of {len(finite)} missing or not finite, left out)"
    faint = {"colors": "0.5", "linewidths": 0.6, "alpha": float(np.clip(300 / max(len(x), 1), 0.06, 0.7))}
    ax.add_collection(LineCollection(list(np.stack([x, mean], 1)), zorder=0.9, rasterized=True, **faint))
    ax.scatter(*x.T, color=INK, label="original", **dot_style(len(x)))
    ax.scatter(*mean.T, color=ORANGE, marker="^", label="reconstruction", **dot_style(len(x)))
    fig.suptitle(title)
    ax.set(xlabel="value 0", ylabel="value 1")
    ax.set_aspect("equal", adjustable="datalim")
    legend = fig.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set(alpha=1, sizes=[30])
    return fig
