"""The space of a sweep: options of a fit, some of which have a range or several choices in place of a value."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from ppl_vae.cli.configuration import make_parser, options_of_config
from ppl_vae.cli.parser import Parser, describe_type
from ppl_vae.data import load_dataset
from ppl_vae.errors import InputError, nearest
from ppl_vae.runs import program_class, read_config

RANGE, CHOICES = ("low", "high", "log", "step"), ("choices",)
"""The keys of the two kinds of dimension."""
DECIDED = ("config", "output", "overwrite", "resume", "accept_changes", "find_learning_rate", "trust")
"""The options of ``fit`` that a sweep decides."""


class Dimension(NamedTuple):
    """An option that differs between the trials of a sweep.

    Example:
        >>> Dimension("learning_rate", low=1e-4, high=1e-2, log=True).ends()
        (0.0001, 0.01)
    """

    name: str
    """The name of the option, such as ``learning_rate`` or ``model.latent_dim``."""
    choices: tuple[Any, ...] = ()
    """The values, or none for a range."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    """True for a range whose logarithms are equally likely at first."""
    step: float | None = None

    @property
    def is_whole(self) -> bool:
        """True if the values are whole numbers."""
        return not self.choices and isinstance(self.low, int)

    def ends(self) -> tuple[Any, ...]:
        """Return the values that are checked before any trial: all choices, or the ends of the range."""
        return self.choices or (self.low, self.high)


class Space(NamedTuple):
    """The options of the fits of a sweep, and the dimensions of its space."""

    config: dict[str, Any]
    """The file's content."""
    dimensions: tuple[Dimension, ...]

    def configuration(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration of a fit with these values of the dimensions."""
        config = deepcopy(self.config)
        for name, value in values.items():
            of_model = name.startswith("model.")
            place = config["model"]["init_args"] if of_model else config
            place[name.removeprefix("model.")] = value
        return config


def read_space(path: Path, *, trust: bool = False) -> Space:
    """Read the space of a sweep, and check its options at the ends of every range, and with every choice.

    Args:
        path: a YAML file of options of ``fit``. A value may be a mapping: ``{low: 1, high: 9}``, with ``log: true`` or
            ``step: 2`` if wanted, or ``{choices: [a, b]}``.
        trust: True executes a program file from elsewhere.

    Raises:
        InputError: the file has no dimension, or an option that is unknown, or a value that is not allowed.
    """
    config = read_config(path)
    faults = [f"{path} names {name}, which the sweep decides: leave it out" for name in DECIDED if name in config]
    given = dict(_given(config))
    dimensions, on_data = [], inspect.signature(load_dataset).parameters
    for name, value in given.items():
        try:
            dimension = _dimension(name, value, f"{name} in {path}")
            if name in on_data or name == "seed":
                raise InputError(f"{name} in {path} decides the data, and bounds on other data cannot be compared")
            dimensions.append(dimension)
        except InputError as error:
            faults += error.messages
    if not given:
        faults.append(
            f"{path} has nothing to search: give an option a range, such as learning_rate: {{low: 0.0001, high: 0.01, "
            f"log: true}}, or several values, such as batch_size: {{choices: [64, 256]}}"
        )
    if faults:
        raise InputError(*faults)
    space = Space(config, tuple(dimensions))
    for number in range(max(len(dimension.ends()) for dimension in dimensions)):
        values = {dimension.name: dimension.ends()[min(number, len(dimension.ends()) - 1)] for dimension in dimensions}
        chosen = space.configuration(values)
        options = options_of_config(chosen, path, path.parent, trust=trust)
        if number == 0:
            parser = make_parser(program_class(options.model), options.model)
            space = Space(config, tuple(_typed(dimension, parser, path) for dimension in dimensions))
    return space


def _given(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the mappings of a configuration that are meant as dimensions, by the name of their option."""
    model = config.get("model", {})
    init_args = model.get("init_args") if isinstance(model, Mapping) else None
    inner = {f"model.{name}": value for name, value in init_args.items()} if isinstance(init_args, Mapping) else {}
    for name, value in {**config, **inner}.items():
        if isinstance(value, Mapping) and not {*RANGE, *CHOICES}.isdisjoint(value):
            yield name, value


def _dimension(name: str, value: Mapping[str, Any], where: str) -> Dimension:
    """Return the dimension that a mapping states."""
    keys = CHOICES if "choices" in value else RANGE
    unknown = [key for key in value if key not in keys]
    if unknown:
        raise InputError(f"{where} has the key {unknown[0]!r} beside {keys[0]}; {nearest(str(unknown[0]), keys)}")
    if "choices" in value:
        choices = value["choices"]
        if not isinstance(choices, list) or not choices:
            raise InputError(f"{where} has the choices {choices!r}: expected a list of values, such as [64, 256]")
        return Dimension(name, tuple(choices))
    missing = [key for key in ("low", "high") if key not in value]
    if missing:
        raise InputError(f"{where} has no {missing[0]}: a range has low and high")
    numbers = {key: _number(value[key], f"{key} of {where}") for key in ("low", "high", "step") if key in value}
    low, high, log, step = numbers["low"], numbers["high"], value.get("log", False), numbers.get("step")
    if not low < high:
        raise InputError(f"{where} has low {low} and high {high}: low must be less than high")
    if not isinstance(log, bool):
        raise InputError(f"{where} has log {log!r}: expected true or false")
    if log and low <= 0:
        raise InputError(f"{where} has log true and low {low}: a logarithmic range begins above zero")
    if step is not None and (log or step <= 0):
        raise InputError(f"{where} has step {step}: expected a number above zero, and no log")
    return Dimension(name, (), low, high, log, step)


def _number(value: Any, where: str) -> float:
    """Return a number; YAML reads 1e-4, without a point, as text."""
    try:
        if isinstance(value, bool):
            raise ValueError
        return value if isinstance(value, int) else float(value)
    except (ValueError, TypeError):
        raise InputError(f"{where} is {value!r}: expected a number") from None


def _typed(dimension: Dimension, parser: Parser, path: Path) -> Dimension:
    """Return the dimension with ends of the type of its option, so that a range from 0 to 1 may be one of fractions."""
    if dimension.choices:
        return dimension
    action = parser._option_string_actions[f"--{dimension.name}"]
    kinds = describe_type(getattr(action, "_typehint", action.type)).split(" or ")
    low, high, step = dimension.low, dimension.high, dimension.step
    is_whole = all(number is None or isinstance(number, int) for number in (low, high, step))
    if "a number" not in kinds and "a whole number" in kinds and not is_whole:
        raise InputError(f"{dimension.name} in {path} is a whole number: expected whole numbers as low, high and step")
    if "a number" in kinds or not is_whole:
        low, high, step = float(low), float(high), None if step is None else float(step)
    return dimension._replace(low=low, high=high, step=step)
