"""The rows that belong to a shard of the data, and the seeds of their draws."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ppl_vae.errors import InputError


@dataclass(frozen=True)
class Shard:
    """One of several shares of the data, whose results need no communication.

    A shard is a range of rows that begins and ends between two blocks. What is computed of a block depends on the seed
    and on its place among all data, so that the number of shards changes no number.

    Example:
        >>> [Shard(index, 3).rows(num_rows=1000, block_rows=128) for index in range(3)]
        [range(0, 384), range(384, 768), range(768, 1000)]
        >>> [len(Shard(index, 3).rows(num_rows=100, block_rows=128)) for index in range(3)]
        [100, 0, 0]
    """

    index: int = 0
    """The number of the shard, from 0."""
    count: int = 1
    """The number of shards."""

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def rows(self, num_rows: int, block_rows: int) -> range:
        """Return the rows of the shard: whole blocks, as many as another shard has, or one more, or none."""
        blocks, more = divmod(-(-num_rows // block_rows), self.count)
        first, last = (block_rows * (index * blocks + min(index, more)) for index in (self.index, self.index + 1))
        return range(min(first, num_rows), min(last, num_rows))


WHOLE = Shard()
"""The only shard of data that are not shared out."""


class RowSpan(NamedTuple):
    """The place of some rows among all data of an evaluation."""

    first_row: int = 0
    """The number of the first of these rows."""
    num_data: int | None = None
    """The number of all data; None if these rows are all."""


ALL = RowSpan()
"""The place of rows that are all data."""


def parse_shard(text: str) -> Shard:
    """Return the shard that an option names, counted from 1.

    Example:
        >>> parse_shard("3/16")
        Shard(index=2, count=16)
        >>> parse_shard("0/16")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: --shard 0/16: expected a number from 1 to the number of shards, such as 3/16; ...
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(
            f"--shard {text}: expected a number from 1 to the number of shards, such as 3/16; a SLURM array that "
            f"counts from 1 has --array=1-16"
        )
    return Shard(int(match[1]) - 1, int(match[2]))


def describe_numbers(numbers: Iterable[int]) -> str:
    """Return whole numbers in ascending order as text, with a dash for a run of them.

    Example:
        >>> describe_numbers([1, 3, 4, 5, 9])
        '1, 3-5, 9'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def seed_at(seed: int, row: int, stream: int = 0) -> int:
    """Return the seed of the draws for a batch, which depends on the seed and on the row of the batch's first datum.

    Args:
        seed: the seed of all draws.
        row: the number of the first row of the batch among all data.
        stream: the number of a purpose, whose draws are independent of those for another one.

    Example:
        >>> seed_at(3, row=0), seed_at(3, row=512) == seed_at(3, row=1024)
        (3, False)
    """
    if row == stream == 0:
        return seed
    return int(np.random.SeedSequence((seed % 2**64, row, stream)).generate_state(1, np.uint64)[0] >> 1)
