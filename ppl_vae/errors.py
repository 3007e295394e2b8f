"""The errors that a user can cause, each told in one line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input: its message is one line with what is wrong, where, the value, and the remedy.

    The commands print the message and exit with status 2; in Python it is a ``ValueError``. Only the first line is
    kept: Pyro adds the shapes of a trace to what is raised within it.

    Example:
        >>> InputError("no array 'x'\\n Trace Shapes: ...").args
        ("no array 'x'",)
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.partition("\n")[0])


class Diverged(ArithmeticError):
    """A number is no longer finite: the loss of a training run, or a datum's weights. Says where."""


def reason(error: BaseException) -> str:
    """What somebody else's error says, in the one line that a message of ours has room for.

    Example:
        >>> reason(ValueError("bad shape\\nand much more"))
        'ValueError: bad shape'
    """
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, then all of them.

    Example:
        >>> nearest("mnits", ["digits", "mnist"])
        "did you mean 'mnist'? (known: digits, mnist)"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}(known: {', '.join(names)})" if hint else f"known: {', '.join(names)}"
