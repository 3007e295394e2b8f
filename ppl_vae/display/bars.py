"""Bars that show how far long work has come, on a terminal and in a notebook."""

from __future__ import annotations

import sys
import time
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
    """Show the progress of work inside the block, or do not; a block that hides it also hides that of blocks in it.

    Example:
        >>> with verbose(False), verbose(True):
        ...     is_verbose()
        False
    """
    token = _SHOWN.set(is_shown and _SHOWN.get())
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


def make_bar(name: str, total: int, unit: str, *, delay: float = 0.0, **options: Any) -> Any:
    """Make a bar with the rate and the time left, which its caller closes.

    Args:
        name: the name of the work.
        total: the number of units.
        unit: what is counted.
        delay: seconds after which the bar appears.
        options: further options of ``tqdm``.
    """
    from tqdm.auto import tqdm  # by need: it takes a notebook's widgets if it is in one

    if not (is_verbose() and is_watched()):
        options["disable"] = True  # else it is left to tqdm, whose variable TQDM_DISABLE hides all bars
    return tqdm(
        desc=name or None,
        total=total,
        delay=delay,
        leave=in_notebook(),
        unit_scale=True,
        unit=f" {unit}" if unit == "data" else unit,
        **options,
    )


@contextmanager
def progress_bar(name: str, total: int, unit: str = "draw") -> Iterator[Any]:
    """Show a bar inside the block if the work takes longer than a moment.

    In a notebook, whose bars are not saved with it, a plain line about the work follows the bar.

    Args:
        name: the name of the work.
        total: the number of units.
        unit: what is counted.
    """
    started = time.perf_counter()
    with make_bar(name, total, unit, delay=AFTER_SECONDS) as bar:
        remains = in_notebook() and not bar.disable
        yield bar
    seconds = time.perf_counter() - started
    if remains and seconds > AFTER_SECONDS:
        print(last_line(name, total, unit, seconds), file=sys.stderr)


def last_line(name: str, count: int, unit: str, seconds: float) -> str:
    """Return what remains of a bar: the work, the number of units, the time, and the rate.

    Example:
        >>> last_line("impute", 1000, "datum", 4.0), last_line("check", 10, "check", 40.0)
        ('impute: 1,000 data in 4.0 s, 250 per second', 'check: 10 checks in 40.0 s')
    """
    units = {"datum": "data"}.get(unit, f"{unit}s") if count != 1 else unit
    rate = count / seconds
    return f"{name}: {count:,} {units} in {seconds:.1f} s" + (f", {rate:,.0f} per second" if rate >= 1 else "")


@contextmanager
def doing(what: str) -> Iterator[None]:
    """State the work inside the block, such as the compilation of a graph, for the report of progress."""
    _DOING.append(what)
    try:
        yield
    finally:
        _DOING.remove(what)


def current_work() -> str:
    """Return the work that ``doing`` states at the moment, or an empty text.

    Example:
        >>> with doing("compiling the step"):
        ...     current_work()
        'compiling the step'
    """
    return _DOING[-1] if _DOING else ""
