"""Many images in one axes, each drawn at its own place: fast, and no gaps to tune."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ppl_vae.errors import InputError
from ppl_vae.plots._common import PALE, blank, limits, number

MISSING = (0.96, 0.80, 0.62)  # a light orange: not a grey, so that a missing pixel is not taken for a value
GAP, BAND_GAP = 0.06, 0.24  # inches


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
    needed = left_margin + total_width + right_margin
    fig = blank(max(needed, 5.2), top_margin + total_height + bottom_margin)
    fig.set_layout_engine("none")
    x0 = left_margin + max(5.2 - needed, 0) / 2
    ax = fig.add_axes(_box(fig, x0, bottom_margin, total_width, total_height))
    grey = colormaps["gray_r"].with_extremes(bad=MISSING)
    ticks: dict[float, str] = {}
    for row, (name, stack) in enumerate(stacks.items()):
        for i, values in enumerate(stack):
            left = (i % columns) * (width + GAP)
            top = (i // columns) * band_step + row * row_step
            image = values.reshape(shape)
            if len(shape) == 3:
                missing = ~np.isfinite(image).all(-1, keepdims=True)
                image = np.where(missing, MISSING, np.clip((image - low) / (high - low), 0, 1))
            extent = (left, left + width, top + height, top)
            ax.imshow(image, cmap=grey, vmin=low, vmax=high, extent=extent, interpolation="nearest")
            edge: dict[str, Any] = {"fill": False, "edgecolor": PALE, "linewidth": 0.6, "clip_on": False}
            ax.add_patch(Rectangle((left, top), width, height, **edge))
            ticks[top + height / 2] = name
    ax.set(xlim=(0, total_width), ylim=(total_height, 0), xticks=[])
    fig.suptitle(title, y=1 - 0.08 / fig.get_figheight())
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    notes = []
    if len(shape) == 2:
        beyond = (
            any((s < low).any() for s in stacks.values()),
            any((s > high).any() for s in stacks.values()),
        )
        length = min(1.8, 0.8 * total_height)
        middle = bottom_margin + (total_height - length) / 2
        _colour_bar(fig, ax, _box(fig, x0 + total_width + 0.15, middle, 0.13, length), beyond)
    elif (low, high) != (0.0, 1.0):
        notes.append(f"values from {number(low)} to {number(high)} drawn as 0 to 1")
    if not all(np.isfinite(stack).all() for stack in stacks.values()):
        notes.append("orange: missing or not finite")
    ax.set_xlabel("; ".join(notes), fontsize="small", color="0.4")
    return fig


Box = tuple[float, float, float, float]


def _box(fig: Figure, left: float, bottom: float, width: float, height: float) -> Box:
    """Inches as fractions of the figure."""
    across, up = fig.get_size_inches()
    return left / across, bottom / up, width / across, height / up


def _colour_bar(fig: Figure, ax: Axes, box: Box, beyond: tuple[bool, bool]) -> None:
    image = ax.images[0]
    low, high = image.get_clim()
    ticks = [low, (low + high) / 2, high]
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = fig.colorbar(image, cax=fig.add_axes(box), ticks=ticks, extend=ends[beyond])
    bar.ax.set_yticklabels([number(tick) for tick in ticks], fontsize="small")
    bar.set_label("value", fontsize="small")
