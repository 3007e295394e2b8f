"""Images in rows and columns of one axes: what reconstructions, draws and sheets have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ppl_vae.errors import InputError
from ppl_vae.plots.style import INK, NOTE, PALE, blank, limits, note, number, tallest, tidy, widest, wrap

MISSING = (0.96, 0.80, 0.62)  # a light orange: not a grey, so that a missing pixel is not taken for a value
HATCH = (0.72, 0.45, 0.20)  # a stroke through what is missing, which a print in grey shows too
INKED, LIT = (colormaps[name].with_extremes(bad=MISSING) for name in ("gray_r", "gray"))
OWN = colormaps["BuPu"].with_extremes(bad="white")  # for a column on its own scale; dark is large, as in grey
MISSING_NOTE = "orange and struck through: missing or not finite"
CELL, GAP, BAND_GAP, LEAST_WIDTH = 0.64, 0.06, 0.18, 5.2  # inches
FINEST = 75  # pixels in an inch from which they are blended

Key = int | None
"""The name of a scale: the number of a column on its own scale, or None for the common scale."""
Scale = tuple[float, float]


class Tile(NamedTuple):
    """An image ``(H, W)`` or ``(H, W, 3)``, its left and its top in inches, and the name of its scale."""

    image: np.ndarray
    left: float
    top: float
    key: Key = None


def checked_shape(image_shape: Sequence[int], size: int, name: str) -> tuple[int, ...]:
    """Return the shape ``(H, W)`` or ``(H, W, 3)`` of a datum with ``size`` values.

    Raises:
        InputError: the shape is none of an image, or has another number of values.

    Example:
        >>> checked_shape((8, 8, 1), 64, "means")
        (8, 8)
    """
    shape = tuple(int(n) for n in image_shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise InputError(f"image_shape: expected (H, W) or (H, W, 3), got {shape}")
    if int(np.prod(shape)) != size:
        raise InputError(f"image_shape: {shape} holds {int(np.prod(shape))} values, but a datum of {name} has {size}")
    return shape[:2] if shape[-1] == 1 and len(shape) == 3 else shape


def cell_size(shape: Sequence[int]) -> tuple[float, float]:
    """Return the width and the height of one image in inches: square pixels, up to 8 times as long as wide."""
    ratio = np.sqrt(np.clip(shape[0] / shape[1], 1 / 8, 8))
    return CELL / ratio, CELL * ratio


def bands(
    stacks: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    columns: int,
    title: str,
    below: Sequence[str] = (),
    *,
    light: bool = False,
) -> Figure:
    """Draw images in bands of ``columns``; a band has a row for each stack, so what belongs together is a column.

    The scale is that of the first stack, so that one stray pixel of a reconstruction does not turn the paper grey. A
    value beyond it is drawn as its end, and the colour bar ends in an arrow.

    Args:
        stacks: images ``(N, H * W)`` or ``(N, H * W * 3)`` by the name of their row, which may be empty.
        shape: the shape of one image, ``(H, W)`` or ``(H, W, 3)``.
        columns: the number of images in a row.
        title: the title of the figure.
        below: a label below each column of a band, ``N`` of them or none.
        light: see ``picture``.
    """
    width, height = cell_size(shape)
    step = max(width + GAP, widest(below) + 0.08)
    count, per_band = len(next(iter(stacks.values()))), len(stacks)
    band = per_band * (height + GAP) + (BAND_GAP if per_band > 1 else 0) + tallest(below)
    starts = band * np.arange(-(-count // columns))
    tops = (starts[:, None] + (height + GAP) * np.arange(per_band)).ravel()
    lefts = step * np.arange(columns) + (step - width - GAP) / 2
    tiles = [
        Tile(values.reshape(shape), lefts[i % columns], tops[i // columns * per_band + row])
        for row, stack in enumerate(stacks.values())
        for i, values in enumerate(stack)
    ]
    scale, colour = limits(next(iter(stacks.values()))), len(shape) == 3
    notes = colour_notes(scale) if colour else []
    extent = (lefts[-1] + width, tops[-1] + height)
    fig, ax = picture(
        title, tiles, (width, height), extent, {None: scale}, {} if colour else {None: "value"}, notes, light=light
    )
    label_ticks(ax.yaxis, tops + height / 2, list(stacks) * len(starts), 0.0)
    for tile, label in zip(tiles[-count:], below, strict=False):
        place = (tile.left + width / 2, tile.top + height + 0.03)
        ax.text(*place, label, fontsize=NOTE, ha="center", va="top", color=INK)
    fit(fig, ax)
    return fig


def picture(
    title: str,
    tiles: Iterable[Tile],
    size: tuple[float, float],
    extent: tuple[float, float],
    scales: Mapping[Key, Scale],
    bars: Mapping[Key, str],
    notes: Iterable[str] = (),
    *,
    frame: float = 0.6,
    light: bool = False,
) -> tuple[Figure, Axes]:
    """Draw images at their places, with a colour bar for each scale.

    Args:
        title: the title of the figure.
        tiles: the images; a NaN is a missing value.
        size: the width and the height of an image, inches.
        extent: the width and the height of the whole, inches.
        scales: the values at the ends of the colours.
        bars: the labels of the scales that have a colour bar.
        notes: notes below the axes; a note about missing values is added if a value on the common scale is missing.
        frame: the thickness of the frames, points.
        light: if true, high values of grey images are light, as on a screen; else dark, as ink on paper.

    Returns:
        The figure and its axes, which is measured in inches from its top left corner once ``fit`` is called.
    """
    fig, ax = page(title, *extent)
    width, height = size
    pixels: dict[Key, AxesImage] = {}
    beyond: dict[Key, set[str]] = {key: set() for key in scales}
    frames, strokes = [], []
    for image, left, top, key in tiles:
        low, high = scales[key]
        x, y = width / image.shape[1], height / image.shape[0]
        finite = np.isfinite(image)
        beyond[key] |= {end for end, out in (("min", image < low), ("max", image > high)) if (out & finite).any()}
        if image.ndim == 3:
            finite = finite.all(-1)
            image = np.where(finite[..., None], np.clip((image - low) / (high - low), 0, 1), MISSING)
        drawn = ax.imshow(
            image,
            cmap=OWN if key is not None else LIT if light else INKED,
            vmin=low,
            vmax=high,
            extent=(left, left + width, top + height, top),
            aspect="auto",
            interpolation="auto" if max(1 / x, 1 / y) > FINEST else "nearest",
        )
        pixels.setdefault(key, drawn)
        across, down = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
        frames.append(np.stack([left + across * width, top + down * height], -1))
        if key is None:
            corners = np.argwhere(~finite)[:, None, ::-1] + [[0, 1], [1, 0]]  # lower left, upper right
            strokes.append(corners * [x, y] + [left, top])
    if frame:
        edges = PolyCollection(frames, facecolors="none", edgecolors=PALE, linewidths=frame, clip_on=False)
        ax.add_collection(edges, autolim=False)
    crossed = np.concatenate(strokes) if strokes else np.empty(0)
    if crossed.size:
        ax.add_collection(LineCollection(list(crossed), colors=[HATCH], linewidths=0.4), autolim=False)
    for artist in (*ax.images, *ax.collections):
        artist.set_in_layout(False)  # they fill their axes, whose size is known
    for key, name in reversed(list(bars.items())):  # the last one is placed next to the axes
        if key in pixels:
            extend = {0: "neither", 1: next(iter(beyond[key]), ""), 2: "both"}[len(beyond[key])]
            colour_bar(ax, pixels[key], wrap(name, max(extent[1], 0.8)), extend)
    note(fig, [*notes, *([MISSING_NOTE] if crossed.size else [])], "; ", x=0.5, ha="center")
    return fig, ax


def colour_notes(scale: Scale) -> list[str]:
    """Return the note that coloured images need if their scale is not 0 to 1."""
    low, high = scale
    return [] if scale == (0.0, 1.0) else [f"values from {number(low)} to {number(high)} drawn as 0 to 1"]


def colour_bar(ax: Axes, image: AxesImage, label: str, extend: str = "neither") -> None:
    """Add a colour bar at the right of axes that are measured in inches."""
    low, high = image.get_clim()
    height = abs(float(np.subtract(*ax.get_ylim())))
    length = min(height, max(0.5, min(1.8, 0.8 * height)))
    ticks = [low, (low + high) / 2, high] if length > 0.45 else [low, high]
    pad = 0.12 / float(ax.get_xlim()[1])
    shape: dict[str, Any] = {"shrink": length / height, "aspect": length / 0.13, "pad": pad, "fraction": 0.9}
    bar = ax.figure.colorbar(image, ax=ax, ticks=ticks, extend=extend, **shape)
    bar.ax.set_yticklabels([number(tick) for tick in ticks], fontsize=NOTE)
    bar.set_label(label, fontsize=NOTE)


def page(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with blank axes whose coordinates are inches from its top left corner once ``fit`` is called."""
    fig = blank(title, width + 3, height + 3)
    ax = tidy(fig.add_subplot(), grid=False)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.set_autoscale_on(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.xaxis.set_label_position("top")
    return fig, ax


def fit(fig: Figure, ax: Axes) -> None:
    """Give a figure the size at which a unit of its axes is an inch; matplotlib's layout places everything else."""
    width, height = abs(float(np.diff(ax.get_xlim())[0])), abs(float(np.diff(ax.get_ylim())[0]))
    layout: Any = fig.get_layout_engine()
    layout.set(w_pad=0.08, h_pad=0.06)
    share = 1.0  # of the width of the figure: narrow axes are in its middle
    for _ in range(2):
        layout.execute(fig)
        across, up = fig.get_size_inches()
        box = ax.get_position(original=True)
        needed = width + (share - box.width) * across
        share = needed / max(needed, LEAST_WIDTH)
        layout.set(rect=((1 - share) / 2, 0, share, 1))
        fig.set_size_inches(needed / share, height + (1 - box.height) * up)
    layout.execute(fig)
    fig.set_layout_engine("none")  # everything has its place: saving would draw twice to lay it out again


def label_ticks(axis: Axis, places: np.ndarray, labels: Sequence[str], needed: float, title: str = "") -> None:
    """Label places along an axis.

    Args:
        axis: the axis, measured in inches.
        places: the places, in inches.
        labels: a label for each place, or none.
        needed: the room that a label takes in inches; if there is less, only every second, third, ... is written.
        title: what the labels are.
    """
    step = float(np.diff(places).min()) if len(places) > 1 else np.inf
    every = max(1, int(np.ceil(needed / step)))
    if any(labels):
        axis.set_ticks(list(places[::every]), list(labels[::every]))
    axis.set_label_text(title)
