"""The command line: one verb a file, and what the verbs share. This module needs no PyTorch."""

from __future__ import annotations

import ast
import gc
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ppl_vae.cli.help import print_help
from ppl_vae.errors import nearest

FIRST, LAST = ("fit", "evaluate", "check", "gap", "compare"), ("report",)
"""The verbs that come before the uses of a fit, and after them."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the verb that the first argument names, or list the verbs; return the exit status.

    Args:
        args: the arguments of the command line; those of the process by default.
    """
    verb, *options = (sys.argv[1:] if args is None else args) or ["--help"]
    verbs = list_verbs()
    if verb in ("-h", "--help"):
        print("usage: python -m ppl_vae VERB [options]\n\nThe verbs, also available as ppl-vae VERB:")
        print("\n".join(f"  {name:<12} {describe_verb(name)}" for name in verbs))
        print("\npython -m ppl_vae VERB --help explains the options of a verb.")
        return 0
    if verb not in verbs:
        print(f"error: unknown verb {verb!r}; {nearest(verb, verbs)}", file=sys.stderr)
        return 2
    if options in (["-h"], ["--help"]) and "torch" not in sys.modules:
        print_help(verb, __path__, lambda: _run(verb, options))
        return 0
    return _run(verb, options)


def _run(verb: str, options: list[str]) -> int:
    importlib.import_module("ppl_vae.cli.process")  # sets up the process, before the next lines import PyTorch
    if "torch" in sys.modules:
        return importlib.import_module("ppl_vae.cli.command").run_verb(verb, options)
    gc.disable()  # what an import makes stays; looking for garbage in it takes a tenth of the time
    command = importlib.import_module("ppl_vae.cli.command")
    importlib.import_module(f"ppl_vae.cli.{verb}")
    gc.freeze()
    gc.enable()
    return command.run_verb(verb, options)


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
    function = next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == verb)
    return (ast.get_docstring(function) or "").partition("\n")[0]
