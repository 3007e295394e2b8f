"""The folder of one run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from ppl_vae.errors import InputError
from ppl_vae.runs.config import read_config
from ppl_vae.runs.files import (
    check_digest,
    check_kinds,
    digest,
    finite,
    is_unfinished,
    parse_json,
    read_text,
    write_whole,
    writing_whole,
    written_beside,
)
from ppl_vae.runs.fingerprints import Fingerprints, read_fingerprints
from ppl_vae.runs.lock import locked
from ppl_vae.runs.metrics import append_row, order_of, read_rows, write_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
"""Formats of figures."""
DATA_OPTIONS: Mapping[str, tuple[type, ...]] = {
    "data": (str,),
    "data_root": (str, type(None)),
    "binarize": (str, type(None)),
    "image_shape": (list, type(None)),
    "seed": (int,),
}
"""The types of the options of a run that decide its data."""
NUM_DATA = 20_000
"""The number of test data that a fit evaluates if there are more."""
FILE_OPTIONS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("columns", "drop", "index", "kinds", "arguments", "delimiter", "decimal", "encoding", "layer", "obs"),
        (str, type(None)),
    ),
    "header_lines": (int, type(None)),
    "cut_sequences": (int, type(None)),
}
"""The types of further options of a file; runs of earlier versions lack some of them."""
_REMEDY = "restore it or fit the run anew"
WRITTEN_BY = {"evidence.json": "evaluate", "gap.json": "gap", "check.json": "check"}
"""The verbs that write results; the others are those of ``fit``."""
_NUMBER, _COUNT = (float, type(None)), (int, type(None))
KINDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "summary.json": {
        **dict.fromkeys(("epochs", "best_epoch", "num_train"), _COUNT),
        **dict.fromkeys(("valid_elbo", "train_seconds"), _NUMBER),
        "device": (str,),
        "versions": (dict,),
        "test": (dict, type(None)),
    },
    "evidence.json": {
        "part": (str,),
        "num_data": _COUNT,
        **dict.fromkeys(("estimators", "settings"), (dict,)),
        "diagnostics": (dict, type(None)),
        "warnings": (list,),
    },
    "gap.json": {
        "part": (str,),
        "num_data": _COUNT,
        **{f"{gap}_gap{end}": _NUMBER for gap in ("approximation", "amortization", "inference") for end in ("", "_se")},
        **dict.fromkeys(("log_evidence", "log_evidence_se", "log_evidence_mcse", "elbo_amortized"), _NUMBER),
        **dict.fromkeys(("elbo_amortized_se", "iwae_amortized"), _NUMBER),
        "log_evidence_by": (str,),
        **dict.fromkeys(("families", "settings"), (dict,)),
        "warnings": (list,),
    },
    "check.json": {"holds": (bool,), "num_data": _COUNT, "verdicts": (list,), "figures": (dict,), "settings": (dict,)},
}
"""The types of what results hold, by file and name."""
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


class Run:
    """The folder of a run, with ``config.yaml``, ``fingerprints.json``, ``checkpoint.safetensors``, ``metrics.jsonl``,
    ``summary.json``, ``posterior.nc``, ``evidence.json``, ``evidence.nc``, ``gap.json``, ``check.json``, ``figures/``,
    ``uses/``, ``shards/``, ``logs/`` and ``report.html``.

    Args:
        path: the folder; ``create`` makes it, ``open`` expects it.
    """

    RESULTS = (
        "summary.json",
        "posterior.nc",
        "evidence.json",
        "evidence.nc",
        "gap.json",
        "check.json",
        "figures",
        "uses",
        "shards",
        "report.html",
    )
    OWN = ("config.yaml", "fingerprints.json", "checkpoint.safetensors", "metrics.jsonl", "logs", *RESULTS)

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
        if not self.path.is_dir() or all(is_unfinished(path) for path in self.path.iterdir()):
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

    @contextmanager
    def locked(self, *, alone: bool = True) -> Iterator[None]:
        """Hold the lock of the folder, which is made if it does not exist.

        Args:
            alone: if True, no other process may work on the run; else several may use it, but none may fit it.

        Raises:
            InputError: another process has the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path, alone=alone):
            yield

    def create(
        self, config: Mapping[str, Any], fingerprints: Fingerprints | None = None, *, overwrite: bool = False
    ) -> None:
        """Start a new run here; an old one is removed first if ``overwrite``."""
        self.free(overwrite=overwrite)
        self._remove(*self.OWN, *(path.name for path in self.path.glob(f"{self.checkpoint.stem}.lambda-*.npy")))
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_config(config)
        if fingerprints is not None:
            fingerprints.write(self.path)

    def _remove(self, *names: str) -> None:
        for path in (self.path / name for name in names):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def config(self) -> dict[str, Any]:
        """Return the options of the run, as ``--config`` takes them."""
        return read_config(self.path / "config.yaml")

    @property
    def has_fingerprints(self) -> bool:
        """True if the run has fingerprints; then all its results and metrics have digests."""
        return (self.path / "fingerprints.json").is_file()

    def fingerprints(self) -> Fingerprints | None:
        """Return the fingerprints of the fit, or None if an earlier version wrote the run."""
        return read_fingerprints(self.path)

    def options(self, *names: str) -> dict[str, Any]:
        """Return some of the options.

        Raises:
            InputError: if the configuration lacks one of them.
        """
        return self._select(self.config(), names)

    def _select(self, config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        for name in names:
            if name not in config:
                raise InputError(f"{self.path / 'config.yaml'} lacks {name!r}: restore it or fit the run anew")
        return {name: config[name] for name in names}

    def model(self) -> tuple[str, dict[str, Any]]:
        """Return the name of the program, as ``program_class`` takes it, and the arguments of its constructor.

        Raises:
            InputError: if the configuration lacks them, or they are of another type.
        """
        where = f"'model' of {self.path / 'config.yaml'}"
        model = self._checked(self.config(), {"model": (dict,)})["model"]
        check_kinds(model, {"class_path": (str,), "init_args": (dict,)}, where, _REMEDY)
        return model["class_path"], model["init_args"]

    def data_options(self) -> dict[str, Any]:
        """Return the options of the run that decide its data.

        Raises:
            InputError: if the configuration lacks one of them, or it is of another type.
        """
        config = self.config()
        options = self._checked(config, DATA_OPTIONS)
        of_file = {name: config.get(name) for name in FILE_OPTIONS}
        check_kinds(of_file, FILE_OPTIONS, str(self.path / "config.yaml"), _REMEDY)
        options |= of_file
        for size in options["image_shape"] or []:
            check_kinds({"image_shape": size}, {"image_shape": (int,)}, str(self.path / "config.yaml"), _REMEDY)
        return options

    def _checked(self, config: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
        options = self._select(config, kinds)
        check_kinds(options, kinds, str(self.path / "config.yaml"), _REMEDY)
        return options

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write ``config.yaml``."""
        write_whole(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a row to ``metrics.jsonl``."""
        append_row(self.path, row)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of ``metrics.jsonl``, without a last line that was cut short."""
        rows, summary = read_rows(self.path, checked=self.has_fingerprints), self.read_json("summary.json")
        if summary is not None and summary.get("epochs") != (rows[-1]["epoch"] if rows else 0):
            where = self.path / "metrics.jsonl"
            raise InputError(f"{where} is damaged, for it lacks the last of {summary.get('epochs')} epochs: {_REMEDY}")
        return rows

    def rewind(self, last: Mapping[str, Any] | None) -> None:
        """Return to a checkpoint to resume the run: keep its metrics up to this row, and remove its results."""
        end = order_of(last) if last else (0, 0)
        epoch = end[0]
        rows = [row for row in self.metrics() if order_of(row) <= end]
        is_each = self.config().get("validate_every") is None  # else there may be epochs without a row
        if is_each and (rows[-1]["epoch"] if rows else 0) < epoch - 1:
            where = self.path / "metrics.jsonl"
            raise InputError(f"{where} is damaged, for it lacks epochs before the {epoch} of the checkpoint: {_REMEDY}")
        is_there = bool(rows) and (rows[-1]["epoch"], rows[-1].get("step", end[1])) == end
        if last and not is_there:  # it was stopped before the row was written
            rows.append(dict(last))
        self._remove(*self.RESULTS)
        write_rows(self.path, rows)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``."""
        self.write_json("summary.json", summary)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file of numbers and texts with their digest; numbers that are not finite become null."""
        plain = finite(content)
        write_json(self.path / name, {**plain, "digest": digest(plain)})

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return what ``write_json`` wrote, or None if there is no file.

        Raises:
            InputError: the file is damaged.
        """
        path = self.path / name
        if not path.is_file():
            return None
        remedy = f"remove it, or write it anew with {WRITTEN_BY.get(name, 'fit')}"
        content = parse_json(read_text(path, "results", remedy), str(path), remedy)
        if self.has_fingerprints and "digest" not in content:
            raise InputError(f"{path} is damaged, for it lacks its digest: {remedy}")
        check_kinds(content, KINDS.get(name, {}), str(path), remedy, complete=False)
        return check_digest(content, str(path), remedy)

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
            path = folder / f"{name}.{suffix}"
            with written_beside(path) as beside:
                figure.savefig(beside, dpi=150, format=suffix, metadata=UNDATED.get(suffix))
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
    write_whole(path, json.dumps(finite(content), indent=2, allow_nan=False) + "\n")
