"""From a run folder to the fitted object, and to its data."""

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
"""Options of a run that decide its data."""


def load(
    folder: str | Path, program: Any = None, *, accelerator: Accelerator | None = None, compile: Compile | None = None
) -> VariationalInference:
    """Return the fitted object of a run folder.

    Args:
        folder: what ``python -m ppl_vae.fit`` wrote.
        program: the program, if it is not to be built as the folder's ``config.yaml`` says.
        accelerator: where to put it; as in the fit by default.
        compile: what is run as compiled graphs; as in the fit by default.

    Raises:
        InputError: no run folder, or a checkpoint that is cut short or belongs to another program.
    """
    run = Run.open(folder)
    config = run.config()
    if program is None:
        model = run.option("model")
        with seeded(None):  # what the constructor draws is replaced, and the caller's generator stays where it is
            program = build_program(program_class(model["class_path"]), model["init_args"])
    options = {k: v for k, v in config.items() if k in VariationalInference._get_param_names()}
    given = {"accelerator": accelerator, "compile": compile}
    options |= {name: value for name, value in given.items() if value is not None}
    return VariationalInference(program, **options).load_parameters(run.checkpoint)


def load_data(folder: str | Path, image_shape: Sequence[int] | None = None) -> Dataset:
    """Load the data set of a run folder, split and binarised as it was for the fit.

    Args:
        folder: what ``python -m ppl_vae.fit`` wrote.
        image_shape: how a datum is drawn, where it is to be another way than in the fit.

    Raises:
        InputError: no run folder, data that are no longer there, or of another size than ``image_shape``.
    """
    run = Run.open(folder)
    options = {name: run.option(name) for name in DATA_OPTIONS}
    if options["binarize"] == "dynamic":  # the same draws for valid and test; those of train are drawn once
        options["binarize"] = "static"
    if image_shape is not None:
        options["image_shape"] = image_shape
    return load_dataset(**options)
