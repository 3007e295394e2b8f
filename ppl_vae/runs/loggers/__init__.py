"""The loggers of a fit, one per file: each writes its settings, scalars, figures and evidence to a place of its own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ppl_vae.display.lists import split_list
from ppl_vae.errors import InputError, InputWarning, nearest
from ppl_vae.runs.loggers.csv import CsvLogger
from ppl_vae.runs.loggers.logger import Logger, flatten
from ppl_vae.runs.loggers.mlflow import MlflowLogger
from ppl_vae.runs.loggers.tensorboard import TensorBoardLogger
from ppl_vae.runs.loggers.wandb import WandbLogger

LOGGERS: Mapping[str, type[Logger]] = {
    "csv": CsvLogger,
    "mlflow": MlflowLogger,
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
}
"""The loggers by name."""


def logger_names(text: str | None) -> tuple[str, ...]:
    """Return the names of loggers that a text lists.

    Raises:
        InputError: a name is unknown.

    Example:
        >>> logger_names("csv, tensorboard"), logger_names(None)
        (('csv', 'tensorboard'), ())
    """
    names = tuple(dict.fromkeys(split_list((text or "").lower())))
    for name in names:
        if name not in LOGGERS:
            raise InputError(f"--logger {name!r} is unknown; {nearest(name, LOGGERS)}")
    return names


class Loggers:
    """Several loggers as one, in the loop of the caller; a context manager, at whose end they are closed.

    A logger that fails when it starts stops the fit before it has begun. One that fails later is reported in a warning
    and gets nothing more, and the fit goes on.

    Args:
        names: the names of the loggers, such as ``"csv,tensorboard"``, or None for none.
        folder: the folder of what they write; it is made when they start.
        name: the name of the run, for those that show several.

    Raises:
        InputError: a name is unknown, or the library of a logger is not installed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Loggers("csv", folder) as log:
        ...     log.start({"max_epochs": 2})
        ...     log.row(10, {"elbo_valid": -3.5})
        ...     log.end({"test.elbo": -3.25})
        >>> print((folder / "metrics.csv").read_text().strip())
        step,elbo_valid
        10,-3.5
    """

    def __init__(self, names: str | None = None, folder: str | Path = "logs", name: str = "fit") -> None:
        self.loggers = [LOGGERS[key](Path(folder), name) for key in logger_names(names)]
        self.step = 0

    def __bool__(self) -> bool:
        return bool(self.loggers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._each("close", lambda logger: logger.close(is_complete=error[0] is None))

    def start(self, config: Mapping[str, Any], step: int = 0) -> None:
        """Begin a run, or go on with the one in the folder.

        Args:
            config: the settings of the fit.
            step: the number of gradient steps that are done; rows of later steps, which a fit wrote that was killed
                before its checkpoint, come again.

        Raises:
            InputError: a logger cannot begin.
        """
        self.step = step
        for logger in self.loggers:
            try:
                logger.folder.mkdir(parents=True, exist_ok=True)
                logger.start(flatten(config), step)
            except Exception as error:  # whatever the library raises
                raise InputError(f"--logger {logger.key} cannot begin: {_described(error)}") from error

    def row(self, step: int, numbers: Mapping[str, Any]) -> None:
        """Log the numbers of a validation; those that are not finite are left out.

        Args:
            step: the number of gradient steps that are done.
            numbers: numbers by name.
        """
        self.step, kept = step, _finite(numbers)
        self._each("row", lambda logger: logger.row(step, kept))

    def end(self, summary: Mapping[str, Any], figures: Mapping[str, Path] | None = None) -> None:
        """Log the results of a fit that is complete.

        Args:
            summary: results by name; they may be nested, and those that are no numbers are left out.
            figures: image files by name.
        """
        results = _finite(flatten(summary))
        self._each("end", lambda logger: logger.end(self.step, results, figures or {}))

    def _each(self, doing: str, call: Callable[[Logger], None]) -> None:
        """Call a method of each logger, and leave out those that fail from then on."""
        for logger in list(self.loggers):
            try:
                call(logger)
            except Exception as error:  # whatever the library raises; a fit of hours does not end by it
                self.loggers.remove(logger)
                failed = f"the logger {logger.key} failed ({doing}: {_described(error)})"
                warnings.warn(f"{failed}: it gets nothing more, and the fit goes on", InputWarning, stacklevel=3)


def _finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries that are finite numbers."""
    kept = {name: value for name, value in numbers.items() if isinstance(value, int | float)}
    return {name: value for name, value in kept.items() if not isinstance(value, bool) and math.isfinite(value)}


def _described(error: Exception) -> str:
    return " ".join(f"{error or type(error).__name__}".split())[:300]


__all__: Sequence[str] = ["LOGGERS", "Logger", "Loggers", "logger_names"]
