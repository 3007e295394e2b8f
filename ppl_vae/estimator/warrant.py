"""The warrant of a fit: what was fitted, compared with the program and the data that are there now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppl_vae.data import Dataset, StoredRows, survey
from ppl_vae.data.split import PARTS
from ppl_vae.errors import InputError, warn
from ppl_vae.program import BoundProgram, Program
from ppl_vae.program.sites import describe_structure
from ppl_vae.runs import Fingerprints, Run, changed_data, changed_options, changed_sources, fingerprint_data, sources_of

FITTED = ("binarize", "image_shape", "seed", "model", "guide", "family", "warm_start", "standardize", "extra_missing")
"""The options that a resumed run has in common with the fit."""


def take_fingerprints(
    program: Any, bound: BoundProgram, config: Mapping[str, Any], data: Mapping[str, Mapping[str, list[Any]]]
) -> Fingerprints:
    """Return the fingerprints of a fit of a program to data, whose own are known, see ``fingerprint``."""
    return Fingerprints(
        program=bound.name,
        sources=_sources(program),
        sites=describe_structure(bound),
        options=dict(config),
        data=data,
    )


def fingerprint(data: Dataset) -> dict[str, dict[str, list[Any]]]:
    """Return the fingerprints of the parts of a data set; those on disk are digested in the pass that checks them."""
    prints: dict[str, dict[str, list[Any]]] = {}
    for part in PARTS:
        rows = data.part(part)
        if isinstance(rows, StoredRows):
            of_part = survey(f"{data.name}, {part}", rows)
            prints[part] = {name: [rows.num_rows, found.digest] for name, found in of_part.items()}
        else:
            prints |= fingerprint_data({part: rows})
    return prints


def warn_of_seen_data(start: Run, data: Mapping[str, Any]) -> None:
    """Warn if the run whose parameters are the first ones has other test data: it may have been trained on ours.

    Args:
        start: the run.
        data: the fingerprints of the data of the fit that begins.
    """
    before = start.fingerprints()
    if before is not None and before.data.get("test") != data["test"]:
        warn(
            f"{start.path}, whose parameters are the first ones, has other test data, and may have been trained on "
            f"some of those here: give both runs the same --data and --seed, unless their data have nothing in common"
        )


def find_changes(before: Fingerprints, program: Any, config: Mapping[str, Any]) -> list[str]:
    """Describe how the source of a program and its options have changed since a fit."""
    sources = _sources(program)
    changes = changed_sources(before.sources, sources) if sources else []
    return changes + changed_options(before.options, config)


def check_resumed(
    run: Run, program: Any, config: Mapping[str, Any], data: Dataset, *, accept_changes: bool
) -> Fingerprints | None:
    """Check that a run is resumed with the program and the data of its fit, and return its fingerprints.

    Args:
        run: the run.
        program: the program.
        config: the options with which it is resumed.
        data: the data.
        accept_changes: if True, the source and the arguments of the program may have changed.

    Raises:
        InputError: the data have changed, or the program has and ``accept_changes`` is False.
    """
    before = run.fingerprints()
    if before is None:
        return None
    for sentence in changed_data(before.data, fingerprint(data)):
        raise InputError(f"--resume of {run.path}: {sentence}; restore the data, or fit anew with --output DIR")
    if not accept_changes:
        earlier = {
            "standardize": False,
            "extra_missing": 0.0,
            **before.options,
        }  # runs of earlier versions have no such option
        old, new = ({name: options.get(name) for name in FITTED} for options in (earlier, config))
        sources = _sources(program)
        changes = changed_sources(before.sources, sources) if sources else []
        for sentence in [*changes, *changed_options(old, new)]:
            raise InputError(
                f"--resume of {run.path}: {sentence}; restore it, or go on all the same with --accept-changes"
            )
    return before


def resumed(before: Fingerprints | None, now: Fingerprints, *, accept_changes: bool) -> Fingerprints:
    """Return the fingerprints of a resumed run, which remember those that its checkpoint may still have.

    Raises:
        InputError: the program has other sites than at the fit, and ``accept_changes`` is False.
    """
    change = None if before is None or accept_changes else describe_change(before.sites, now.sites)
    if change is not None:
        raise InputError(f"--resume: {change}; restore the program, or go on all the same with --accept-changes")
    earlier = set() if before is None else before.warrants - {now.warrant}
    return replace(now, earlier=sorted(earlier))


def _sources(program: Any) -> dict[str, list[str]]:
    """Return the digests of a program's sources; a pair of functions has none."""
    return {} if isinstance(program, Program | tuple) else sources_of(type(program))


def name_program(name: str, sites: Mapping[str, str], fingerprints: Fingerprints | None) -> dict[str, Any]:
    """Return the numbers of a checkpoint by which ``check_program`` knows its program; the program is not run."""
    return {"program": name, "sites": dict(sites), "warrant": None if fingerprints is None else fingerprints.warrant}


def check_program(
    path: Path, numbers: Mapping[str, Any], program: BoundProgram, fingerprints: Fingerprints | None = None
) -> None:
    """Check that a checkpoint, whose parameters the program has, is one of this program.

    In a run folder it must be one of the fit whose fingerprints the folder has; if the program has changed since then
    is another question. By itself it must be one of a program with the same sites. Checkpoints of earlier versions
    have none.

    Args:
        path: the checkpoint.
        numbers: the numbers of the checkpoint.
        program: the program.
        fingerprints: those of the run, if the checkpoint is in a run folder.

    Raises:
        InputError: the checkpoint is one of another program.
    """
    for name, parameter in program.parameters().items():
        if not bool(parameter.detach().isfinite().all()):  # training keeps no such parameter
            raise InputError(f"{path} is damaged, for its parameter {name!r} is not finite: restore it or fit anew")
    whose = f"{path} is a checkpoint of another program than {program.name}"
    if numbers["program"] != program.name:
        raise InputError(f"{whose}: it was written for {numbers['program']!r}; name its own program or fit anew")
    if fingerprints is not None:
        warrant = numbers.get("warrant")
        if isinstance(warrant, str) and warrant in fingerprints.warrants:
            return
        raise InputError(f"{path} is a checkpoint of another fit than its folder's: restore it or fit the run anew")
    if (change := describe_change(numbers.get("sites"), describe_structure(program))) is not None:
        raise InputError(f"{whose}: {change}; restore the program or fit anew")


def describe_change(before: Any, now: Mapping[str, str]) -> str | None:
    """Describe the first difference between the sites of a fit and those that are there now; None if there is none.

    Example:
        >>> describe_change({"model z": "latent Normal (2,)"}, {"model z": "latent Laplace (2,)"})
        "its site 'model z' was latent Normal (2,) at the fit, and is latent Laplace (2,)"
    """
    if not isinstance(before, Mapping):
        return None
    for name in [*before, *now]:
        if before.get(name) != now.get(name):
            was = f"was {before[name]} at the fit" if name in before else "was not there at the fit"
            return f"its site {name!r} {was}, and {f'is {now[name]}' if name in now else 'is not there now'}"
    return None
