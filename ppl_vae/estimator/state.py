"""The state of a fit that is kept: its checkpoint on disk, and the contents of a pickle or a deep copy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ppl_vae.data import Holes, NamedArrays, trim
from ppl_vae.data.labels import read_columns
from ppl_vae.errors import InputError
from ppl_vae.estimator.holes import look_for_holes
from ppl_vae.estimator.options import check_options, device
from ppl_vae.estimator.origin import build, is_recipe, tensors_of
from ppl_vae.estimator.warrant import check_program, name_program
from ppl_vae.evaluation.arguments import Arrays
from ppl_vae.inference import group, history_of
from ppl_vae.inference.table import gather_table, tables_at
from ppl_vae.program import check, seeded
from ppl_vae.runs import NamedProgram, check_numbers, read_checkpoint, write_checkpoint, write_tables

if TYPE_CHECKING:
    from ppl_vae.estimator.variational_inference import VariationalInference


def save_checkpoint(vi: VariationalInference, path: Path) -> None:
    """Write a checkpoint: the best parameters, and the state from which training continues.

    Of several processes that train together the first writes, and those that own lambda send theirs.
    """
    place, ranks = vi.training_.place, vi.training_.ranks
    copies = tables_at(vi.inference_, place)
    tables = {name: gather_table(table.after(copy), ranks) for name, (table, copy) in copies.items()}
    if not ranks.is_first:
        return
    tensors, numbers = vi.training_.state()
    of_data, columns = facts_of_data(vi)
    tensors |= of_data
    numbers |= {"columns": columns, "train_seconds": vi.train_seconds_}
    numbers |= name_program(vi.program_.name, vi.sites_, vi.fingerprints_)
    with write_tables(path, place.label, {part: rows for part, rows in tables.items() if rows is not None}) as digests:
        write_checkpoint(path, tensors, numbers | {"tables": digests})


def facts_of_data(vi: VariationalInference) -> tuple[dict[str, Tensor], dict[str, list[dict[str, Any]]]]:
    """Return what a file keeps of the data of a fit, which ``take_parameters`` reads.

    These are the tensors ``template.*``, a few rows, and ``usual.*``, what stands for a missing number; and the columns
    of the arrays that were tables.
    """
    naming = vi.fitted_.naming
    tensors = {f"template.{name}": rows for name, rows in zip(vi.arguments_, vi.template_, strict=True)}
    tensors |= {f"usual.{name}": torch.from_numpy(usual) for name, usual in naming.holes.usual.items()}
    return tensors, {name: [column.as_plain() for column in named] for name, named in naming.columns.items()}


def load_parameters(vi: VariationalInference, path: Path) -> None:
    """Load the best parameters of a checkpoint, see ``VariationalInference.load_parameters``."""
    tensors, numbers = read_checkpoint(path)
    check_numbers(path, numbers)
    take_parameters(vi, path, tensors, numbers)


def take_parameters(
    vi: VariationalInference, path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Give an estimator the best parameters that a file holds, and what else its fit knew of the data.

    Args:
        vi: the estimator, with its program.
        path: the file, for messages.
        tensors: the tensors of the file: ``best.*``, ``template.*`` and ``usual.*``.
        numbers: its numbers: ``program``, ``sites``, ``columns`` and ``train_seconds``.

    Raises:
        InputError: the file has no finished epoch, or belongs to another program.
    """
    template = {name: rows.numpy() for name, rows in group(tensors, "template").items()}
    check_options(vi)
    with seeded(None):  # no other thread draws in between; what a derived encoder draws is replaced
        vi.attach(template, train=False, holes=Holes({n: v.numpy() for n, v in group(tensors, "usual").items()}))
    _load_best(vi, path, tensors, numbers)
    check_program(path, numbers, vi.program_, vi.fingerprints_)
    vi.fitted_.naming.columns = read_columns(path, numbers.get("columns", {}))
    vi.train_seconds_, vi.history_ = numbers["train_seconds"], history_of(tensors)


def _load_best(vi: VariationalInference, path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    best = group(tensors, "best")
    if not best:
        raise InputError(f"{path} has no finished epoch: go on with it, --resume, or fit anew, --overwrite")
    try:
        vi.program_.load_state(best)
    except InputError as error:
        raise InputError(f"{path} (a {numbers['program']}): {error}") from None


def adopt(vi: VariationalInference, arrays: Arrays) -> None:
    """Take a program that was trained elsewhere for fitted, see ``VariationalInference.from_fitted``."""
    check_options(vi)
    holes = look_for_holes(vi.origin.definition, vi, [arrays])
    arrays = holes.fill(arrays)
    with seeded(vi.seed):
        vi.attach(arrays, train=True, holes=holes)
        program, module = vi.program_, vi.origin.definition.module
        adopted = program.store.adopt()
        trained = {id(parameter) for parameter in module.parameters()}
        parameters = program.parameters()
        for name, parameter in parameters.items():
            if id(parameter) not in trained and name not in adopted:
                raise InputError(
                    f"the parameter {name!r} of {program.name} has not been trained: Pyro's parameter store does not "
                    f"hold it, and no module of the program does; give the guide that was trained, infer lambda of "
                    f"every datum with guide='per-sample', or fit the program"
                )
        check_attached(vi, {"the data": arrays})


def check_attached(vi: VariationalInference, parts: Mapping[str, Arrays], start: Path | None = None) -> None:
    """Check the holes of data and the program that was attached to them, and keep the columns of the first part.

    Args:
        vi: the estimator.
        parts: the arrays, with holes filled in, by their name in messages.
        start: a checkpoint whose best parameters the program takes first; it may be one of other data.
    """
    if start is not None:
        tensors, numbers = read_checkpoint(start)
        check_numbers(start, numbers)
        _load_best(vi, start, tensors, numbers)
    for part, arrays in parts.items():
        vi.fitted_.naming.holes.check(part, arrays, vi.arguments_)
    few = vi.fitted.begun
    check(vi.inference_.posterior, trim(vi.arguments_, few) if vi.fitted.trims else few)
    vi.fitted_.naming.columns = NamedArrays(next(iter(parts.values()))).columns


def make_by(vi: VariationalInference, recipe: Any) -> VariationalInference:
    """Set the program of an estimator to the one that a recipe builds under its seed, and store the recipe."""
    vi.program = build(recipe, vi.seed)
    vi.origin.recipe = recipe
    return vi


def fresh(vi: VariationalInference) -> VariationalInference:
    """Return an object with the same options that is not fitted, and whose program is as it was at first."""
    from sklearn.base import clone

    options = {k: clone(v, safe=False) for k, v in vi.get_params(deep=False).items() if k != "program"}
    if is_recipe(vi.program):
        return type(vi)(vi.program, **options)
    if (recipe := vi.origin.recipe) is not None:
        return make_by(type(vi)(None, **options), recipe)
    return type(vi)(vi.origin.copy(), **options)


def shared(vi: VariationalInference) -> VariationalInference:
    """Return a shallow copy of an estimator, which shares the program and the fit."""
    other = object.__new__(type(vi))
    other.__dict__.update(vars(vi))
    return other


def copied(vi: VariationalInference, memo: dict[int, Any]) -> VariationalInference:
    """Return a deep copy of an estimator, with a program of its own."""
    other = object.__new__(type(vi))
    restore(other, copy.deepcopy(contents(vi), memo))
    return other


def moved(vi: VariationalInference, accelerator: str) -> VariationalInference:
    """Bring a program and its fit to a device, in place, and return the object.

    All that is computed later is computed there. Another ``fit`` goes on from the parameters, but the state of the
    optimiser is not kept.

    Args:
        vi: the estimator.
        accelerator: the device: "cpu", "cuda", one of several GPUs such as "cuda:1", "mps" or "auto".

    Raises:
        InputError: the device is unknown, or this machine does not have it.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.normal import Normal
        >>> vi = VariationalInference(Normal(data_dim=2), max_epochs=1).fit(torch.zeros(9, 2), verbose=False)
        >>> vi.to("cpu").accelerator
        'cpu'
    """
    device(accelerator)
    before, kept = dict(vars(vi)), contents(vi)
    vars(vi).clear()
    try:
        restore(vi, kept | {"options": kept["options"] | {"accelerator": accelerator}})
    except BaseException:  # such as a device without enough memory: the fit stays where it was
        vars(vi).clear()
        vars(vi).update(before)
        raise
    return vi


def reduced(vi: VariationalInference, protocol: Any) -> Any:
    """Return what a pickle writes of an estimator.

    Raises:
        InputError: the class of the program is one of a file that is no module, which a pickle cannot name.
    """
    cls = type(vi.program)
    if cls.__module__.startswith("ppl_vae_program") and vi.origin.recipe is None:
        raise InputError(
            f"a pickle cannot hold {cls.__name__}, whose class is in a file that is no module on Python's path: import "
            f"it from a module, or give the program by its name, such as VariationalInference('file.py:{cls.__name__}')"
        )
    return object.__reduce_ex__(vi, protocol)


def contents(vi: VariationalInference) -> dict[str, Any]:
    """Return the options and the program of an estimator and, if it is fitted, what the fit has changed.

    The state of training is not part of it, so that an object made of it can be fitted anew and not resumed.
    """
    options: dict[str, Any] = {"options": vi.get_params(deep=False)}
    if not is_recipe(vi.program) and (recipe := vi.origin.recipe) is not None:
        options = {"options": options["options"] | {"program": None}, "recipe": recipe}
    elif isinstance(vi.origin.recipe, NamedProgram):
        options |= {"recipe": vi.origin.recipe}
    if not hasattr(vi, "fitted_"):
        return options
    initial, tensors = vi.origin.initial, tensors_of(vi.origin.definition.module)
    return options | {
        "template": vi.template,
        "state": {name: tensor.cpu() for name, tensor in vi.program_.state().items()},
        "columns": vi.fitted_.naming.columns,
        "usual": vi.fitted_.naming.holes.usual,
        "initial": [initial[key].cpu() if key in initial else None for key in tensors],
        "train_seconds": vi.train_seconds_,
        "history": list(vi.history_),
    }


def restore(vi: VariationalInference, kept: dict[str, Any]) -> None:
    """Give a new estimator its contents; a program is brought to the device that the options name."""
    vi.__init__(**kept["options"])  # type: ignore[misc]
    if "recipe" in kept and isinstance(vi.program, str):
        vi.origin.rebuild(kept["recipe"])
    elif "recipe" in kept:
        make_by(vi, kept["recipe"])
    if "state" in kept:
        with seeded(None):  # what a derived encoder draws is replaced
            vi.attach(kept["template"], train=False, holes=Holes(kept["usual"]))
        vi.program_.load_state(kept["state"])
        vi.fitted_.naming.columns = kept["columns"]
        keys = tensors_of(vi.origin.definition.module)
        vi.origin.initial = {k: v for k, v in zip(keys, kept["initial"], strict=True) if v is not None}
        vi.train_seconds_, vi.history_ = kept["train_seconds"], kept["history"]
