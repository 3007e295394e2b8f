"""What a program and its copies share: their parameter store, and the precision at which they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro

from ppl_vae.program.precision import Precision


class Store:
    """A parameter store of Pyro's, apart from the global one.

    Attributes:
        precision: at which the programs that share it run.
    """

    def __init__(self) -> None:
        self.precision: Precision = "32-true"
        self._state: dict[str, Any] = {"params": {}, "constraints": {}}
        self._entered = False

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Inside, ``pyro.param`` and ``pyro.module`` see this store; inside that, nothing changes."""
        if self._entered:
            yield
            return
        self._entered = True
        try:
            with pyro.get_param_store().scope(self._state):  # type: ignore[arg-type]
                yield
        finally:
            self._entered = False
