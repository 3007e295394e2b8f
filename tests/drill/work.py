"""The runs that the drill breaks: three small fits of one program, one for each method, and their numbers."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_vae.cli import fit as fit_module
from ppl_vae.cli import list_verbs
from ppl_vae.estimator import load, load_data
from ppl_vae.runs.posterior import import_arviz
from tests.drill.checks import Ended, inside, run_forked
from tests.helpers.own_programs import OWN_PROGRAM
from tests.helpers.runs import read_numbers, run_without_figures

METHODS = ("amortized", "per-sample", "semi-amortized")
HELPER = "SCALE = 0.5\n"
PROGRAM = OWN_PROGRAM.replace("import torch\n", "import torch\nfrom helper import SCALE\n", 1).replace(
    "self.scale)", "SCALE)"
)
OPTIONS = ["--data", "my.npz", "--model", "mine.py", "--batch-size", "16", "--num-samples", "5"]
STEPS = ["--local-steps", "2", "--inference-steps", "5"]


def options_of(method: str, epochs: int = 5) -> list[str]:
    """Return the options of a fit."""
    own = [] if method == "amortized" else STEPS + (["--warm-start", "true"] if method == "per-sample" else [])
    return [*OPTIONS, *own, "--guide", method, "--max-epochs", str(epochs)]


def run(verb: str, *args: str) -> int:
    """Run a verb without figures, and save a checkpoint after every epoch."""
    fit_module.CHECKPOINT_SECONDS = 0.0
    torch.set_num_threads(1)
    return run_without_figures(verb, list(args), with_posterior=True)


def prepare(verb: str, output: str) -> None:
    """Make the folder in which a verb will work: none for a fit, and a copy of a run for another verb."""
    shutil.rmtree(output, ignore_errors=True)
    if verb != "fit":
        shutil.copytree("amortized", output)


def run_in(verb: str, output: str) -> int:
    """Run a verb in a folder that ``prepare`` has made."""
    return run("fit", *options_of("amortized"), "--output", output) if verb == "fit" else run(verb, output)


def import_all() -> None:
    """Import what the verbs import while they run, so that a fork of this process has it at once."""
    for name in ("h5netcdf", "torch._dynamo", "safetensors.torch", *(f"ppl_vae.cli.{verb}" for verb in list_verbs())):
        import_module(name)
    import_arviz()
    gc.freeze()  # otherwise every fork looks for garbage in all of it, and so copies it


class Bench:
    """A folder with data, a program and its runs, of which the checks take copies.

    Args:
        folder: an empty folder.
        methods: the methods to fit.
    """

    def __init__(self, folder: Path, methods: Sequence[str] = METHODS) -> None:
        import_all()
        self.folder, self.methods = folder, methods
        rng = np.random.default_rng(0)
        x = (rng.normal(size=(70, 2)) @ rng.normal(size=(2, 5)) + 0.3 * rng.normal(size=(70, 5))).astype("float32")
        np.savez(folder / "my.npz", x_train=x[:50], x_valid=x[50:60], x_test=x[60:])
        (folder / "mine.py").write_text(PROGRAM)
        (folder / "helper.py").write_text(HELPER)
        with inside(folder):
            for method in methods:
                ended = run_forked(lambda name=method: self._make(name))  # this process never trains
                assert ended.status == 0, ended.err
        self.numbers = {method: read_numbers(folder / method) for method in methods}

    def _make(self, method: str) -> int:
        status = run("fit", *options_of(method), "--output", method) or run("evaluate", method)
        return status or (run("gap", method, "--num-data", "4", "--local-steps", "2") if method == "amortized" else 0)

    def copy(self) -> Path:
        """Return a copy of the folder, whose runs name the files of the copy."""
        folder = Path(tempfile.mkdtemp(dir=os.environ["DRILL"])).resolve()
        shutil.copytree(self.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        for config in folder.glob("*/config.yaml"):
            config.write_text(config.read_text().replace(str(self.folder), str(folder)))
        return folder

    def go_on(self, output: str, method: str) -> Ended:
        """Go on with a fit that was killed, or begin again if nothing of it was saved."""
        if Path(output, "checkpoint.safetensors").exists():
            return run_forked(lambda: run("fit", "--resume", "--output", output))
        again = ["--overwrite"] if Path(output, "config.yaml").exists() else []
        return run_forked(lambda: run("fit", *options_of(method), *again, "--output", output))

    def is_whole(self, folder: Path, method: str) -> bool:
        """Return True if a run has the numbers of the fit that nothing disturbed."""
        return read_numbers(folder) == self.numbers[method]


def score(folder: str | Path) -> float:
    """Return the log evidence of the run's test data, nats per datum."""
    torch.set_num_threads(1)
    return load(folder, compile="off").score(load_data(folder).test["x"])


def flat(value: Any) -> list[float]:
    """Return the numbers of a result of a verb, for a comparison."""
    if isinstance(value, dict):
        return [number for name in sorted(value) if "seconds" not in name for number in flat(value[name])]
    if isinstance(value, list):
        return [number for item in value for number in flat(item)]
    return [float(value)] if isinstance(value, int | float) else []
