"""The logger ``mlflow``: a run of MLflow, in a local store or on a server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_vae.runs.files import write_whole
from ppl_vae.runs.loggers.logger import Logger

EXPERIMENT = "ppl_vae"
MOST_LETTERS = 500
"""The length of a value that every store of MLflow takes."""
MOST_PARAMETERS = 100
"""The number of parameters that MLflow takes at once."""


class MlflowLogger(Logger):
    """A logger to MLflow: to the store that ``MLFLOW_TRACKING_URI`` names, or else to MLflow's default.

    The experiment is that of ``MLFLOW_EXPERIMENT_NAME``, or else "ppl_vae". The number of the run is in
    ``mlflow-run-id``, so that a resumed fit goes on with it. Only a client is used: MLflow's global run stays as it is.
    """

    key = "mlflow"

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.entities, tracking = self.library("mlflow.entities"), self.library("mlflow.tracking")
        self.make_client = tracking.MlflowClient
        self.client: Any = None

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Make the run and its parameters; those that a resumed fit has changed become tags, as none may change."""
        client, path = self.make_client(), self.folder / "mlflow-run-id"
        if path.is_file():
            self.run = path.read_text().strip()
            client.update_run(self.run, status="RUNNING")
        else:
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
            experiment = client.get_experiment_by_name(title)
            number = experiment.experiment_id if experiment else client.create_experiment(title)
            self.run = client.create_run(number, run_name=self.name).info.run_id
            write_whole(path, self.run + "\n")
        data = client.get_run(self.run).data
        self.last_step = max(int(data.metrics.get("step", 0)), step)
        texts = {name: str(value)[:MOST_LETTERS] for name, value in config.items()}
        new = [self.entities.Param(name, text) for name, text in texts.items() if name not in data.params]
        for first in range(0, len(new), MOST_PARAMETERS):
            client.log_batch(self.run, params=new[first : first + MOST_PARAMETERS])
        for name, text in texts.items():
            if data.params.get(name, text) != text:
                client.set_tag(self.run, f"resumed.{name}", text)
        self.client = client

    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write all numbers at once; a row that the run has already is not written again."""
        if step > self.last_step:
            self._log(step, {**numbers, "step": step})

    def end(self, step: int, summary: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        """Write the results as metrics, and the figures as artifacts."""
        self._log(step, summary)
        for path in figures.values():
            self.client.log_artifact(self.run, str(path), "figures")

    def _log(self, step: int, numbers: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metrics = [self.entities.Metric(name, float(value), now, step) for name, value in numbers.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def close(self, *, is_complete: bool) -> None:
        """End the run, as finished or as killed."""
        if self.client is not None:
            self.client.set_terminated(self.run, "FINISHED" if is_complete else "KILLED")
