"""The logger ``wandb``: a run of Weights & Biases, online or offline."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_vae.runs.files import write_whole
from ppl_vae.runs.loggers.logger import Logger

PROJECT = "ppl_vae"


class WandbLogger(Logger):
    """A logger to Weights & Biases; its own variables, such as ``WANDB_MODE=offline``, decide where it writes.

    The project is that of ``WANDB_PROJECT``, or else "ppl_vae". The number of the run is in ``wandb-run-id``, so that a
    resumed fit goes on with it. Files of an offline run are in ``wandb/``, from which ``wandb sync`` sends them.
    """

    key = "wandb"

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.wandb = self.library("wandb")
        self.run: Any = None

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Begin the run with its settings."""
        path = self.folder / "wandb-run-id"
        if not path.is_file():
            write_whole(path, uuid.uuid4().hex[:12] + "\n")
        self.run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(self.folder.resolve()),
            id=path.read_text().strip(),
            resume="allow",
            name=self.name,
            config=dict(config),
            allow_val_change=True,
        )
        self.last_step = max(self.run.step - 1, step)

    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write all numbers at once; a row that the run has already is not written again."""
        if step > self.last_step:
            self.run.log(dict(numbers), step=step)

    def end(self, step: int, summary: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        """Write the results into the summary of the run, and the figures as images."""
        if figures:
            images = {f"figures/{name}": self.wandb.Image(str(path)) for name, path in figures.items()}
            self.run.log(images, step=max(step, self.run.step))
        self.run.summary.update(dict(summary))

    def close(self, *, is_complete: bool) -> None:
        """End the run; one that was stopped has another exit code."""
        if self.run is not None:
            self.run.finish(exit_code=0 if is_complete else 1)
