"""Why a function is no graph: the statement at fault, and what it does."""

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
    """A function that is no graph of tensor operations: says which statement is none, and why."""


@contextmanager
def explained() -> Iterator[None]:
    """What goes wrong inside is an ``Untraceable`` that names the statement."""
    try:
        yield
    except Untraceable:
        raise
    except Exception as error:
        looked = isinstance(error, private.value_errors()) or "data-dependent" in str(error) or ".numpy()" in str(error)
        why = "Python looks at the value of a tensor" if looked else reason(error)
        raise Untraceable(f"{_statement(error)}: {why}") from error


def _statement(error: Exception) -> str:
    """The innermost statement of the user's: of a file that is no library's, and no part of this one but a model."""
    libraries = {Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "purelib", "platlib")}
    package = Path(__file__).resolve().parents[1]
    libraries.add(Path(torch.__file__).resolve().parents[1])
    own = None
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename).resolve()
        within = package in path.parents and package / "models" not in path.parents
        if (
            not within
            and not frame.filename.startswith("<")
            and not any(library in path.parents for library in libraries)
        ):
            own = frame
    if own is None:
        return "an operation of a library"
    line = linecache.getline(own.filename, own.lineno or 0).strip() or own.line
    return f"line {own.lineno} of {Path(own.filename).name}, `{line}`"
