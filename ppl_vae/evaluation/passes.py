"""The number of draws and data that are computed at once, as memory allows, whatever the program's networks are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch

from ppl_vae.compile.private import TorchDispatchMode, tree_leaves
from ppl_vae.data import Batches
from ppl_vae.networks.recurrence import steps_of
from ppl_vae.parallel import ALL, RowSpan, seed_at
from ppl_vae.program import Batch, seeded

T = TypeVar("T")

ROWS_PER_PASS = 512
"""The number of data at once, if every datum has few draws."""
SEQUENCES_PER_PASS = 32
"""The number of sequences at once, if they are sorted by length and every one has few draws. More of them have more
padding; with fewer, the loops over the steps take longer."""
LEAST_ROWS = 64
"""The least number of data at once, if memory allows, however many draws every datum has: a guide's output for a datum
serves all draws of a pass."""
NUMBERS_PER_PASS = 2**21
"""Size of the largest tensor of a pass: what a processor's cache holds, or nearly."""
MOST_STEPS = 8
"""Largest multiple of that size, if the tensor has the steps of a recurrence. Its loop reads one step at a time, and
takes about as long for a hundred rows as for one; the rest is bounded by memory."""


class Room(NamedTuple):
    """The size of a pass.

    Example:
        >>> Room(numbers=784).draws(num_data=512), Room(numbers=784).rows(num_draws=16)
        (5, 128)
        >>> Room(numbers=784).rows_to_weigh(5000), Room(numbers=10).rows_to_weigh(1000)
        (64, 128)
        >>> Room(numbers=160 * 200, steps=160).rows_to_weigh(1000), Room(numbers=160 * 200, steps=160).draws(1)
        (1, 524)
    """

    numbers: float
    """Numbers of the largest tensor, per draw and datum."""
    steps: int = 1
    """Steps of the longest recurrence; 1 if there is none."""

    def draws(self, num_data: int, share: float = 1.0) -> int:
        """Return the number of draws at once, for each of a number of data.

        Args:
            num_data: the number of data.
            share: the size of a datum, as a share of the size of those that were measured.
        """
        return max(1, int(self._most / (self.numbers * share * num_data)))

    def rows(self, num_draws: int = 1) -> int:
        """Return the number of data at once, with a number of draws each: a power of two.

        Batches of two sizes end at the same rows then, so that one range of rows can have whole batches of both.
        """
        most = max(1, min(ROWS_PER_PASS, int(self._most / (self.numbers * max(1, num_draws)))))
        return 1 << (most.bit_length() - 1)

    def rows_to_weigh(self, num_draws: int) -> int:
        """Return the number of data whose draws are computed pass by pass: the fewest that fill a pass.

        Sequences are padded to the longest of them, so that fewer at once have less padding.
        """
        least = LEAST_ROWS if self.steps == 1 else 1
        return min(self.rows(), max(least, self.rows(num_draws)))

    @property
    def _most(self) -> int:
        return NUMBERS_PER_PASS * min(self.steps, MOST_STEPS)


@torch.no_grad()
def room_for(function: Callable[[int], Any], num_data: int) -> Room:
    """Measure the room that a function of a number of draws takes; random generators stay as they are."""
    with seeded(None), _Sizes() as mode:
        return Room(numbers_per_draw(function) / num_data, mode.steps)


def numbers_per_draw(function: Callable[[int], Any]) -> float:
    """Measure the growth of the largest tensor that a function computes with each draw.

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


def passes(num_draws: int, at_once: int) -> list[int]:
    """Split a number of draws into passes with at most ``at_once`` draws.

    Example:
        >>> passes(7, 3)
        [3, 3, 1]
    """
    return [min(at_once, num_draws - done) for done in range(0, num_draws, at_once)]


def apply_to_each(
    function: Callable[[Batch], T], batches: Batches, rows: int, seed: int, place: RowSpan = ALL
) -> list[T]:
    """Apply a function that draws to one batch of data after the other.

    The draws of a batch depend on the seed and on the place of the batch among all data.

    Args:
        function: the function of a batch.
        batches: the data.
        rows: the number of data at once.
        seed: the seed of all draws.
        place: the place of the data among all data.

    Returns:
        The function's values, one for every batch.
    """
    values, row = [], place.first_row
    for batch in batches.in_order(batch_size=rows):
        with seeded(seed_at(seed, row)):
            values.append(function(batch))
        row += len(batch[0])
    return values


def visits(sizes: Iterable[Mapping[int, int]], num_epochs: int) -> dict[int, int]:
    """Count the visits of batches by their number of rows, given the sizes of the batches of each part.

    Example:
        >>> visits([{64: 3, 7: 1}, {64: 1}], num_epochs=10)
        {64: 40, 7: 10}
    """
    total: dict[int, int] = {}
    for part in sizes:
        for rows, times in part.items():
            total[rows] = total.get(rows, 0) + times * num_epochs
    return total


def _sizes(function: Callable[[int], Any], num_draws: int) -> list[int]:
    with _Sizes() as mode:
        function(num_draws)
    return mode.sizes


class _Sizes(TorchDispatchMode):
    """A record of the size of every tensor that is computed, and of the steps of the longest recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes, self.steps = [1], 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.steps = max(self.steps, steps_of(func, args))
        result = func(*args, **(kwargs or {}))
        self.sizes += [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return result
