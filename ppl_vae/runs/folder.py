"""The folder of one run."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure

from ppl_vae.errors import InputError
from ppl_vae.runs.config import read_config
from ppl_vae.runs.files import write_whole, writing_whole

FORMATS = ("png", "svg", "pdf")
"""Formats of figures."""
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


class Run:
    """The folder of a run, with ``config.yaml``, ``checkpoint.safetensors``, ``metrics.jsonl``, ``summary.json``,
    ``posterior.nc``, ``evidence.json``, ``evidence.nc``, ``gap.json``, ``figures/``, ``uses/`` and ``report.html``.

    Args:
        path: the folder; ``create`` makes it, ``open`` expects it.
    """

    RESULTS = (
        "summary.json",
        "posterior.nc",
        "evidence.json",
        "evidence.nc",
        "gap.json",
        "figures",
        "uses",
        "report.html",
    )
    OWN = ("config.yaml", "checkpoint.safetensors", "metrics.jsonl", *RESULTS)

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.checkpoint = self.path / "checkpoint.safetensors"

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Return a run that exists.

        Raises:
            InputError: if the folder is not a run.
        """
        run = cls(path)
        if not (run.path / "config.yaml").is_file():
            raise InputError(f"{run.path} is no run folder (it has no config.yaml): fit one with --output {run.path}")
        return run

    def check_writable(self) -> None:
        """Raise ``InputError`` if nothing can be written into the folder."""
        if not os.access(self.path, os.W_OK):
            raise InputError(f"{self.path} may not be written to: copy the run to a folder of your own")

    def free(self, *, overwrite: bool) -> None:
        """Make sure that a new run may be written here, and change nothing.

        Raises:
            InputError: if the folder exists and may not be overwritten, or is not a run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--output {self.path} is a file: name a folder")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            above = next(folder for folder in (self.path.resolve(), *self.path.resolve().parents) if folder.exists())
            if not above.is_dir() or not os.access(above, os.W_OK):
                raise InputError(f"--output {self.path} cannot be made: {above} is no folder that may be written to")
            return
        if not (self.path / "config.yaml").is_file():
            raise InputError(f"{self.path} is not empty and no run folder: choose another --output")
        if not overwrite:
            raise InputError(
                f"the run folder {self.path} exists: --overwrite replaces it, --resume goes on with it, --output DIR "
                f"chooses another"
            )

    def create(self, config: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Start a new run here; an old one is removed first if ``overwrite``."""
        self.free(overwrite=overwrite)
        self._remove(*self.OWN, *(path.name for path in self.path.glob(f"{self.checkpoint.stem}.lambda-*.npy")))
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_config(config)

    def _remove(self, *names: str) -> None:
        for path in (self.path / name for name in names):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def config(self) -> dict[str, Any]:
        """Return the options of the run, as ``--config`` takes them."""
        return read_config(self.path / "config.yaml")

    def options(self, *names: str) -> dict[str, Any]:
        """Return some of the options.

        Raises:
            InputError: if the configuration lacks one of them.
        """
        config = self.config()
        for name in names:
            if name not in config:
                raise InputError(f"{self.path / 'config.yaml'} lacks {name!r}: restore it or fit the run anew")
        return {name: config[name] for name in names}

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write ``config.yaml``."""
        write_whole(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(_json(row) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of ``metrics.jsonl``, without a last line that was cut short."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().split("\n") if path.is_file() else []
        try:
            return [json.loads(line) for line in lines[:-1]]
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is damaged ({error}): remove the broken line or fit the run anew") from error

    def rewind(self, last: Mapping[str, Any] | None) -> None:
        """Return to a checkpoint to resume the run: keep its metrics up to this row, and remove its results."""
        epoch = last["epoch"] if last else 0
        rows = [row for row in self.metrics() if row["epoch"] <= epoch]
        if last and (not rows or rows[-1]["epoch"] < epoch):  # it was stopped before the row was written
            rows.append(dict(last))
        self._remove(*self.RESULTS)
        write_whole(self.path / "metrics.jsonl", "".join(_json(row) + "\n" for row in rows))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        self.write_json("summary.json", summary)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file of numbers and texts; numbers that are not finite become null."""
        write_json(self.path / name, content)

    def write_figures(
        self, figures: Mapping[str, Figure], among: Collection[str] = (), formats: Sequence[str] = ("png",)
    ) -> list[Path]:
        """Write figures in each format, remove the others among those that belong together, and return the files."""
        self._remove(*(f"figures/{name}.{suffix}" for name in among for suffix in FORMATS))
        return [path for name, figure in figures.items() for path in self.write_figure(name, figure, formats)]

    def write_figure(self, name: str, figure: Figure, formats: Sequence[str] = ("png",)) -> list[Path]:
        """Write ``figures/NAME.FORMAT`` in each format, and return the paths."""
        folder, paths = self.path / "figures", []
        folder.mkdir(exist_ok=True)
        for suffix in formats:
            beside, path = folder / f".{name}.{suffix}", folder / f"{name}.{suffix}"
            figure.savefig(beside, dpi=150, format=suffix, metadata=UNDATED.get(suffix))
            os.replace(beside, path)
            paths.append(path)
        return paths

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> Path:
        """Write ``uses/NAME.npz``, and return its path."""
        path = self.path / "uses" / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        with writing_whole(path) as file:
            np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]
        return path


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of numbers and texts, whole or not at all; numbers that are not finite become null."""
    write_whole(path, _json(content, indent=2) + "\n")


def _json(content: Mapping[str, Any], indent: int | None = None) -> str:
    """Return JSON; numbers that are not finite become null, because JSON has no name for them."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: finite(v) for k, v in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(content), indent=indent, allow_nan=False)
