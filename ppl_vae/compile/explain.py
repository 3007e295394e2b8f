"""Errors that explain why a function cannot be traced: the statement at fault, and the reason."""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ppl_vae.compile import private
from ppl_vae.errors import reason


class Untraceable(Exception):
    """The error for a function that is not a graph of tensor operations; it names the statement at fault."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors of a block into an ``Untraceable`` that names the statement at fault."""
    try:
        yield
    except Untraceable:
        raise
    except Exception as error:
        reads_value = (
            isinstance(error, private.value_errors()) or "data-dependent" in str(error) or ".numpy()" in str(error)
        )
        why = "Python looks at the value of a tensor" if reads_value else reason(error)
        raise Untraceable(f"{_statement(error)}: {why}") from error


def _statement(error: Exception) -> str:
    """Return the innermost statement of the user: outside of libraries and of this package, apart from its models."""
    libraries = {Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "purelib", "platlib")}
    package = Path(__file__).resolve().parents[1]
    libraries.add(Path(torch.__file__).resolve().parents[1])
    innermost = None
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename).resolve()
        within = package in path.parents and package / "models" not in path.parents
        if (
            not within
            and not frame.filename.startswith("<")
            and not any(library in path.parents for library in libraries)
        ):
            innermost = frame
    if innermost is None:
        return "an operation of a library"
    line = linecache.getline(innermost.filename, innermost.lineno or 0).strip() or innermost.line
    return f"line {innermost.lineno} of {Path(innermost.filename).name}, `{line}`"
