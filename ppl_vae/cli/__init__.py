"""The command line: one verb a file, and what the verbs share. This module needs no PyTorch."""

from __future__ import annotations

import ast
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from textwrap import fill

import ppl_vae
from ppl_vae.compile.collection import without_collection
from ppl_vae.errors import InputError, nearest

FIRST, LAST = ("fit", "evaluate", "check", "gap", "compare"), ("report",)
"""The verbs that come before the uses of a fit, and after them."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the verb that the first argument names, or list the verbs; return the exit status.

    Args:
        args: the arguments of the command line; those of the process by default.
    """
    verb, *options = (sys.argv[1:] if args is None else args) or ["--help"]
    if verb in list_verbs() and {"-h", "--help", "--model.help", "--version"}.isdisjoint(options):
        return _run(verb, options)
    try:
        status = _describe(verb, options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


def _describe(verb: str, options: list[str]) -> int:
    """Print versions, the verbs, or the help of one; an unknown verb is an error."""
    verbs = list_verbs()
    if verb in ("-h", "--help"):
        print("usage: python -m ppl_vae VERB [options]\n\nThe verbs, also available as ppl-vae VERB:")
        for name in verbs:
            print(fill(describe_verb(name), 80, initial_indent=f"  {name:<12} ", subsequent_indent=" " * 15))
        print("\npython -m ppl_vae VERB --help lists its options; --version its version.")
        return 0
    if "--version" in (verb, *options):
        print(versions())
        return 0
    if verb not in verbs:
        print(f"error: unknown verb {verb!r}; {nearest(verb, verbs)}", file=sys.stderr)
        return 2
    try:
        print(importlib.import_module("ppl_vae.cli.help").write_help(verb, options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(verb: str, options: list[str]) -> int:
    importlib.import_module("ppl_vae.cli.process")  # sets up the process, before the next lines import PyTorch
    if "torch" in sys.modules:
        return importlib.import_module("ppl_vae.cli.command").run_verb(verb, options)
    with without_collection():  # what an import makes stays; looking for garbage in it takes a tenth of the time
        command = importlib.import_module("ppl_vae.cli.command")
        importlib.import_module(f"ppl_vae.cli.{verb}")
        gc.freeze()
    return command.run_verb(verb, options)


def versions() -> str:
    """Return the versions of this package, of Python and of the libraries that decide the numbers, in one line."""
    libraries = {name: version(distribution) for name, distribution in (("PyTorch", "torch"), ("Pyro", "pyro-ppl"))}
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    return f"ppl-vae {ppl_vae.__version__} ({', '.join([python, *(f'{k} {v}' for k, v in libraries.items())])})"


def list_verbs() -> list[str]:
    """Return the names of the verbs: a file of this package that defines a function of its own name is a verb."""
    paths = [path for folder in __path__ for path in Path(folder).glob("*.py")]
    names = {path.stem for path in paths if f"\ndef {path.stem}(" in path.read_text()}
    return [*FIRST, *sorted(names - {*FIRST, *LAST}), *LAST]


def describe_verb(verb: str) -> str:
    """Return the first line of the docstring of a verb's function.

    The file is parsed and not imported, so that help needs no PyTorch. The sentence about a use of a fit is that of its
    function in ``ppl_vae.uses``.
    """
    files = (Path(cli).with_name(room) / f"{verb}.py" for cli in __path__ for room in ("uses", "cli"))
    nodes = ast.parse(next(path for path in files if path.is_file()).read_text()).body
    return first_line(next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == verb))


def first_line(function: ast.FunctionDef) -> str:
    """Return the first line of the docstring of a function that was parsed; empty if it has none."""
    return (ast.get_docstring(function) or "").partition("\n")[0]
