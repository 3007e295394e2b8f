"""Checkpoints: named tensors and a few numbers in one safetensors file, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ppl_vae.errors import InputError, reason
from ppl_vae.runs.files import write_whole

FORMAT = 1


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Write tensors, and numbers that JSON can hold, as one file, whole or not at all."""
    # Each tensor is cloned: tied weights share memory, which the format refuses.
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(path, save(flat, metadata={"format": str(FORMAT), "numbers": json.dumps(dict(numbers))}))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint that ``write_checkpoint`` wrote.

    Raises:
        InputError: if there is no file, it is cut short, or something else wrote it.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}: the run ended before its first epoch was saved; fit it anew")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != str(FORMAT):
            raise InputError(
                f"{path} is no checkpoint of this version (format {metadata.get('format')}, expected {FORMAT}): "
                f"fit the run anew"
            )
        return tensors, json.loads(metadata["numbers"])
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise InputError(
            f"{path} is cut short or no checkpoint ({reason(error)}): restore it or fit the run anew"
        ) from error
