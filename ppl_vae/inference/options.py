"""Options as frozen dataclasses: the checks of their values, and the options that all methods share."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial, reduce
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from ppl_vae.display.docstrings import split_arguments
from ppl_vae.errors import InputError, nearest, raise_together
from ppl_vae.inference.families import FamilyName
from ppl_vae.inference.objectives import Baseline, Gradient
from ppl_vae.program import Batch

Kind = TypeVar("Kind")


OWN = {"own": True}
"""The metadata of an option that changes a method's objective: other methods accept only its default."""


class Constraint(NamedTuple):
    """A condition on the value of a number."""

    holds: Callable[[Any], bool]
    expected: str
    """The condition in words, as the end of a message."""
    most: int | None = None
    """The largest value; a larger number is a slip of the keyboard, and its loop would not end."""


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and least <= int(value)


def _real(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


Count = Annotated[int, Constraint(lambda value: _whole(value, 1), "a whole number, 1 or more", 10**9)]
CountOrZero = Annotated[int, Constraint(lambda value: _whole(value, 0), "a whole number, 0 or more", 10**9)]
Seed = Annotated[int, Constraint(lambda n: _whole(n, 0) and n < 2**63, "a whole number from 0 to 2**63 - 1")]
Positive = Annotated[float, Constraint(lambda value: _real(value) and value > 0, "a positive number")]
NotNegative = Annotated[float, Constraint(lambda value: _real(value) and value >= 0, "0 or more")]
Share = Annotated[float, Constraint(lambda value: _real(value) and 0 <= value < 1, "0 or more and less than 1")]


def from_names(kind: type[Kind], given: Mapping[str, Any], whose: str) -> Kind:
    """Return a dataclass of settings with values by name.

    Args:
        kind: the dataclass.
        given: the values; the others have their defaults.
        whose: what has these settings, for the message.

    Raises:
        InputError: there is no setting of that name.

    Example:
        >>> @dataclass(frozen=True)
        ... class Draws:
        ...     draws: int = 10
        >>> from_names(Draws, {"draws": 3}, "an estimate")
        Draws(draws=3)
        >>> from_names(Draws, {"drawn": 3}, "an estimate")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: an estimate has no setting 'drawn'; did you mean 'draws'? (known: draws)
    """
    known = [option.name for option in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise InputError(f"{whose} has no setting {name!r}; {nearest(name, known)}")
    return kind(**given)


def check_value(name: str, value: Any, kind: Any) -> None:
    """Check one option against its type: a ``Literal``'s choices, a number's ``Constraint``, and None if it is allowed.

    Raises:
        InputError: the value is none of the choices, or does not meet the constraint.

    Example:
        >>> check_value("patience", None, Count | None)
        >>> check_value("batch_size", 0, Count)
        Traceback (most recent call last):
        ppl_vae.errors.InputError: batch_size is 0: expected a whole number, 1 or more
        >>> check_value("steps", 0, Count | Literal["auto"])
        Traceback (most recent call last):
        ppl_vae.errors.InputError: steps is 0: expected a whole number, 1 or more, or auto
        >>> check_value("num_samples", 10**12, Count)
        Traceback (most recent call last):
        ppl_vae.errors.InputError: num_samples is 1000000000000: expected 1000000000 or less
    """
    choices = get_args(kind) if get_origin(kind) is Literal else None
    if choices is not None and value not in choices:
        raise InputError(f"{name}={value!r} is unknown; {nearest(str(value), choices)}")
    if get_origin(kind) is Annotated:
        constraint = kind.__metadata__[0]
        if not constraint.holds(value):
            raise InputError(f"{name} is {value!r}: expected {constraint.expected}")
        if constraint.most is not None and value > constraint.most:
            raise InputError(f"{name} is {value}: expected {constraint.most} or less")
    elif choices is None and get_origin(kind) in (Union, UnionType) and value is not None:
        _check_any(name, value, [part for part in get_args(kind) if part is not type(None)])


def _check_any(name: str, value: Any, kinds: list[Any]) -> None:
    """Check an option against several types, of which words such as ``"auto"`` may be one."""
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if value in words:
        return
    try:
        for kind in kinds:
            if get_origin(kind) is not Literal:
                check_value(name, value, kind)
    except InputError as error:
        raise InputError(", or ".join([str(error), *words])) from error


def check_values(options: Any) -> None:
    """Check every field of a dataclass with ``check_value``, and report all that are wrong."""
    kinds = get_type_hints(type(options), include_extras=True)
    fielded = {option.name for option in fields(options)}
    raise_together(
        partial(check_value, name, getattr(options, name), kind) for name, kind in kinds.items() if name in fielded
    )


def options_of(source: Any, kind: type[Kind]) -> Kind:
    """Return the dataclass of options whose fields have the values of an object's attributes.

    Example:
        >>> from types import SimpleNamespace
        >>> @dataclass(frozen=True)
        ... class Waiting:
        ...     patience: int = 50
        >>> options_of(SimpleNamespace(patience=3, seed=0), Waiting)
        Waiting(patience=3)
    """
    return kind(**{option.name: getattr(source, option.name) for option in fields(kind)})  # type: ignore[arg-type]


def parameters(kinds: Iterable[type]) -> dict[str, inspect.Parameter]:
    """Return the fields of dataclasses as keyword-only parameters by name; a name that several have is taken once."""
    named: dict[str, inspect.Parameter] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for name, option in inspect.signature(kind).parameters.items():
            alone = option.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=_plain(hints[name]))
            named.setdefault(name, alone)
    return named


def _plain(hint: Any) -> Any:
    """Return a type that may be None as ``int | None``, the form for help texts."""
    return reduce(operator.or_, get_args(hint)) if get_origin(hint) is Union else hint


def argument_help(kinds: Iterable[type]) -> dict[str, str]:
    """Return the help of every field of dataclasses, from ``Args:`` in their docstrings and those that they inherit."""
    owners = dict.fromkeys(owner for kind in kinds for owner in reversed(kind.__mro__) if is_dataclass(owner))
    return {name: text for owner in owners for name, text in split_arguments(owner.__doc__ or "").items()}


@dataclass(frozen=True)
class MethodOptions:
    """The options that all methods of inference share.

    Args:
        family: variational family of automatic guides. "diagonal" (the default) is a Gaussian with a diagonal
            covariance, "full" a Gaussian with a full covariance, and "flow" a normalizing flow.
        num_particles: number of draws per datum in a gradient step. More draws give a gradient with less noise, and
            cost more.
        kl_weight: weight of the KL term in training. It is the beta of a beta-VAE. The default is 1. Validation and
            evaluation always use 1.
        kl_warmup_epochs: number of epochs over which the weight rises from 0. It rises in equal steps. The default 0
            uses the full weight from the start.
        gradient: estimator of the gradient. "reparam" (the default) differentiates along the path of the draws wherever
            they have one. "score-function" uses the score function for all latents; it is meant for comparison.
        baseline: baseline of the score-function gradient. It is subtracted in order to reduce the noise.
            "leave-one-out" (the default) uses the other draws of the same datum, and needs two particles or more.
            "decaying-average" uses the steps before, and "none" subtracts nothing.
        clip_norm: largest norm of the gradient. A larger gradient over all parameters is scaled down to this norm. The
            default null (None in Python) never scales.
    """

    group: ClassVar[str] = "objective"
    family: FamilyName = "diagonal"
    num_particles: Count = 1
    kl_weight: NotNegative = 1.0
    kl_warmup_epochs: CountOrZero = 0
    gradient: Gradient = "reparam"
    baseline: Baseline = "leave-one-out"
    clip_norm: Positive | None = field(default=None, metadata={"group": "optimiser"})

    def check(self) -> None:
        """Check that the values agree with each other.

        Raises:
            InputError: two options contradict each other.
        """
        if (self.gradient, self.baseline, self.num_particles) == ("score-function", "leave-one-out", 1):
            raise InputError(
                "the leave-one-out baseline needs two draws or more: --num-particles 2, or --baseline decaying-average"
            )

    def kl_weight_in(self, epoch: int) -> float:
        """Return the weight of the divergence in an epoch, counted from 1; it rises to its value in equal steps."""
        return self.kl_weight * min(1.0, epoch / max(1, self.kl_warmup_epochs))

    def make_kl_weight(self, template: Batch) -> Tensor | None:
        """Return a scalar that holds the weight and that compiled graphs read; None if the weight is always one."""
        if self.kl_weight == 1 and self.kl_warmup_epochs <= 1:
            return None
        real = next((tensor for tensor in template if tensor.is_floating_point()), torch.empty(()))
        return torch.ones((), dtype=real.dtype, device=template[0].device)

    def set_kl_weight(self, kl_weight: Tensor | None, epoch: int) -> None:
        """Set this scalar, if there is one, to its value in an epoch."""
        if kl_weight is not None:
            kl_weight.fill_(self.kl_weight_in(epoch))


def check_options_of_others(source: Any, kind: type, others: Iterable[tuple[str, type]]) -> None:
    """Check that options which change the objective of another method alone have their defaults.

    Args:
        source: an object with all options as attributes.
        kind: the chosen method's options.
        others: name and options of every method.

    Raises:
        InputError: an option has another value; the message names the method that has the option.
    """
    known = {option.name for option in fields(kind)}
    for method, other in others:
        for option in fields(other):
            value = getattr(source, option.name)
            if option.metadata.get("own") and option.name not in known and value != option.default:
                raise InputError(f"{option.name}={value!r} is for guide={method!r} alone: leave it out")
