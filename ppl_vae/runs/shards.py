"""Files of shards in the folder of a run: what one process has computed of a range of rows, until it is merged."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.parallel import Shard, describe_numbers
from ppl_vae.runs.checkpoint import read_checkpoint, write_checkpoint
from ppl_vae.runs.files import shorten

FOLDER = "shards"


class ShardFile(NamedTuple):
    """A file of a shard, by its name."""

    path: Path
    verb: str
    shard: Shard


def write_shard(folder: Path, verb: str, shard: Shard, facts: Mapping[str, Any], content: Any) -> Path:
    """Write what a verb has computed of a shard, whole or not at all, and return the file.

    Args:
        folder: the folder of the run.
        verb: the verb.
        shard: the shard.
        facts: what the numbers depend on, but for the rows: numbers and texts by name. All shards have the same.
        content: the numbers: mappings and lists of arrays, tensors, and what JSON can hold.

    Example:
        >>> import tempfile
        >>> run, shard = Path(tempfile.mkdtemp()), Shard(0, 2)
        >>> path = write_shard(run, "embed", shard, {"seed": 0}, {"mean": np.ones((3, 2)), "names": ["a", "b"]})
        >>> path.name, read_shard(path)["mean"].shape, read_shard(path)["names"]
        ('embed-1-of-2.safetensors', (3, 2), ['a', 'b'])
    """
    tensors: dict[str, Tensor] = {}

    def strip(value: Any) -> Any:
        if isinstance(value, Tensor | np.ndarray):
            name = str(len(tensors))
            tensors[name] = torch.as_tensor(np.ascontiguousarray(value))
            return {"kind": "tensor" if isinstance(value, Tensor) else "array", "name": name}
        if isinstance(value, Mapping):
            return {"kind": "mapping", "items": [[key, strip(item)] for key, item in value.items()]}
        if isinstance(value, list):
            return {"kind": "list", "items": [strip(item) for item in value]}
        return value

    path = folder / FOLDER / f"{verb}-{shard.index + 1}-of-{shard.count}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_checkpoint(path, tensors, {"facts": dict(facts), "content": strip(content)})
    return path


def read_shard(path: Path, facts: Mapping[str, Any] | None = None) -> Any:
    """Return what ``write_shard`` wrote.

    Args:
        path: the file.
        facts: what the numbers depend on now; if given, they must be those with which the file was written.

    Raises:
        InputError: the file is damaged, or its numbers depend on something else.
    """
    remedy = "run this shard again"
    tensors, numbers = read_checkpoint(path, "shard", remedy)
    written = numbers.get("facts")
    if not isinstance(written, dict) or "content" not in numbers:
        raise InputError(f"{path} is no shard: {remedy}")
    if facts is not None:
        plain = json.loads(json.dumps(dict(facts)))
        for name in [*plain, *written]:
            if written.get(name) != plain.get(name):
                was, now = (shorten(values.get(name)) for values in (written, plain))
                if isinstance(written.get(name), dict) and isinstance(plain.get(name), dict):
                    differs = [k for k in [*plain[name], *written[name]] if written[name].get(k) != plain[name].get(k)]
                    name, was, now = differs[0], *(shorten(v[name].get(differs[0])) for v in (written, plain))
                raise InputError(
                    f"{path} was computed with {name} {was}, and the others with {now}: run this shard again with the "
                    f"options of the others"
                )

    def fill(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value["kind"] in ("tensor", "array"):
            tensor = tensors[value["name"]]
            return tensor if value["kind"] == "tensor" else tensor.numpy()
        if value["kind"] == "list":
            return [fill(item) for item in value["items"]]
        return {key: fill(item) for key, item in value["items"]}

    return fill(numbers["content"])


def read_facts(path: Path) -> dict[str, Any]:
    """Return what the numbers of a shard depend on, see ``write_shard``."""
    _, numbers = read_checkpoint(path, "shard", "run this shard again")
    return numbers["facts"]


def find_shards(folder: Path) -> dict[str, list[ShardFile]]:
    """Return the files of the latest shards of each verb, in the order of the shards.

    If shards of several counts are there, the latest are those with the file that was written last.

    Raises:
        InputError: a shard is missing.
    """
    sets: dict[tuple[str, int], list[ShardFile]] = {}
    for path in (folder / FOLDER).glob("*-of-*.safetensors"):
        if match := re.fullmatch(r"(\w+)-(\d+)-of-(\d+)\.safetensors", path.name):
            file = ShardFile(path, match[1], Shard(int(match[2]) - 1, int(match[3])))
            sets.setdefault((file.verb, file.shard.count), []).append(file)
    latest: dict[str, list[ShardFile]] = {}
    for (verb, _), files in sorted(sets.items(), key=lambda item: max(f.path.stat().st_mtime_ns for f in item[1])):
        latest[verb] = sorted(files, key=lambda file: file.shard.index)
    return latest


def check_complete(files: list[ShardFile]) -> None:
    """Raise ``InputError`` if a shard is missing; the message names those that are."""
    verb, count = files[0].verb, files[0].shard.count
    missing = sorted(set(range(count)) - {file.shard.index for file in files})
    if missing:
        names = describe_numbers(index + 1 for index in missing)
        whose = f"shard {names} of {count} is" if len(missing) == 1 else f"shards {names} of {count} are"
        raise InputError(
            f"{files[0].path.parent}: {whose} missing: run python -m ppl_vae {verb} with the options of the others and "
            f"--shard {missing[0] + 1}/{count}"
        )


def digest_file(path: Path) -> str:
    """Return the SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
