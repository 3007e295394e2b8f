"""What the verbs' command lines share: options in either spelling, and bad input in one line."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import jsonargparse
import torch

from ppl_vae.errors import Diverged, InputError


class Parser(jsonargparse.ArgumentParser):
    """A parser whose options may be written with hyphens or underscores, and whose errors are one line.

    Args:
        model_help: the help of ``--model``, an option that is read before the parser can be made.
    """

    def __init__(self, *args: Any, model_help: str = "", **options: Any) -> None:
        super().__init__(*args, exit_on_error=False, allow_abbrev=False, **options)
        self._model_help = model_help

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:  # type: ignore[override]
        """Parse; raises ``InputError`` for what cannot be parsed."""
        try:
            return super().parse_args(underscored(sys.argv[1:] if args is None else args), *rest, **options)
        except (argparse.ArgumentError, jsonargparse.ArgumentError, TypeError) as error:
            self._fail(str(error))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Called by argparse; raises ``InputError`` in place of printing the usage."""
        self._fail(message)

    def format_help(self, *args: Any) -> str:
        """The help, with options as they are usually written."""
        text = re.sub(r"--(\w+)", lambda match: match.group(0).replace("_", "-"), super().format_help(*args))
        text = text.replace("[--model CONFIG]", "[--model MODEL]")
        return re.sub(r"--model CONFIG\s+Path to a configuration file\.", f"--model MODEL {self._model_help}", text)

    def _fail(self, message: str) -> NoReturn:
        if unknown := re.search(r"unrecognized arguments: (\S+)", message, re.IGNORECASE):
            option = unknown.group(1).split("=")[0]
            if not option.startswith("-"):
                raise InputError(f"unexpected argument {option!r}: options start with --")
            known = [_hyphenated(name) for name in self._option_string_actions if name.startswith("--")]
            close = get_close_matches(_hyphenated(option), known, n=1, cutoff=0.7)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(f"unknown option {_hyphenated(option)}; {hint}--help lists them all")
        if bad := re.search(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL):
            key, reason = bad.groups()
            raise InputError(f"option {_hyphenated('--' + key)}: {_one_line(reason)}")
        raise InputError(_one_line(message))


def underscored(args: Sequence[str]) -> list[str]:
    """Option names with underscores, as in Python; values are left alone.

    Example:
        >>> underscored(["--max-epochs", "3", "--output=a-b", "--model.latent-dim", "2"])
        ['--max_epochs', '3', '--output=a-b', '--model.latent_dim', '2']
    """

    def name(arg: str) -> str:
        option, equals, value = arg.partition("=")
        return "--" + option[2:].replace("-", "_") + equals + value

    return [name(arg) if arg.startswith("--") and len(arg) > 2 else arg for arg in args]


def split_conditions(parser: Parser, args: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Options that a parser does not have, ``--y 3`` or ``--y=3``, apart from those that it has.

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


def command(verb: Callable[[Sequence[str]], None], args: Sequence[str] | None = None) -> int:
    """Run a verb as a command: 0 is success; 2 is bad input, one line on standard error.

    On a CPU it lets fp32 matrix products run at the precision "medium" where that is as exact; on a GPU it would round
    to ten bits, which an estimate of the evidence cannot afford.
    """
    precision = torch.get_float32_matmul_precision()
    if not torch.cuda.is_available() and medium_is_exact():
        torch.set_float32_matmul_precision("medium")
    try:
        verb(sys.argv[1:] if args is None else args)
    except (InputError, Diverged) as error:
        print(f"error: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror or error}{where}: look at the disk and its permissions", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    finally:
        torch.set_float32_matmul_precision(precision)
    return 0


def medium_is_exact() -> bool:
    """Whether fp32 matrix products at the precision "medium" are fp32 on this processor: it is measured.

    oneDNN may round their factors to bfloat16 then, and does so where that is faster, with AMX. On AVX-512 without it
    the products stay what they were, and are nearly twice as fast.
    """
    before, generator = torch.get_float32_matmul_precision(), torch.Generator().manual_seed(0)
    a, b = torch.randn(256, 512, generator=generator), torch.randn(512, 256, generator=generator)
    try:
        torch.set_float32_matmul_precision("medium")
        off = ((a @ b).double() - a.double() @ b.double()).abs().max()
    finally:
        torch.set_float32_matmul_precision(before)
    return float(off) < 1e-3  # rounded factors: 0.1


def _hyphenated(option: str) -> str:
    head, dot, tail = option.partition(".")
    return head.replace("_", "-") + dot + tail


def _one_line(text: str) -> str:
    """Text in one line; jsonargparse's account of a value that has the wrong type in the words of a user."""
    expected = re.search(r"Expected an? (.+?)(?:\.\s|\s+- |\s+Given|\n|$)", text, re.DOTALL)
    value = re.search(r"(?:Given value|Got value): (.*)", text, re.DOTALL)
    if not expected or not value:
        return " ".join(text.split())
    kind = re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.(\w)", lambda m: m.group(1) or m.group(2), expected.group(1))
    if choices := re.match(r"Literal\[(.+)\]", kind):
        kind = "one of " + choices.group(1).replace("'", "")
    words = {"Sequence": "a list such as [3,4]", "int": "a whole number", "float": "a number", "bool": "true or false"}
    return f"expected {words.get(kind, kind)}, got {' '.join(value.group(1).split())}"
