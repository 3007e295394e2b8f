"""The encoder and the decoder of a fit as files that run without this package."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ppl_vae.compile.export import ExportedFile, check_formats, export_module
from ppl_vae.errors import InputError
from ppl_vae.program.mean_functions import MeanFunction, decoder_of, encoder_of

if TYPE_CHECKING:
    from ppl_vae.estimator.application import Application

ExportPart = Literal["encoder", "decoder"]
"""A part of a fit that is exported."""


def export_fit(
    vi: Application, folder: str | Path, parts: Collection[str], formats: Collection[str]
) -> dict[str, ExportedFile]:
    """Write encoder and decoder of a fit as files, see ``VariationalInference.export``."""
    for part in parts:
        if part not in get_args(ExportPart):
            raise InputError(f"no part {part!r} of an export: expected encoder or decoder")
    check_formats(formats)
    files: dict[str, ExportedFile] = {}
    for part, function in {part: _make(vi, part) for part in parts}.items():
        program = function.program
        with program.running(seed=vi.seed, training=False):
            rights = dict(zip(function.outputs, function.one_by_one(*function.example), strict=True))
            inputs = dict(zip(function.inputs, function.example, strict=True))
            Path(folder).mkdir(parents=True, exist_ok=True)
            written = export_module(function, part, inputs, rights, Path(folder), formats)
        files |= {file.path.name: file for file in written}
    return files


def _make(vi: Application, part: str) -> MeanFunction:
    """Return the function of a part, which is made before a file is written."""
    fitted: Any = vi.fitted
    if part == "encoder":
        if fitted.inference.lambda_is_data:
            raise InputError(
                "the posterior of each datum is found by gradient steps, so that there is no encoder to export; take "
                "parts=['decoder']"
            )
    elif not fitted.generates:
        raise InputError(
            f"{fitted.program.name} does not generate: its model computes with the data that it observes, so that "
            f"there is no decoder to export; take parts=['encoder']"
        )
    program = fitted.inference.posterior if part == "encoder" else fitted.program
    make = encoder_of if part == "encoder" else decoder_of
    with program.running(seed=vi.seed, training=False):
        return make(program, fitted.arguments)
