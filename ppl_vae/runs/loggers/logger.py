"""The base class of loggers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ppl_vae.imports import import_extra


class Logger(ABC):
    """A place to which a fit writes; the loop of the caller calls ``start``, ``row`` for each validation, and ``end``.

    The constructor imports the library and writes nothing.

    Args:
        folder: the folder of what the logger writes, or of what it needs to go on with a run that it writes elsewhere.
        name: the name of the run.
    """

    key: ClassVar[str]
    """The name of the logger, and of the extra that installs its library."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    @abstractmethod
    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Begin a run with these settings, or go on after this step with the run in the folder."""

    @abstractmethod
    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of a validation."""

    @abstractmethod
    def end(self, step: int, summary: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        """Write the results and the figures."""

    @abstractmethod
    def close(self, *, is_complete: bool) -> None:
        """Write what is still in memory; ``is_complete`` is False if the fit was stopped or failed."""

    def library(self, module: str) -> Any:
        """Import a module of the logger's library.

        Raises:
            InputError: the library is not installed.
        """
        return import_extra(module, self.key, f"--logger {self.key}")


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a mapping without mappings in it.

    Example:
        >>> flatten({"seed": 0, "model": {"init_args": {"hidden": [8]}}})
        {'seed': 0, 'model.init_args.hidden': [8]}
    """
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
