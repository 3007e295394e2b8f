"""A module as files that run without its Python: a program of ``torch.export``, and ONNX, each checked before.

The extra ``onnx`` has what ONNX needs: ``pip install 'ppl-vae[onnx]'``.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError, reason
from ppl_vae.runs.files import write_whole

ExportFormat = Literal["pt2", "onnx"]
"""A format of exported files: ``torch.export.load`` reads "pt2", and onnxruntime "onnx"."""
LARGEST_DIFFERENCE = 1e-5
"""The largest difference of an exported number, relative to the largest number or to 1."""


class ExportedFile(NamedTuple):
    """A file that holds a function of a datum, for a free number of data."""

    path: Path
    inputs: dict[str, tuple[int, ...]]
    """The shape of a datum for each input, in their order."""
    outputs: dict[str, tuple[int, ...]]
    """The shape of a datum for each output, in their order."""
    difference: float
    """The largest absolute difference from the program's own numbers."""


def check_formats(formats: Collection[str]) -> None:
    """Raise ``InputError`` if a format is unknown, or its packages are not installed."""
    for name in formats:
        if name not in get_args(ExportFormat):
            raise InputError(f"no format {name!r} of an export: expected pt2 or onnx")
    lacking = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if "onnx" in formats and lacking:
        raise InputError(
            f"ONNX needs {' and '.join(lacking)}: run `pip install 'ppl-vae[onnx]'`, or export formats=['pt2'] alone"
        )


@torch.no_grad()
def export_module(
    module: nn.Module,
    what: str,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    folder: Path,
    formats: Collection[str] = get_args(ExportFormat),
) -> list[ExportedFile]:
    """Write a module as a file of each format, after the numbers of all have been compared with the right ones.

    Args:
        module: a module from tensors with a row per datum to a tuple of such tensors.
        what: a name, which is that of the files too.
        inputs: an example of each input, by name; its number of data is not fixed.
        outputs: the right values for the example, by name.
        folder: where the files are written.
        formats: "pt2", "onnx" or both.

    Raises:
        InputError: PyTorch cannot export an operation of the module, or a number differs.
    """
    check_formats(formats)
    example, rows = tuple(inputs.values()), torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, example, dynamic_shapes={"batch": tuple({0: rows} for _ in example)})
    except Exception as error:  # whatever the operations of a user's program raise
        if "specialized" in str(error):
            raise InputError(
                f"the {what} cannot be exported: an operation of the program fixes the number of data in the graph"
            ) from error
        raise InputError(f"the {what} cannot be exported by torch.export: {reason(error)}") from error
    rights = list(outputs.values())
    files: dict[str, tuple[bytes, float]] = {}
    run: Callable[..., Any]
    for name in formats:
        if name == "pt2":
            content, run = _to_pt2(program), program.module()
        else:
            content = _to_onnx(program, what, inputs, list(outputs))
            run = _read_onnx(content, list(inputs))
        results = [list(run(*some)) for some in (example, _first(example))]
        difference = max(_compare(f"{what} as {name}", rights, results[0]), _compare(what, _first(rights), results[1]))
        files[name] = (content, difference)
    written = []
    for name, (content, difference) in files.items():
        path = folder / f"{what}.{name}"
        write_whole(path, content)
        shapes = [{key: tuple(tensor.shape[1:]) for key, tensor in named.items()} for named in (inputs, outputs)]
        written.append(ExportedFile(path, shapes[0], shapes[1], difference))
    return written


def _first(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the first datum alone, a batch of another size."""
    return tuple(tensor[:1] for tensor in tensors)


def _to_pt2(program: Any) -> bytes:
    """Return a program of ``torch.export`` as a file of its own format."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _to_onnx(program: Any, what: str, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> bytes:
    """Return a program of ``torch.export`` as an ONNX file."""
    noise, quiet = logging.root.manager.disable, io.StringIO()
    try:
        logging.disable(logging.WARNING)  # the exporter reports operators of other packages that it cannot see
        with warnings.catch_warnings(), redirect_stdout(quiet), redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            names: dict[str, Any] = {"input_names": list(inputs), "output_names": list(outputs)}
            exported: Any = torch.onnx.export(program, tuple(inputs.values()), dynamo=True, verbose=False, **names)
        return exported.model_proto.SerializeToString()
    except Exception as error:
        raise InputError(
            f"the {what} cannot be written as ONNX ({reason(error)}): export formats=['pt2'] alone"
        ) from error
    finally:
        logging.disable(noise)


def _read_onnx(model: bytes, inputs: Sequence[str]) -> Callable[..., list[Tensor]]:
    """Return an ONNX file as a function of the tensors of its inputs, which onnxruntime runs on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    taken = {given.name for given in session.get_inputs()}  # an input that no output depends on may be gone

    def run(*tensors: Tensor) -> list[Tensor]:
        values = {name: tensor.cpu().numpy() for name, tensor in zip(inputs, tensors, strict=True) if name in taken}
        return [torch.from_numpy(array) for array in session.run(None, values)]

    return run


def _compare(what: str, rights: Sequence[Tensor], values: Sequence[Tensor]) -> float:
    """Return the largest difference of two lists of tensors, and raise ``InputError`` if it is large."""
    largest = 0.0
    for right, value in zip(rights, values, strict=True):
        difference = float((right.cpu() - value.cpu()).abs().max())
        if value.shape != right.shape or not difference <= LARGEST_DIFFERENCE * max(1.0, float(right.abs().max())):
            raise InputError(
                f"the {what} is not exported: its numbers differ by {difference:.1e} from those of the program, more "
                f"than {LARGEST_DIFFERENCE:.0e} of the largest"
            )
        largest = max(largest, difference)
    return largest
