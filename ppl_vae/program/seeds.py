"""Random numbers that leave the caller's generators as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Pyro draws from torch's global generator: seed it inside the block, and leave it as it was.

    With None it goes on from where it is, and is set back all the same.

    Example:
        >>> with seeded(3):
        ...     a = torch.rand(())
        >>> with seeded(3):
        ...     bool(a == torch.rand(()))
        True
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        if seed is not None:
            torch.manual_seed(seed)
        yield
