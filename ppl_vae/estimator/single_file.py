"""A fit as one file: its options, its program's name, its parameters, and a few data; no pickle."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_vae.errors import InputError
from ppl_vae.estimator.state import facts_of_data, make_by, take_parameters
from ppl_vae.estimator.warrant import name_program
from ppl_vae.program.sites import describe_structure
from ppl_vae.runs import NamedProgram, check_trust, read_checkpoint, write_checkpoint
from ppl_vae.runs.files import check_kinds

if TYPE_CHECKING:
    from ppl_vae.estimator.variational_inference import VariationalInference

WHAT, REMEDY = "fit", "write it again with VariationalInference.save"
CONTENT: Mapping[str, tuple[type, ...]] = {
    "program": (str,),
    "recipe": (dict, type(None)),
    "options": (dict,),
    "history": (list,),
    "train_seconds": (float, type(None)),
}
"""The types of what the file holds beside tensors."""


def write_fit(vi: VariationalInference, path: str | Path) -> None:
    """Write a fit as one file, see ``VariationalInference.save``."""
    state = vi.fitted.program.state()
    of_data, columns = facts_of_data(vi)
    seconds = vi.train_seconds_
    numbers = {
        "recipe": _plain_recipe(vi.origin.recipe),
        "options": {k: v for k, v in vi.get_params(deep=False).items() if k != "program"},
        "history": [dict(row) for row in vi.history_],
        "train_seconds": seconds if seconds == seconds else None,
        "columns": columns,
        **name_program(vi.program_.name, describe_structure(vi.program_), None),
    }
    write_checkpoint(Path(path), {f"best.{name}": tensor for name, tensor in state.items()} | of_data, numbers)


def read_fit(path: Path, make: type[VariationalInference], program: Any, trust: bool, **options: Any) -> Any:
    """Return the fit of a file that ``write_fit`` wrote, see ``load``.

    Args:
        path: the file.
        make: the class of the estimator.
        program: the program, if the file does not name it.
        trust: if True, a program file outside the working tree, or beside the file, is executed.
        options: options that are no longer those of the fit.

    Raises:
        InputError: the file is damaged, is no fit, or names no program and none is given.
    """
    tensors, numbers = read_checkpoint(path, WHAT, REMEDY)
    if "options" not in numbers:
        raise InputError(f"{path} is a checkpoint of a run: load its folder, or {REMEDY}")
    check_kinds(numbers, CONTENT, str(path), REMEDY)
    if unknown := sorted(numbers["options"].keys() - set(make.option_names())):
        raise InputError(f"{path} has the option {unknown[0]!r}, which this version does not know: {REMEDY}")
    vi, recipe = make(program, **numbers["options"] | options), numbers["recipe"]
    if program is None:
        if recipe is None:
            name = numbers["program"]
            raise InputError(
                f"{path} is a fit of the object {name}, which the file does not hold: load(path, program={name}(...)), "
                f"with the arguments of the fit"
            )
        check_kinds(recipe, {"name": (str,), "init_args": (dict,)}, f"the program of {path}", REMEDY)
        if not trust:
            check_trust(recipe["name"], path.parent)
        make_by(vi, NamedProgram(**recipe))
    take_parameters(vi, path, tensors, {"train_seconds": float("nan"), **numbers})
    vi.history_ = numbers["history"]
    return vi


def _plain_recipe(recipe: Any) -> dict[str, Any] | None:
    """Return the name and the arguments of what builds a program, or None if JSON cannot hold them.

    Example:
        >>> from functools import partial
        >>> from ppl_vae.models.vae import VAE
        >>> _plain_recipe(partial(VAE, latent_dim=2))
        {'name': 'ppl_vae.models.vae.VAE', 'init_args': {'latent_dim': 2}}
        >>> _plain_recipe("vae"), _plain_recipe(lambda: VAE())
        ({'name': 'vae', 'init_args': {}}, None)
    """
    if isinstance(recipe, str):
        return {"name": recipe, "init_args": {}}
    if isinstance(recipe, NamedProgram):
        made, arguments = recipe.name, dict(recipe.init_args)
    else:
        partial = recipe if isinstance(recipe, functools.partial) else functools.partial(recipe or (lambda: None))
        if partial.args or not inspect.isclass(partial.func) or "<locals>" in partial.func.__qualname__:
            return None
        made, arguments = f"{partial.func.__module__}.{partial.func.__qualname__}", dict(partial.keywords)
    try:
        json.dumps(arguments)
    except (TypeError, ValueError):
        return None
    return {"name": made, "init_args": arguments}
