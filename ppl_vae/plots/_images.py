"""Many images in one axes, each drawn at its own place: fast, and no gaps to tune."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from ppl_vae.errors import InputError
from ppl_vae.plots._common import PALE, blank, limits, number

MISSING = (0.96, 0.80, 0.62)  # a light orange: not a grey, so that a missing pixel is not taken for a value
GREY = colormaps["gray_r"].with_extremes(bad=MISSING)
GAP, BAND_GAP = 0.06, 0.24  # inches

Box = tuple[float, float, float, float]
Scale = tuple[float, float]


def checked_shape(image_shape: Sequence[int], size: int, name: str) -> tuple[int, ...]:
    """``(H, W)`` or ``(H, W, 3)`` for data of ``size`` values, or an error.

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
    """Width and height of one image in inches: square pixels, up to 8 times as long as wide."""
    ratio = np.sqrt(np.clip(shape[0] / shape[1], 1 / 8, 8))
    return 0.8 / ratio, 0.8 * ratio


def bands(stacks: dict[str, np.ndarray], shape: tuple[int, ...], columns: int, title: str) -> Figure:
    """Images in bands of ``columns``; a band has a row for each stack: what belongs together is a column.

    The scale is that of the first stack, lest one stray pixel of a reconstruction turn the paper grey. What
    lies beyond it is drawn as its end, and the colour bar ends in an arrow.

    Args:
        stacks: by the name of their row (may be empty), images ``(N, H * W)`` or ``(N, H * W * 3)``.
        shape: of one image, ``(H, W)`` or ``(H, W, 3)``.
        columns: images in a row.
        title: of the figure.
    """
    low, high = limits(next(iter(stacks.values())))
    width, height = cell_size(shape)
    count = max(len(stack) for stack in stacks.values())
    n_bands = -(-count // columns)
    row_step, band_step = height + GAP, len(stacks) * (height + GAP) + (BAND_GAP if len(stacks) > 1 else 0)
    total_width = columns * (width + GAP) - GAP
    total_height = n_bands * band_step - GAP - (BAND_GAP if len(stacks) > 1 else 0)
    # Placed in inches: the constrained layout cuts row labels off where the aspect is fixed.
    left_margin, right_margin, top_margin, bottom_margin = 1.3 if any(stacks) else 0.3, 1.35, 0.42, 0.35
    margins = (left_margin, right_margin, top_margin, bottom_margin)
    fig, ax, x0 = page(total_width, total_height, margins, title)
    ticks: dict[float, str] = {}
    for row, (name, stack) in enumerate(stacks.items()):
        for i, values in enumerate(stack):
            left = (i % columns) * (width + GAP)
            top = (i // columns) * band_step + row * row_step
            draw_image(ax, values.reshape(shape), (left, top, width, height), (low, high))
            ticks[top + height / 2] = name
    ax.set_yticks(list(ticks), list(ticks.values()))
    notes = []
    if len(shape) == 2:
        beyond = (
            any((s < low).any() for s in stacks.values()),
            any((s > high).any() for s in stacks.values()),
        )
        beside = (x0 + total_width + 0.15, bottom_margin, total_height)
        colour_bar(fig, ax.images[0], beside, beyond=beyond)
    elif (low, high) != (0.0, 1.0):
        notes.append(f"values from {number(low)} to {number(high)} drawn as 0 to 1")
    if not all(np.isfinite(stack).all() for stack in stacks.values()):
        notes.append("orange: missing or not finite")
    ax.set_xlabel("; ".join(notes), fontsize="small", color="0.4")
    return fig


def page(width: float, height: float, margins: Box, title: str, least: float = 5.2) -> tuple[Figure, Axes, float]:
    """A figure with one axes that is measured in inches from its top left corner.

    Args:
        width: of the axes, inches.
        height: of the axes, inches.
        margins: left, right, top and bottom, inches.
        title: of the figure.
        least: width of the figure, inches; what is lacking is shared by both sides.

    Returns:
        The figure, the axes, and where the axes begin, inches from the left.
    """
    left, right, top, bottom = margins
    needed = left + width + right
    fig = blank(max(needed, least), top + height + bottom)
    fig.set_layout_engine("none")
    x0 = left + max(least - needed, 0) / 2
    ax = fig.add_axes(_box(fig, x0, bottom, width, height))
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.set_autoscale_on(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    fig.suptitle(title, y=1 - 0.08 / fig.get_figheight())
    return fig, ax, x0


def draw_image(
    ax: Axes,
    image: np.ndarray,
    place: Box,
    scale: Scale,
    *,
    colours: Colormap = GREY,
    frame: float = 0.6,
    interpolation: str = "nearest",
) -> AxesImage:
    """An image ``(H, W)`` or ``(H, W, 3)``; NaN is missing.

    Args:
        ax: where to.
        image: what is drawn.
        place: left, top, width and height, inches.
        scale: the values of white and black.
        colours: of an image of one colour.
        frame: thickness of its frame, points.
        interpolation: matplotlib's.

    Returns:
        What was drawn.
    """
    left, top, width, height = place
    low, high = scale
    if image.ndim == 3:
        missing = ~np.isfinite(image).all(-1, keepdims=True)
        image = np.where(missing, MISSING, np.clip((image - low) / (high - low), 0, 1))
    extent = (left, left + width, top + height, top)
    drawn = ax.imshow(
        image, cmap=colours, vmin=low, vmax=high, extent=extent, interpolation=interpolation, aspect="auto"
    )
    if frame:
        edge: dict[str, Any] = {"fill": False, "edgecolor": PALE, "linewidth": frame, "clip_on": False}
        ax.add_patch(Rectangle((left, top), width, height, **edge))
    return drawn


def _box(fig: Figure, left: float, bottom: float, width: float, height: float) -> Box:
    """Inches as fractions of the figure."""
    across, up = fig.get_size_inches()
    return left / across, bottom / up, width / across, height / up


def colour_bar(
    fig: Figure,
    image: AxesImage,
    beside: tuple[float, float, float],
    *,
    label: str = "value",
    beyond: tuple[bool, bool] = (False, False),
    least: float = 0.0,
) -> None:
    """The scale of an image, at ``least`` so long.

    Its left end, and the bottom and height of what it is centred on, are ``beside``, inches.
    """
    left, bottom, height = beside
    length = max(min(1.8, 0.8 * height), least)
    low, high = image.get_clim()
    ticks = [low, (low + high) / 2, high]
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    place = _box(fig, left, bottom + (height - length) / 2, 0.13, length)
    bar = fig.colorbar(image, cax=fig.add_axes(place), ticks=ticks, extend=ends[beyond])
    bar.ax.set_yticklabels([number(tick) for tick in ticks], fontsize="small")
    bar.set_label(label, fontsize="small")
