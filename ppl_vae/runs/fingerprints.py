"""Fingerprints of a fit: of its program's sources and sites, of its options, and of each part of its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.errors import InputError
from ppl_vae.runs.files import check_digest, check_kinds, digest, parse_json, read_text, shorten, write_whole
from ppl_vae.runs.tables import digest_array

NAME = "fingerprints.json"
NOT_MEANT = ("data", "data_root", "accelerator", "compile", "logger")
"""Options that do not decide what was fitted; the data have fingerprints of their own."""
MOST_BYTES = 2**24
_REMEDY = "restore it, or remove it to go on without a warrant of program and data"


@dataclass(frozen=True)
class Fingerprints:
    """The fingerprints of a fit.

    Args:
        program: the name of the program's class.
        sources: two digests of each source file by its name, see ``sources_of``.
        sites: descriptions of the program's sites by name.
        options: the configuration.
        data: for each part of the data, the number of rows and the digest of each array by name.
        earlier: digests of the fingerprints that the run had before it was resumed with a changed program.
    """

    program: str
    sources: Mapping[str, list[str]]
    sites: Mapping[str, str]
    options: Mapping[str, Any]
    data: Mapping[str, Mapping[str, list[Any]]]
    earlier: list[str] = field(default_factory=list)

    @property
    def warrant(self) -> str:
        """A digest of what the parameters of a checkpoint belong to: the program, its arguments, and the data."""
        model = self.options.get("model")
        arguments = model.get("init_args") if isinstance(model, Mapping) else None
        code = {name: digests[1] for name, digests in self.sources.items()}
        return digest({"program": self.program, "code": code, "arguments": arguments, "data": self.data})

    @property
    def warrants(self) -> set[str]:
        """The warrants that a checkpoint of this run may have."""
        return {self.warrant, *self.earlier}

    def write(self, folder: Path) -> None:
        """Write ``fingerprints.json``."""
        content = {"format": 1, **asdict(self)}
        content["digest"] = digest(content)
        write_whole(folder / NAME, json.dumps(content, indent=1) + "\n")


def read_fingerprints(folder: Path) -> Fingerprints | None:
    """Return the fingerprints of a run, or None if the run was written by a version that made none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    content = parse_json(read_text(path, "fingerprints", _REMEDY, most=MOST_BYTES), str(path), _REMEDY)
    kinds: dict[str, tuple[type, ...]] = {"program": (str,), "earlier": (list,), "digest": (str,), "format": (int,)}
    kinds |= dict.fromkeys(("sources", "sites", "options", "data"), (dict,))
    check_kinds(content, kinds, str(path), _REMEDY)
    content = check_digest(content, str(path), _REMEDY)
    if content.pop("format") != 1 or content.keys() - kinds.keys():
        raise InputError(f"{path} was written by another version: {_REMEDY}")
    return Fingerprints(**content)


def fingerprint_data(parts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, list[Any]]]:
    """Return the number of rows and the digest of each array of each part of a data set.

    Example:
        >>> prints = fingerprint_data({"train": {"x": np.zeros((4, 2))}})
        >>> prints["train"]["x"][0], len(prints["train"]["x"][1])
        (4, 64)
    """
    return {
        part: {name: [len(array), digest_array(array)] for name, array in arrays.items()}
        for part, arrays in parts.items()
    }


def changed_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe the changes of data since a fit: one sentence for each part that has changed.

    Example:
        >>> changed_data({"test": {"x": [9, "ab"]}}, {"test": {"x": [12, "cd"], "y": [12, "ef"]}})
        ["the test data have changed since the fit: 'x' has 12 rows for 9, 'y' is new"]
    """
    sentences = []
    for part in dict.fromkeys([*before, *now]):
        old, new = before.get(part, {}), now.get(part, {})
        changes = []
        for name in dict.fromkeys([*old, *new]):
            if name not in new or name not in old:
                changes.append(f"{name!r} is {'gone' if name not in new else 'new'}")
            elif new[name][0] != old[name][0]:
                changes.append(f"{name!r} has {new[name][0]} rows for {old[name][0]}")
            elif new[name] != old[name]:
                changes.append(f"{name!r} has other values")
        if changes:
            sentences.append(f"the {part} data have changed since the fit: {', '.join(changes)}")
    return sentences


def changed_sources(before: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> list[str]:
    """Describe the changes of the source files of a program since a fit, but for comments and docstrings.

    Example:
        >>> changed_sources({"mine.py": ["a", "b"]}, {"mine.py": ["c", "d"], "helper.py": ["e", "f"]})
        ['the source of the program has changed since the fit: mine.py has changed, helper.py is new']
    """
    changes = []
    for name in dict.fromkeys([*before, *now]):
        if name not in now or name not in before:
            changes.append(f"{name} is {'gone' if name not in now else 'new'}")
        elif not set(before[name]) & set(now[name]):  # another Python may write the same code in another form
            changes.append(f"{name} has changed")
    return [f"the source of the program has changed since the fit: {', '.join(changes)}"] if changes else []


def changed_options(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe the changes of a configuration since a fit, but for those that have no effect on what was fitted.

    Example:
        >>> changed_options({"seed": 0, "model": {"init_args": {"a": 1}}}, {"seed": 0, "model": {"init_args": {}}})
        ['config.yaml has changed since the fit: model.a is gone']
    """
    old, new = _flat(before), _flat(now)
    changes = [
        f"{name} is {shorten(new[name])}, it was {shorten(old[name])}" if name in new else f"{name} is gone"
        for name in old
        if name not in new or new[name] != old[name]
    ]
    changes += [f"{name} is new" for name in new if name not in old]
    return [f"config.yaml has changed since the fit: {', '.join(changes)}"] if changes else []


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that mean something, those of the model by ``model.NAME``."""
    flat = {name: value for name, value in options.items() if name not in (*NOT_MEANT, "model")}
    model = options.get("model")
    if isinstance(model, Mapping):
        flat["model"] = str(model.get("class_path")).rpartition("/")[2]  # a program file may have moved
        arguments = model.get("init_args")
        if isinstance(arguments, Mapping):
            flat |= {f"model.{name}": value for name, value in arguments.items()}
    return flat
