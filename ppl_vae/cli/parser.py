"""A parser of options in either spelling, which reports every option that is wrong, in one line each."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

import jsonargparse

from ppl_vae.cli.spelling import hyphenated, underscored
from ppl_vae.errors import InputError
from ppl_vae.estimator.usual_names import hint

KINDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    Sequence: "a list such as [3,4]",
    list: "a list such as [3,4]",
    tuple: "a list such as [3,4]",
}
"""Types of options in the words of a user."""


class Parser(jsonargparse.ArgumentParser):
    """A parser whose options may be written with hyphens or underscores, and which reports all that are wrong.

    The help of a verb is written by ``ppl_vae.cli.help``, from the sources.

    Args:
        verb: the verb whose options are parsed.
    """

    def __init__(self, verb: str = "") -> None:
        options: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False, "print_config": None}
        super().__init__(**options, prog=f"python -m ppl_vae {verb}", add_help=False)

    def parse_args(self, args: Sequence[str], *rest: Any, **options: Any) -> Any:  # type: ignore[override]
        """Parse a command line.

        Raises:
            InputError: options are unknown, or their values are not of their type; it has a message for each.
        """
        values, faults = self.parse_all(args, *rest, **options)
        if faults:
            raise InputError(*faults)
        return values

    def parse_all(self, args: Sequence[str], *rest: Any, **options: Any) -> tuple[Any, list[str]]:
        """Parse a command line, and return the values, and a message for each option that is wrong and left out.

        The parser below raises an error for the first fault. The option is left out then, and the others are parsed.
        """
        faults: list[str] = []
        left = self._with_values(underscored(args))
        while True:
            try:
                return super().parse_args(left, *rest, **options), faults
            except (argparse.ArgumentError, jsonargparse.ArgumentError, TypeError) as error:
                messages, wrong = self._read_fault(str(error))
            faults += messages
            fewer = left
            for option in wrong:
                fewer = _without(fewer, option)
            if fewer == left:
                return None, faults
            left = fewer

    def _with_values(self, args: Sequence[str]) -> list[str]:
        """Return the arguments with the value true for an option that is true or false and has no value."""
        given = list(args)
        for place in range(len(given) - 1, -1, -1):
            is_last = place + 1 == len(given) or given[place + 1].startswith("--")
            if is_last and getattr(self._option_string_actions.get(given[place]), "_typehint", None) is bool:
                given.insert(place + 1, "true")
        return given

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error that ``parse_all`` reads; the parser calls this for all that it cannot parse."""
        raise argparse.ArgumentError(None, message)

    def _read_fault(self, message: str) -> tuple[list[str], list[str]]:
        """Return messages of one line about faults, and the options that they are about.

        The messages of argparse and jsonargparse are the only place that names the option and the value, so that the
        most frequent ones are taken apart by their fixed words. Any other message is passed on.
        """
        if message.startswith("unrecognized arguments: "):
            words = message.removeprefix("unrecognized arguments: ").split()
            options = [word.partition("=")[0] for word in words if word.startswith("-")] or words[:1]
            return [self.describe_unknown(option) for option in options], options
        if match := re.match(r"argument (?:.*/)?(--[\w.]+)[^:]*: (.*)", message, re.DOTALL):
            return [_one_line(f"option {hyphenated(match[1])}: {match[2]}")], [match[1]]
        if message.startswith("the following arguments are required: "):
            names = message.removeprefix("the following arguments are required: ").split(", ")
            if of_program := [name for name in names if name.startswith("model.")]:
                return [f"option --{name} is required: the program has no default for it" for name in of_program], []
            return [f"no run folder is given: {self.prog} RUN, the folder that fit wrote"], []
        key, _, reason = message.removeprefix('Parser key "').partition('":')
        action = self._option_string_actions.get(f"--{key}")
        for words_before in ("Given value: ", "Got value: "):
            _, given, value = reason.partition(words_before)
            if action is not None and given:
                expected = describe_type(getattr(action, "_typehint", action.type))
                fault = f"option {hyphenated(f'--{key}')}: expected {expected}, got {_one_line(value)}"
                return [fault], [f"--{key}"]
        if action is not None:
            return [_one_line(f"option {hyphenated(f'--{key}')}: {reason}")], [f"--{key}"]
        return [_one_line(message)], []

    def describe_unknown(self, option: str) -> str:
        """Return a message about an unknown option, with the one that is meant, or the nearest known one."""
        option = hyphenated(option.partition("=")[0])
        if not option.startswith("-"):
            return f"unexpected argument {option!r}: options start with --"
        known = [hyphenated(name) for name in self._option_string_actions if name.startswith("--")]
        meant = hint(option.lstrip("-"))
        if meant is not None and meant.partition(" ")[0] in (*known, "--processes"):
            return f"unknown option {option}: it is {meant} here"
        close = get_close_matches(option, known, n=1, cutoff=0.7)
        return f"unknown option {option}; {f'did you mean {close[0]}? ' if close else ''}--help lists them all"

    def unknown(self, names: Iterable[str]) -> dict[str, str]:
        """Return a message about each name that is no option."""
        return {
            name: self.describe_unknown(f"--{name}") for name in names if f"--{name}" not in self._option_string_actions
        }


def describe_type(kind: Any) -> str:
    """Return what an option expects, in the words of a user.

    Example:
        >>> describe_type(int | None), describe_type(Literal["on", "off"]), describe_type(Sequence[int])
        ('a whole number', 'one of on, off', 'a list such as [3,4]')
    """
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if kind in KINDS or get_origin(kind) in KINDS:
        return KINDS.get(kind) or KINDS[get_origin(kind)]
    kinds = [part for part in get_args(kind) if getattr(part, "__name__", "") not in ("NoneType", "Untyped")]
    return " or ".join(dict.fromkeys(map(describe_type, kinds))) or getattr(kind, "__name__", str(kind))


def split_conditions(parser: Parser, args: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separate the options that a parser has from the others, ``--y 3`` or ``--y=3``.

    Example:
        >>> parser = Parser()
        >>> _ = parser.add_argument("--num_data")
        >>> split_conditions(parser, ["run", "--num-data", "2", "--y", "3"])
        (['run', '--num_data', '2'], {'y': '3'})
    """
    own: list[str] = []
    given: dict[str, str] = {}
    left = iter(underscored(args))
    for arg in left:
        option, equals, value = arg.partition("=")
        if not option.startswith("--") or option in parser._option_string_actions:
            own.append(arg)
        else:
            given[option[2:]] = value if equals else next(left, "")
    return own, given


def _without(args: Sequence[str], option: str) -> list[str]:
    """Return the arguments without an option and its value."""
    left: list[str] = []
    is_value = False
    for arg in args:
        if arg == option or arg.startswith(f"{option}="):
            is_value = arg == option and option.startswith("-")
        elif is_value and not arg.startswith("--"):
            is_value = False
        else:
            is_value = False
            left.append(arg)
    return left


def _one_line(text: str) -> str:
    return " ".join(text.split())
