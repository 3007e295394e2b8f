"""Bars that show how far long work has come, on a terminal and in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

AFTER_SECONDS = 2.0
"""The time after which a bar appears."""
_SHOWN: ContextVar[bool] = ContextVar("shown", default=True)
_DOING: list[str] = []


@contextmanager
def verbose(is_shown: bool) -> Iterator[None]:
    """Show the progress of work inside the block, or do not.

    Example:
        >>> with verbose(False):
        ...     progress_bar("evaluate", 100).disable
        True
    """
    token = _SHOWN.set(is_shown)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def is_verbose() -> bool:
    """Return True unless the progress of work is hidden, see ``verbose``."""
    return _SHOWN.get()


def in_notebook() -> bool:
    """Return True in a notebook, whose output is a page and no terminal."""
    shell = sys.modules.get("IPython")
    current = shell.get_ipython() if shell is not None else None
    return current is not None and hasattr(current, "kernel")


def is_watched() -> bool:
    """Return True if somebody can see a bar: in a notebook, or on a terminal."""
    return in_notebook() or sys.stderr.isatty()


def progress_bar(name: str, total: int, unit: str = "draw", *, delay: float = AFTER_SECONDS, **options: Any) -> Any:
    """Make a bar with the rate and the time left, which appears if the work takes longer than a moment.

    Args:
        name: the name of the work.
        total: the number of units.
        unit: what is counted.
        delay: seconds after which the bar appears.
        options: further options of ``tqdm``.
    """
    from tqdm.auto import tqdm  # by need: it takes a notebook's widgets if it is in one

    disable = not (is_verbose() and is_watched())
    return tqdm(
        desc=name or None,
        total=total,
        disable=disable,
        delay=delay,
        leave=in_notebook(),
        unit_scale=True,
        unit=f" {unit}" if unit == "data" else unit,
        **options,
    )


@contextmanager
def doing(what: str) -> Iterator[None]:
    """State what is done inside the block, such as that a graph compiles, for whoever reports the progress."""
    _DOING.append(what)
    try:
        yield
    finally:
        _DOING.remove(what)


def current_work() -> str:
    """Return what is done at the moment, as ``doing`` states it; empty if nothing is stated.

    Example:
        >>> with doing("compiling the step"):
        ...     current_work()
        'compiling the step'
    """
    return _DOING[-1] if _DOING else ""
