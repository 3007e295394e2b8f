"""The work of a function: counts of operations and bytes, from which follows what a graph of it would save."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from torch import Tensor

from ppl_vae.compile.private import TorchDispatchMode, tree_leaves

SECONDS_PER_OPERATION = 25e-6
"""Seconds that a graph of a training step saves for each operation of one run of its program: Pyro and Python take them
for the operation, its gradient and the update. Measured are 25 to 40 microseconds on three processors."""
SECONDS_PER_BYTE = 5e-11
"""Seconds that it saves for each byte that such a run writes, because fused loops do not write them to memory."""


class WorkCount(NamedTuple):
    """The work of a function.

    Example:
        >>> round(WorkCount(operations=70, bytes=600_000).saved, 6)
        0.00178
    """

    operations: int
    """The number of operations of PyTorch."""
    bytes: int
    """The bytes of their results."""

    @property
    def saved(self) -> float:
        """Seconds that a graph of a training step saves in each call, if this is the work of a run of its program.

        They follow from counts and not from a clock, so that the choice is the same in each run.
        """
        return self.operations * SECONDS_PER_OPERATION + self.bytes * SECONDS_PER_BYTE


class CountedWork(TorchDispatchMode):
    """A block whose work is counted.

    Example:
        >>> import torch
        >>> with CountedWork() as counted:
        ...     total = (torch.ones(3) + 1).sum()
        >>> counted.work
        WorkCount(operations=3, bytes=28)
    """

    def __init__(self) -> None:
        super().__init__()
        self.work = WorkCount(0, 0)

    def __enter__(self) -> Self:
        """Begin to count."""
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        written = sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        self.work = WorkCount(self.work.operations + 1, self.work.bytes + written)
        return result
