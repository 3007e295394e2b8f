"""The arguments of a program: which arrays its model takes, and how each function of the program is given them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from functools import partial, wraps
from inspect import Parameter
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ppl_vae.errors import InputError, nearest

BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def named_parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters of a function that have a name: those that are passed by place, then by keyword only."""
    return [p for p in _parameters(function) if p.kind in (*BY_PLACE, Parameter.KEYWORD_ONLY)]


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    fn = as_written(function)
    return list(inspect.signature(fn.forward if isinstance(fn, nn.Module) else fn).parameters.values())


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside handlers of Pyro, such as ``@config_enumerate``, which hide its signature.

    Example:
        >>> from pyro.infer import config_enumerate
        >>> @config_enumerate
        ... def model(x, y=None): ...
        >>> [parameter.name for parameter in named_parameters(model)]
        ['x', 'y']
    """
    if not isinstance(function, partial):
        return function
    inner, arguments = function.func, function.args
    if arguments and isinstance(arguments[0], Messenger):
        inner, arguments = arguments[1], arguments[2:]
    inner = as_written(inner)
    return partial(inner, *arguments, **function.keywords) if arguments or function.keywords else inner


def takes_any(function: Callable[..., Any]) -> bool:
    """Check if a function takes any arguments by place and names none."""
    kinds = {p.kind for p in _parameters(function)}
    return Parameter.VAR_POSITIONAL in kinds and not kinds & {*BY_PLACE, Parameter.KEYWORD_ONLY}


def argument_for_x(model: Callable[..., Any]) -> str | None:
    """Return the only argument without a default, which takes the array "x" if no array has its name; else None.

    Example:
        >>> argument_for_x(lambda images, y=None: None), argument_for_x(lambda x: None), argument_for_x(lambda a, b: 0)
        ('images', None, None)
    """
    required = [p.name for p in named_parameters(model) if p.default is p.empty]
    return required[0] if len(required) == 1 and required != ["x"] else None


def array_names(model: Callable[..., Any], available: Collection[str], program: str) -> tuple[str, ...]:
    """Return the names of the arrays that a model takes, in the order of its arguments.

    Every array that the model names is taken, whatever stands before it in the signature. If the only argument without
    a default has no array of its name, it takes the array "x"; so does a model that takes any arguments and names none.

    Args:
        model: the model.
        available: the names of the arrays that the data have.
        program: the program's name, for the message.

    Raises:
        InputError: an argument without a default has no array, or there is no argument.
    """
    if takes_any(model) and "x" in available:
        return ("x",)
    parameters = named_parameters(model)
    takes_x = argument_for_x(model) not in (None, *available) and "x" in available
    names: list[str] = []
    for parameter in parameters:
        if parameter.name in available and not (takes_x and parameter.name == "x"):
            names.append(parameter.name)
        elif parameter.default is parameter.empty:
            if not takes_x:
                signature = f"model({', '.join(p.name for p in parameters)}) of {program}"
                raise InputError(
                    f"{signature} needs an array {parameter.name!r}, which the data do not have: rename the one or the "
                    f"other, or bind what is no array with functools.partial; {nearest(parameter.name, available)}"
                )
            names.append("x")
    if not names:
        raise InputError(f"{program}.model takes no data: give it an argument, model(self, x)")
    return tuple(names)


def taking(
    function: Callable[..., Any], model: Callable[..., Any], names: Sequence[str] | None, masks: Sequence[str] = ()
) -> Callable[..., Any]:
    """Return a part of a program as a function of arrays by place, which are passed by name.

    An array goes to the argument of its name. If the function has none, such as a guide that calls the labels otherwise
    than the model, the array goes to the argument at the model's place for it. What takes any argument gets those of
    the model. Arguments without an array keep their defaults. A mask goes to the argument of its name alone.

    Args:
        function: the model, its guide, or another function of the same data.
        model: the model, whose signature gives an array its name and its place.
        names: the names of the arrays, see ``array_names``; None passes them by place as they are.
        masks: the names of masks, which stand behind the arrays.

    Example:
        >>> def model(x, annealing_factor=1.0, y=None): ...
        >>> def guide(x, y, *, scale=2.0):
        ...     return x, y, scale
        >>> taking(guide, model, ["x", "y"])(1, 2)
        (1, 2, 2.0)
    """
    if names is None:
        return function
    if takes_any(model):
        return _of_first(function, len(names)) if masks else function
    own, of_model = _parameters(function), _parameters(model)
    places = _places(model, names)
    if function is not model:
        if Parameter.VAR_POSITIONAL in {p.kind for p in own} and not any(p.kind in BY_PLACE for p in own):
            own = of_model
        else:
            places = _places_elsewhere(own, of_model, names, places)
    places |= {mask: len(names) + index for index, mask in enumerate(masks) if mask in {p.name for p in own}}
    in_order = [p for p in own if p.kind in BY_PLACE]
    last = max((i for i, p in enumerate(in_order) if p.name in places), default=-1)
    slots: list[int | Parameter] = [places.get(p.name, p) for p in in_order[: last + 1]]
    keywords = {name: index for name, index in places.items() if name not in {p.name for p in in_order}}
    lacking = any(isinstance(slot, Parameter) and slot.default is slot.empty for slot in slots)
    if lacking or (slots == list(range(len(names))) and not keywords):
        return _of_first(function, len(names)) if masks else function

    @wraps(function, assigned=(), updated=())
    def passed(*arrays: Tensor) -> Any:
        return function(
            *(arrays[slot] if isinstance(slot, int) else slot.default for slot in slots),
            **{name: arrays[index] for name, index in keywords.items()},
        )

    return passed


def _of_first(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Return a function of a number of arrays that takes further ones and leaves them out."""

    @wraps(function, assigned=(), updated=())
    def passed(*arrays: Tensor) -> Any:
        return function(*arrays[:count])

    return passed


def _places(model: Callable[..., Any], names: Sequence[str]) -> dict[str, int]:
    """Return for each parameter of the model that takes an array the array's number."""
    parameters = [p.name for p in named_parameters(model)]
    places = {name: index for index, name in enumerate(names) if name in parameters}
    others = [index for index, name in enumerate(names) if name not in parameters]
    free = [p.name for p in named_parameters(model) if p.default is p.empty and p.name not in places]
    return places | dict(zip(free, others, strict=False))


def _places_elsewhere(
    own: Sequence[Parameter], of_model: Sequence[Parameter], names: Sequence[str], places: dict[str, int]
) -> dict[str, int]:
    """Return for each parameter of another function that takes an array the array's number."""
    known, takes_any = {p.name for p in own}, any(p.kind is Parameter.VAR_KEYWORD for p in own)
    in_order, in_model = ([p.name for p in ps if p.kind in BY_PLACE] for ps in (own, of_model))
    elsewhere: dict[str, int] = {}
    for name, index in places.items():
        place = in_model.index(name) if name in in_model else len(in_order)
        if same := [candidate for candidate in (name, names[index]) if candidate in known]:
            elsewhere[same[0]] = index
        elif place < len(in_order) and in_order[place] not in {*in_model, *names}:
            elsewhere[in_order[place]] = index
        elif takes_any:
            elsewhere[name] = index
    return elsewhere
