"""Functions that load the fitted object of a run folder and its data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppl_vae.data import Dataset, load_dataset
from ppl_vae.estimator.options import Accelerator
from ppl_vae.estimator.variational_inference import VariationalInference
from ppl_vae.inference import Compile
from ppl_vae.program import seeded
from ppl_vae.runs import Run, build_program, program_class

DATA_OPTIONS = ("data", "data_root", "binarize", "image_shape", "seed")
"""The options of a run that decide its data."""


def load(
    folder: str | Path, program: Any = None, *, accelerator: Accelerator | None = None, compile: Compile | None = None
) -> VariationalInference:
    """Return the fitted object of a run folder.

    Args:
        folder: the folder that ``python -m ppl_vae.fit`` wrote.
        program: the program; by default it is built as the folder's ``config.yaml`` says.
        accelerator: the device; by default that of the fit.
        compile: which functions run as compiled graphs; by default as in the fit.

    Raises:
        InputError: there is no run folder, or its checkpoint is cut short or belongs to another program.
    """
    run = Run.open(folder)
    config = run.config()
    if program is None:
        model = run.options("model")["model"]
        with seeded(None):  # the caller's generator stays as it is, and what the constructor draws is replaced
            program = build_program(program_class(model["class_path"]), model["init_args"])
    options = {k: v for k, v in config.items() if k in VariationalInference._get_param_names()}
    given = {"accelerator": accelerator, "compile": compile}
    options |= {name: value for name, value in given.items() if value is not None}
    return VariationalInference(program, **options).load_parameters(run.checkpoint)


def load_data(folder: str | Path, image_shape: Sequence[int] | None = None) -> Dataset:
    """Load the data set of a run folder, split and binarised as it was for the fit.

    Args:
        folder: the folder that ``python -m ppl_vae.fit`` wrote.
        image_shape: shape of a datum as an image; by default as in the fit.

    Raises:
        InputError: there is no run folder, its data no longer exist, or their size does not match ``image_shape``.
    """
    run = Run.open(folder)
    options = run.options(*DATA_OPTIONS)
    if options["binarize"] == "dynamic":  # the same draws for valid and test; those of train are drawn once
        options["binarize"] = "static"
    if image_shape is not None:
        options["image_shape"] = image_shape
    return load_dataset(**options)
