"""How much is computed at once: as many draws and data as memory allows, whatever the program's networks are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROWS_PER_PASS = 512
"""Data at once, where every datum has few draws."""
NUMBERS_PER_PASS = 2**21
"""Size of the largest tensor of a pass: what a processor's cache holds, or nearly."""


def numbers_per_draw(function: Callable[[int], Any]) -> float:
    """By how much the largest tensor that a function computes grows with each draw.

    It is measured, so that hidden layers, images and enumerated values count as they are.

    Args:
        function: of a number of draws.

    Example:
        >>> numbers_per_draw(lambda k: (torch.ones(k, 5, 3) @ torch.ones(3, 20)).sum())
        100.0
    """
    few, more = _sizes(function, 2), _sizes(function, 4)
    if len(few) != len(more):
        return max(more) / 4
    return max(1.0, *((b - a) / 2 for a, b in zip(few, more, strict=True)))


def _sizes(function: Callable[[int], Any], num_draws: int) -> list[int]:
    with _Sizes() as mode:
        function(num_draws)
    return mode.sizes


class _Sizes(TorchDispatchMode):
    """Notes the size of every tensor that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.sizes += [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return result
