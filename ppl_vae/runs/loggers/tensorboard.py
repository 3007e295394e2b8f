"""The logger ``tensorboard``: event files for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.runs.loggers.logger import Logger


class TensorBoardLogger(Logger):
    """A logger to event files in ``tensorboard/``, which ``tensorboard --logdir`` shows."""

    key = "tensorboard"

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.make_writer = self.library("torch.utils.tensorboard").SummaryWriter
        self.writer: Any = None

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Write the settings as a table; TensorBoard hides the rows after this step of an earlier event file."""
        self.writer = self.make_writer(str(self.folder / "tensorboard"), purge_step=step + 1 if step else None)
        rows = "".join(f"| {name} | {str(value).replace('|', '&#124;')} |\n" for name, value in config.items())
        self.writer.add_text("settings", f"| name | value |\n|---|---|\n{rows}", step)

    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write a scalar for each number, so that another process can read it at once."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def end(self, step: int, summary: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        """Write scalars and images."""
        from PIL import Image

        for name, value in summary.items():
            self.writer.add_scalar(name.replace(".", "/"), value, step)
        for name, path in figures.items():
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self.writer.add_image(f"figures/{name}", pixels, step, dataformats="HWC")

    def close(self, *, is_complete: bool) -> None:
        """Close the event file."""
        if self.writer is not None:
            self.writer.close()
