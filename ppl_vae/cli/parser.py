"""A parser of options in either spelling, which reports bad input in one line."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

import jsonargparse

from ppl_vae.errors import InputError

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


TRUST_HELP = "execute a program file that a configuration names inside its run folder, or outside the working tree, too"


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """A formatter of help that states types in the words of a user, and the default of an option once."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if getattr(action, "_jsonargparse_preexpanded_help", False):
            return action.help or ""
        text, kind = action.help or "", describe_type(getattr(action, "_typehint", action.type))
        facts = [] if kind == "None" or str(action.metavar).startswith("{") else [kind]  # braces name the choices
        is_stated = "default" in text.lower() or (action.default is None and "null" not in text)
        if action.required:
            facts += ["required"]
        elif not is_stated and action.nargs != 0 and action.default != argparse.SUPPRESS:
            facts += [f"default: {write_value(action.default)}"]
        return f"{text} ({'; '.join(facts)})" if facts else text

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(jsonargparse.ArgumentParser):
    """A parser whose options may be written with hyphens or underscores, and whose errors are one line.

    Args:
        verb: the verb whose options are parsed.
        description: what the verb does.
    """

    def __init__(self, verb: str = "", description: str = "") -> None:
        options: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False, "print_config": None}
        options |= {"prog": f"python -m ppl_vae {verb}", "description": description, "formatter_class": HelpFormatter}
        super().__init__(**options)

    def parse_args(self, args: Sequence[str], *rest: Any, **options: Any) -> Any:  # type: ignore[override]
        """Parse a command line.

        Raises:
            InputError: an option is unknown, or a value is not one of its type.
        """
        try:
            return super().parse_args(self._with_values(underscored(args)), *rest, **options)
        except (argparse.ArgumentError, jsonargparse.ArgumentError, TypeError) as error:
            self.error(str(error), error)

    def _with_values(self, args: Sequence[str]) -> list[str]:
        """Return the arguments with the value true for an option that is true or false and has no value."""
        given = list(args)
        for place in range(len(given) - 1, -1, -1):
            is_last = place + 1 == len(given) or given[place + 1].startswith("--")
            if is_last and getattr(self._option_string_actions.get(given[place]), "_typehint", None) is bool:
                given.insert(place + 1, "true")
        return given

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an ``InputError`` in one line; the parser calls this for all that it cannot parse.

        The messages of argparse and jsonargparse are the only place that names the option and the value, so that the
        two most frequent ones are taken apart by their fixed words. Any other message is passed on.
        """
        if message.startswith("unrecognized arguments: "):
            self.refuse((message.removeprefix("unrecognized arguments: ").split() or [""])[0])
        key, _, reason = message.removeprefix('Parser key "').partition('":')
        action = self._option_string_actions.get(f"--{key}")
        for words in ("Got value: ", "Given value: "):
            _, given, value = reason.partition(words)
            if action is not None and given:
                expected = describe_type(getattr(action, "_typehint", action.type))
                raise InputError(f"option {hyphenated(f'--{key}')}: expected {expected}, got {_one_line(value)}")
        raise InputError(_one_line(f"option {hyphenated(f'--{key}')}: {reason}" if action else message))

    def refuse(self, option: str) -> NoReturn:
        """Raise an ``InputError`` for an unknown option, with the nearest known one."""
        option = hyphenated(option.partition("=")[0])
        if not option.startswith("-"):
            raise InputError(f"unexpected argument {option!r}: options start with --")
        known = [hyphenated(name) for name in self._option_string_actions if name.startswith("--")]
        close = get_close_matches(option, known, n=1, cutoff=0.7)
        raise InputError(
            f"unknown option {option}; {f'did you mean {close[0]}? ' if close else ''}--help lists them all"
        )

    def require(self, names: Iterable[str]) -> None:
        """Check that every name is an option, as ``refuse`` reports it."""
        for name in names:
            if f"--{name}" not in self._option_string_actions:
                self.refuse(f"--{name}")

    def format_help(self, *args: Any) -> str:
        """Return the help, with options as they are usually written, and without the marks of code in docstrings."""
        for action in self._actions:
            # jsonargparse's own additions for lists and classes are left out: --hidden+ and --likelihood.help
            action.option_strings = [hyphenated(name) for name in action.option_strings if not name.endswith("+")]
            action.help = argparse.SUPPRESS if action.dest.endswith(".help") else action.help
        return super().format_help(*args).replace("``", "")


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


def write_value(value: Any) -> str:
    """Return a value as a user writes it on the command line or in a configuration file.

    Example:
        >>> write_value(None), write_value(False), write_value((256, 64)), write_value("vae")
        ('null', 'false', '[256,64]', 'vae')
    """
    plain = list(value) if isinstance(value, tuple) else value
    return value if isinstance(value, str) else json.dumps(plain, separators=(",", ":"), default=str)


def underscored(args: Sequence[str]) -> list[str]:
    """Return the arguments with option names as in Python, with underscores; values are left alone.

    Example:
        >>> underscored(["--max-epochs", "3", "--output=a-b", "--model.latent-dim", "2"])
        ['--max_epochs', '3', '--output=a-b', '--model.latent_dim', '2']
    """

    def name(arg: str) -> str:
        option, equals, value = arg.partition("=")
        return "--" + option[2:].replace("-", "_") + equals + value

    return [name(arg) if arg.startswith("--") and len(arg) > 2 else arg for arg in args]


def hyphenated(option: str) -> str:
    """Return an option as it is usually written.

    Example:
        >>> hyphenated("--max_epochs"), hyphenated("--model.latent_dim")
        ('--max-epochs', '--model.latent_dim')
    """
    head, dot, tail = option.partition(".")
    return head.replace("_", "-") + dot + tail


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


def _one_line(text: str) -> str:
    return " ".join(text.split())
