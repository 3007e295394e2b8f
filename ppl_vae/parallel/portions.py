"""The rows that belong to each rank, and the part of every batch that it computes."""

from __future__ import annotations

from typing import NamedTuple

from ppl_vae.errors import InputError


class Portion(NamedTuple):
    """The rows of one rank, and the batches that it makes of them."""

    rows: slice
    """The rows that it owns, a range."""
    batch_size: int
    """The number of its rows in a batch; the last batch may have another number."""
    num_batches: int
    """The number of batches of an epoch, the same for all ranks."""


def portion_of(num_rows: int, batch_size: int, rank: int, size: int) -> Portion:
    """Return the rows and the batches of one of several ranks, which take a step together.

    Each rank owns a range of rows, and the ranges cover all rows in the order of the ranks. In every batch of all ranks
    together each rank has nearly the same number of rows, and at least one: if the last batch would have fewer rows
    than there are ranks, its rows join the batch before. One rank alone has all rows, and batches as usual.

    Args:
        num_rows: the number of rows of all ranks.
        batch_size: the number of rows in a batch of all ranks together.
        rank: the rank, from 0.
        size: the number of ranks.

    Raises:
        InputError: a batch has fewer rows than there are ranks.

    Example:
        >>> [portion_of(11, 4, rank, 2) for rank in range(2)]
        [Portion(rows=slice(0, 6, None), batch_size=2, num_batches=3), Portion(rows=slice(6, 11, None), batch_size=2, \
num_batches=3)]
    """
    for what, number in (("the batch size", batch_size), ("the number of training data", num_rows)):
        if number < size:
            raise InputError(
                f"{what} is {number}, and there are {size} processes: each needs a datum in every batch; start fewer"
            )
    whole, last = divmod(num_rows, batch_size)
    if whole and 0 < last < size:
        whole, last = whole - 1, last + batch_size
    start, stop = (whole * _before(batch_size, end, size) + _before(last, end, size) for end in (rank, rank + 1))
    one = whole if whole else 1
    own = _before(batch_size, rank + 1, size) - _before(batch_size, rank, size)
    return Portion(slice(start, stop), own, one + bool(whole and last))


def part_of(num_rows: int, rank: int, size: int) -> slice:
    """Return the range of rows of one of several ranks, which have nearly the same number of them, or none.

    Example:
        >>> [part_of(3, rank, 2) for rank in range(2)]
        [slice(0, 2, None), slice(2, 3, None)]
    """
    return slice(_before(num_rows, rank, size), _before(num_rows, rank + 1, size))


def _before(number: int, rank: int, size: int) -> int:
    """Return how many of a number of rows the ranks before this one have; the first ranks have one more."""
    each, left = divmod(number, size)
    return rank * each + min(rank, left)
