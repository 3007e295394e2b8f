"""The garbage collector, which has nothing to do while a compiler is imported or at work."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Run a block without the garbage collector, which takes a fifth of a compilation whose kernels are in the cache.

    Compilers and their imports make many objects. Nearly all of these stay, so that searching them finds nothing.

    Example:
        >>> with without_collection():
        ...     gc.isenabled()
        False
        >>> gc.isenabled()
        True
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
