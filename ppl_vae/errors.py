"""The errors that a user can cause, each with a message of one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches

MOST_NAMES = 22
"""The largest number of known names that a message lists behind the nearest one."""


class InputError(ValueError):
    """The error for bad input; its message is one line with the fault, its place, the value and the remedy.

    The commands print the message and exit with status 2; in Python it is a ``ValueError``. Only the first line of
    the message is kept, because Pyro adds the shapes of a trace to errors that are raised within it. If several things
    are wrong, each has its message, and a line of the command.

    Attributes:
        messages: a message for each fault.

    Example:
        >>> InputError("no array 'x'\\n Trace Shapes: ...").args
        ("no array 'x'",)
        >>> str(InputError("rate is -1", "no file a.csv"))
        'rate is -1; no file a.csv'
    """

    def __init__(self, *messages: str) -> None:
        self.messages = tuple(dict.fromkeys(message.partition("\n")[0] for message in messages))
        super().__init__("; ".join(self.messages))


def raise_together(checks: Iterable[Callable[[], object]]) -> None:
    """Call functions, and raise the ``InputError`` of all that raise one.

    Args:
        checks: functions without arguments; each raises the error of one fault.
    """
    messages: list[str] = []
    for check in checks:
        try:
            check()
        except InputError as error:
            messages += error.messages
    if messages:
        raise InputError(*messages)


class InputWarning(UserWarning):
    """The warning for input that is used, but not as its author may think; its message is one line.

    The commands print the message on standard error and go on.
    """


class ChangedSinceFit(InputWarning):
    """The warning that a program, its configuration or its data are no longer what a run was fitted with."""


def warn(message: str) -> None:
    """Warn of input that is used, but not as its author may think, once for each message and fit."""
    warnings.warn(message, InputWarning, stacklevel=3)


class Diverged(ArithmeticError):
    """The error for a number that is no longer finite: the loss of a training run, or the weights of a datum."""


def reason(error: BaseException) -> str:
    """Return the type of an error and the first line of its message, as a part of another message.

    Example:
        >>> reason(ValueError("bad shape\\nand much more"))
        'ValueError: bad shape'
    """
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known name, and all of them if that is short.

    Example:
        >>> nearest("mnits", ["digits", "mnist"])
        "did you mean 'mnist'? (known: digits, mnist)"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if hint:
        return f"{hint}(known: {', '.join(names)})" if len(names) <= MOST_NAMES else hint.strip()
    return f"known: {', '.join(names)}"
