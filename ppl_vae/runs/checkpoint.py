"""Checkpoints: named tensors and a few numbers in one safetensors file with a digest, without pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ppl_vae.errors import InputError, reason
from ppl_vae.runs.files import check_kinds, parse_json, writing_whole

FORMAT, WITHOUT_DIGEST = "2", "1"
"""The format that is written, and an earlier one that is read too."""

NUMBERS: Mapping[str, tuple[type, ...]] = {
    "row": (dict, type(None)),
    "best_elbo": (float,),
    "train_seconds": (float,),
    "program": (str,),
}
"""The types of the numbers of a fit."""

ROW: Mapping[str, tuple[type, ...]] = {
    "epoch": (int,),
    "elbo_train": (float,),
    "elbo_valid": (float,),
    "learning_rate": (float,),
    "best_epoch": (int,),
}
"""The types of the results of an epoch."""

STEPS: Mapping[str, tuple[type, ...]] = dict.fromkeys(("step", "best_step"), (int,))
"""The types of further results of an epoch, which earlier versions did not write."""
PLACE: Mapping[str, tuple[type, ...]] = dict.fromkeys(("epochs", "steps", "taken", "validations", "waited"), (int,))
"""The types of the numbers that say where training was, which earlier versions did not write."""

_BLANK = b"0" * 64
_REMEDY = "restore it or fit the run anew"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Write tensors, and numbers that JSON can hold, as one file, whole or not at all.

    The file has the SHA-256 digest of all its bytes, taken with zeros in the place of the digest.
    """
    # Each tensor is cloned: tied weights share memory, which the format refuses.
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "numbers": json.dumps(dict(numbers)), "digest": _BLANK.decode()}
    content = memoryview(save(flat, metadata=metadata))
    start = _place_of_digest(content, _BLANK)
    with writing_whole(path) as file:
        for piece in (content[:start], _digest(content, start).encode(), content[start + len(_BLANK) :]):
            file.write(piece)


def read_checkpoint(
    path: Path, what: str = "checkpoint", remedy: str = _REMEDY
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that ``write_checkpoint`` wrote, and verify its digest.

    Args:
        path: the file.
        what: what the file is, for messages.
        remedy: the end of a message about a file that cannot be read.

    Raises:
        InputError: there is no file, it is cut short or has been changed, or something else wrote it.
    """
    if not path.is_file():
        raise InputError(f"no {what} at {path}: the run ended before its first epoch was saved; fit it anew")
    try:
        content = path.read_bytes()
        tensors = load(content)
        header = json.loads(content[8 : 8 + _header_size(content)])
    except (SafetensorError, ValueError, RecursionError, OSError, KeyError, TypeError) as error:
        raise InputError(f"{path} is cut short or no {what} ({reason(error)[:80]}): {remedy}") from error
    metadata = header.get("__metadata__", {})
    version = metadata.get("format")
    if version not in (FORMAT, WITHOUT_DIGEST):
        again = "fit the run anew" if remedy == _REMEDY else remedy
        raise InputError(f"{path} is no {what} of this version (format {version}, expected {FORMAT}): {again}")
    if version == FORMAT:
        given = metadata.get("digest", "").encode()
        if len(given) != len(_BLANK) or _digest(content, _place_of_digest(content, given)) != given.decode():
            raise InputError(f"{path} is damaged, for its digest is that of other parameters: {remedy}")
    numbers = parse_json(metadata.get("numbers", ""), f"the numbers of {path}", remedy)
    return tensors, numbers


def check_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    """Check the numbers of a checkpoint of a fit.

    Raises:
        InputError: a number is missing or cannot be.
    """
    where = f"the checkpoint {path}"
    check_kinds(numbers, NUMBERS, where, _REMEDY)
    row = numbers["row"]
    if row is not None:
        check_kinds(row, ROW, f"the last row of {where}", _REMEDY)
        check_kinds(row, STEPS, f"the last row of {where}", _REMEDY, complete=False)
        if unknown := sorted(row.keys() - ROW.keys() - STEPS.keys()):
            raise InputError(f"{where} is damaged, for its last row has {unknown[0]!r}: {_REMEDY}")
        if not 0 < row["best_epoch"] <= row["epoch"]:
            raise InputError(
                f"{where} is damaged, for its best epoch is {row['best_epoch']} of {row['epoch']}: {_REMEDY}"
            )
    place = numbers.get("place")
    if place is not None:
        check_kinds(numbers, {"place": (dict,)}, where, _REMEDY)
        check_kinds(place, PLACE, f"the place of {where}", _REMEDY)
        if place.keys() != PLACE.keys() or min(place.values()) < 0:
            raise InputError(f"{where} is damaged, for its place is {place}: {_REMEDY}")
    if not numbers["train_seconds"] >= 0:
        raise InputError(f"{where} is damaged, for 'train_seconds' is {numbers['train_seconds']}: {_REMEDY}")


def _header_size(content: bytes | memoryview) -> int:
    return int.from_bytes(content[:8], "little")


def _place_of_digest(content: bytes | memoryview, digest: bytes) -> int:
    """Return the position of the digest's first byte, which is in the header."""
    return bytes(content[: 8 + _header_size(content)]).find(b'"digest":"' + digest) + len(b'"digest":"')


def _digest(content: bytes | memoryview, start: int) -> str:
    view = memoryview(content)
    hashed = hashlib.sha256(view[:start])
    hashed.update(_BLANK)
    hashed.update(view[start + len(_BLANK) :])
    return hashed.hexdigest()
