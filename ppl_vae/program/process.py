"""The state that all programs of a process share: one lock, and torch's random generator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

LOCK = threading.RLock()
"""Held while a program runs. Pyro's handler stack and its parameter store, torch's random generator, its default dtype
and the precision of its matrix products belong to the process, so that two threads must take turns."""


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed torch's global generator, from which Pyro draws, and leave it as it was afterwards.

    With None the generator goes on from its current state, and is set back all the same. The lock of the process is
    held inside the block, and is taken before the state of the generator is read.

    Example:
        >>> with seeded(3):
        ...     a = torch.rand(())
        >>> with seeded(3):
        ...     bool(a == torch.rand(()))
        True
    """
    with LOCK:
        devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices):
            if seed is not None:
                torch.manual_seed(seed)
            yield
