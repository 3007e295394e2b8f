"""The program of an estimator: an object, or a recipe that builds one under the seed; and copies of it as it was."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from torch import Tensor, nn

from ppl_vae.data.columns import size_arguments
from ppl_vae.errors import InputError, reason
from ppl_vae.evaluation.arguments import Arrays
from ppl_vae.program import Program, seeded
from ppl_vae.runs import NamedProgram, program_class


class Origin:
    """The program of an estimator, made once, with the parameters and buffers that it had at first.

    Args:
        program: what the estimator was given: a program, or a recipe, see ``is_recipe``.
        seed: the seed under which a recipe builds its program.
        data_plate: the name of the data plate, if it was given.

    Attributes:
        program: the program as it was given or built.
        recipe: what builds it, or None.
        definition: the program as a ``Program``.
        initial: the tensors of its modules at first, see ``tensors_of``; a recipe needs none.
    """

    def __init__(self, program: Any, seed: int, data_plate: str | None) -> None:
        self._given, self._seed, self._data_plate = program, seed, data_plate
        self.recipe = program if is_recipe(program) else None
        self._define(program if self.recipe is None else build(program, seed))

    def _define(self, program: Any) -> None:
        self.program = program
        parts = program if isinstance(program, tuple) else (program,)
        is_defined = isinstance(program, Program)
        self.definition = program if is_defined else Program(*parts, data_plate=self._data_plate)
        self.initial: dict[tuple[int, str], Tensor] = {}

    def rebuild(self, recipe: Any) -> None:
        """Build the program anew by a recipe, unless it was built by an equal one."""
        if recipe != self.recipe:
            self.recipe = recipe
            self._define(build(recipe, self._seed))

    def size_by(self, arrays: Arrays, *, standardize: bool) -> None:
        """Give a program that was named the size of the data, if its constructor has ``columns`` or ``data_dim``.

        Args:
            arrays: the training data.
            standardize: if True, the columns are those of standardised data.
        """
        if not isinstance(self._given, str):
            return
        names = inspect.signature(program_class(self._given)).parameters.keys()
        init_args = size_arguments(names, arrays, standardize=standardize)
        self.rebuild(NamedProgram(self._given, init_args) if init_args else self._given)

    @property
    def takes_columns(self) -> bool:
        """True if the constructor of the program has an argument ``columns``, so that texts are categories to it."""
        return "columns" in inspect.signature(type(self.program).__init__).parameters

    def is_of(self, program: Any, seed: int | None = None) -> bool:
        """Return True if this is the origin of a program; a recipe builds another one under another seed, if given."""
        return self._given is program and (seed in (None, self._seed) or not is_recipe(program))

    def keep(self) -> None:
        """Keep copies of the tensors of the modules that are known by now, but of those that were kept before."""
        if self.recipe is None:
            self.initial = {key: _copy(t) for key, t in tensors_of(self.definition.module).items()} | self.initial

    def copy(self) -> Any:
        """Return a copy of a program that no recipe builds, as it was at first.

        Raises:
            InputError: the program is functions that use modules, so that a copy would share them.
        """
        tensors, parts = tensors_of(self.definition.module), (self.definition.model, self.definition.guide)
        if tensors and any(inspect.isfunction(part) for part in parts):
            raise InputError(
                f"{self.definition.name} is a function that uses modules, which a clone would share and train further: "
                f"give the program as a class, as an object, or as a function without arguments that builds it"
            )
        at_first = {id(tensor): _copy(self.initial.get(key, tensor)) for key, tensor in tensors.items()}
        copied = copy.deepcopy(self._given, at_first)  # a memo, in which these tensors have their copies already
        if isinstance(copied, Program):
            copied.store = type(copied.store)()
        return copied


def is_recipe(program: Any) -> bool:
    """Return True for the name of a program, and for what builds one when it is called without arguments.

    Example:
        >>> from functools import partial
        >>> from ppl_vae.models.vae import VAE
        >>> recipes = (VAE, "vae", partial(VAE, latent_dim=2), lambda: VAE(latent_dim=2))
        >>> [is_recipe(program) for program in (*recipes, VAE(), lambda x: None)]
        [True, True, True, True, False, False]
    """
    if isinstance(program, str) or inspect.isclass(getattr(program, "func", program)):
        return True
    is_program = isinstance(program, nn.Module | Program) or hasattr(program, "model") or not callable(program)
    return not is_program and not inspect.signature(program).parameters


def build(recipe: Any, seed: int) -> Any:
    """Return the program that a recipe builds under a seed.

    Raises:
        InputError: the name is unknown, or the recipe fails.
    """
    make = program_class(recipe) if isinstance(recipe, str) else recipe
    try:
        with seeded(seed):
            return make()
    except InputError:
        raise
    except Exception as error:
        name = getattr(getattr(make, "func", make), "__name__", "the program")
        raise InputError(
            f"{name} cannot be built without further arguments, {reason(error)}: give an object, {name}(...), or "
            f"functools.partial({name}, ...)"
        ) from error


def tensors_of(module: nn.Module) -> dict[tuple[int, str], Tensor]:
    """Return the parameters and buffers of a module and of those in it, by the identity of their module and a name."""
    return {
        (id(part), name): tensor
        for part in module.modules()
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
        if not nn.parameter.is_lazy(tensor)
    }


def _copy(tensor: Tensor) -> Tensor:
    values = tensor.detach().clone()
    return nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values
