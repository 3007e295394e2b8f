"""The warrant of a fit: what was fitted, compared with the program and the data that are there now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_vae.errors import InputError
from ppl_vae.program import BoundProgram
from ppl_vae.program.sites import describe_structure


def check_program(path: Path, numbers: Mapping[str, Any], program: BoundProgram) -> None:
    """Check that a checkpoint is one of this program: the name of its class, and its sites.

    Checkpoints of earlier versions have no sites.

    Raises:
        InputError: the checkpoint is one of another program.
    """
    whose = f"{path} is a checkpoint of another program than {program.name}"
    if numbers["program"] != program.name:
        raise InputError(f"{whose}: it was written for {numbers['program']!r}; name its own program or fit anew")
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
