"""Functions that load the fitted object of a run folder and its data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppl_vae.data import Dataset, load_dataset
from ppl_vae.data.binarize import binarize_parts
from ppl_vae.data.images import Grey
from ppl_vae.data.split import PARTS
from ppl_vae.errors import ChangedSinceFit, InputError, reason
from ppl_vae.estimator.options import Accelerator
from ppl_vae.estimator.shared_folder import FIT
from ppl_vae.estimator.single_file import read_fit
from ppl_vae.estimator.state import make_by
from ppl_vae.estimator.variational_inference import VariationalInference
from ppl_vae.estimator.warrant import describe_change, find_changes, fingerprint
from ppl_vae.inference import Compile
from ppl_vae.program.sites import describe_structure
from ppl_vae.runs import NamedProgram, Run, changed_data, check_trust


def load(
    folder: str | Path,
    program: Any = None,
    *,
    accelerator: Accelerator | None = None,
    compile: Compile | None = None,
    trust: bool = False,
) -> VariationalInference:
    """Return the fitted object of a run folder, or of what ``VariationalInference.save`` or ``share`` wrote.

    The Python file of the program that the folder's ``config.yaml`` names is executed. If the program or the options
    are no longer those of the fit, a ``ChangedSinceFit`` warning describes the change.

    Args:
        folder: the folder that ``python -m ppl_vae.fit`` or ``share`` wrote, or the file.
        program: the program; by default it is built as the folder's ``config.yaml``, or the file, says.
        accelerator: the device; by default that of the fit.
        compile: which functions run as compiled graphs; by default as in the fit.
        trust: if True, a program file inside the run folder, or outside the working tree, is executed too.

    Raises:
        InputError: there is no run folder, its checkpoint is damaged or belongs to another program, or its program
            file is not trusted.
    """
    given = {"accelerator": accelerator, "compile": compile}
    changed = {name: value for name, value in given.items() if value is not None}
    path = Path(folder).expanduser()
    path = path / FIT if (path / FIT).is_file() else path
    if path.is_file():
        return read_fit(path, VariationalInference, program, trust, **changed)
    run = Run.open(folder)
    config, before = run.config(), run.fingerprints()
    options = {k: v for k, v in config.items() if k in VariationalInference.option_names()}
    vi = VariationalInference(program, **options | changed)
    if program is None:
        spec, init_args = run.model()
        if not trust:
            check_trust(spec, run.path)
        make_by(vi, NamedProgram(spec, init_args))
    if before is None:
        doubts = [
            "it was written by an earlier version, without fingerprints of its program and its data: changes of "
            "these since the fit cannot be noticed"
        ]
        vi.load_parameters(run.checkpoint)
    else:
        vi.fingerprints_, doubts = before, find_changes(before, vi.origin.program, config)
        try:
            vi.load_parameters(run.checkpoint)
        except InputError:
            raise
        except Exception as error:  # a program that was edited, or a template that was, may raise anything
            why = doubts[0] if doubts else "its program fails on the data that its checkpoint keeps"
            raise InputError(f"{run.path}: {why} ({reason(error)}): restore it or fit anew") from error
        if (change := describe_change(before.sites, describe_structure(vi.program_))) is not None:
            if not doubts:
                raise InputError(f"{run.path} was fitted with another program: {change}; restore it or fit anew")
            doubts.append(change)
    for doubt in doubts:
        warnings.warn(f"{run.path}: {doubt}", ChangedSinceFit, stacklevel=2)
    return vi


def load_data(folder: str | Path, image_shape: Sequence[int] | None = None, grey: Grey | None = None) -> Dataset:
    """Load the data set of a run folder, split and binarised as it was for the fit.

    If a part of the data is no longer that of the fit, a ``ChangedSinceFit`` warning describes the change.

    Args:
        folder: the folder that ``python -m ppl_vae.fit`` wrote.
        image_shape: shape of a datum as an image; by default as in the fit.
        grey: way in which grey images are drawn, ink or light; by default as in the fit.

    Raises:
        InputError: there is no run folder, its data no longer exist, or their size does not match ``image_shape``.
    """
    run = Run.open(folder)
    options = {**run.data_options(), "grey": grey or run.config().get("grey")}
    if image_shape is not None:
        options["image_shape"] = image_shape
    data, before = load_dataset(**options), run.fingerprints()
    for change in [] if before is None else changed_data(before.data, fingerprint(data)):
        warnings.warn(f"{run.path}: {change}", ChangedSinceFit, stacklevel=2)
    if data.binarize != "dynamic":
        return data
    bits = binarize_parts(data.name, {part: data.part(part) for part in PARTS}, "static", options["seed"])
    return replace(data, train=bits["train"], binarize="static")  # those of valid and test have been drawn already
