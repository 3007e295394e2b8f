"""Options and figures that the examples share. Import it before PyTorch (see ppl_vae.cli.process)."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_vae.cli.command import medium_is_exact

BLUE, ORANGE, GREEN, INK, PALE = "#2f6fab", "#d55e00", "#009e73", "#30363d", "#c8ccd1"


def options(**files: str) -> argparse.Namespace:
    """Parse ``--output``, the file of the figure, and further options for files, given as names with their help."""
    script, text = Path(sys.argv[0]), sys.modules["__main__"].__doc__
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=text, formatter_class=shape)
    parser.add_argument("--output", type=Path, default=script.parent / "figures" / f"{script.stem}.png")
    for name, description in files.items():
        parser.add_argument(f"--{name}", type=Path, help=description)
    if medium_is_exact():  # as the commands do: faster on some processors, with the same numbers
        torch.set_float32_matmul_precision("medium")
    torch.manual_seed(0)
    return parser.parse_args()


def panels(title: str, rows: int = 1, columns: int = 1, size: tuple[float, float] = (3.4, 3.2), **grid: Any) -> Any:
    """Return a figure and its axes; ``size`` is the width and height of one panel in inches."""
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, **grid)
    for ax in np.ravel(axes):
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize("medium")
    return figure, axes


def save(figure: Figure, output: Path) -> None:
    """Write the figure and create its folder."""
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=100)


def mosaic(ax: Axes, images: np.ndarray, columns: int) -> None:
    """Draw images ``(N, H, W)`` from white (0) to black (1) in a grid, with a margin between them."""
    rows = len(images) // columns
    padded = np.pad(images[: rows * columns], ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    height, width = padded.shape[1:]
    sheet = padded.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    ax.imshow(sheet, cmap=colormaps["gray_r"].with_extremes(bad=PALE), vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
