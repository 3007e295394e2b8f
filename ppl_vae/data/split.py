"""Random numbers by seed and purpose, and random splits of rows into parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from ppl_vae.data.source import NamedArrays
from ppl_vae.data.stored import StoredRows
from ppl_vae.errors import InputError

Part = Literal["train", "valid", "test"]
PARTS: tuple[str, ...] = get_args(Part)

# Streams 0, 1 and 2 are those of the parts (one Bernoulli draw each), by their position in PARTS.
SPLIT_STREAM = 3
SUBSET_STREAM = 4
HOLD_OUT_STREAM = 5

# SeedSequence([seed, 0]) equals SeedSequence(seed). Without this number, the draws of train would be the numbers
# of default_rng(seed), and grey values simulated with the same seed would give bits that are all 0.
NAMESPACE = 0x70706C76

MIN_ROWS = 10
MOST_BLOCKS = 2**14
"""The largest number of blocks of rows on disk that are dealt to parts."""


def generator(seed: int, stream: int) -> np.random.Generator:
    """Return a separate generator for each seed and purpose; the global state of NumPy does not change.

    Raises:
        InputError: if the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}: expected a whole number, 0 or larger")
    return np.random.default_rng(np.random.SeedSequence([seed, stream, NAMESPACE]))


def split_rows(
    num_rows: int, shares: Sequence[int], seed: int, where: str, *, most_blocks: int | None = None
) -> list[np.ndarray]:
    """Split rows at random into disjoint parts that cover them all.

    Args:
        num_rows: the number of rows, ``N``.
        shares: relative size of each part, such as ``(80, 10, 10)``.
        seed: seed of the split.
        where: name of the data, for messages.
        most_blocks: see ``split_ranges``.

    Returns:
        The indices of the rows of each part, in ascending order.

    Raises:
        InputError: if there are fewer than 10 rows.

    Example:
        >>> [len(rows) for rows in split_rows(1797, (70, 10, 20), seed=0, where="digits")]
        [1257, 180, 360]
    """
    ranges = split_ranges(num_rows, shares, seed, where, most_blocks=most_blocks)
    return [np.concatenate([np.arange(start, stop) for start, stop in part]) for part in ranges]


def split_ranges(
    num_rows: int, shares: Sequence[int], seed: int, where: str, *, most_blocks: int | None = None
) -> list[np.ndarray]:
    r"""Split rows at random into disjoint parts that cover them all, as ranges of rows and not as copies.

    The rows are cut into blocks of :math:`b = \lceil N / \text{most\_blocks} \rceil` neighbouring rows, which are dealt
    to the parts by a permutation of the blocks. If there are fewer rows than blocks, a block is one row. Memory grows
    with the number of blocks and not with ``N``.

    Args:
        num_rows: the number of rows, ``N``.
        shares: relative size of each part, such as ``(80, 10, 10)``.
        seed: seed of the split.
        where: name of the data, for messages.
        most_blocks: the largest number of blocks; None makes every row a block.

    Returns:
        For each part the first row and the end of each of its ranges, ``(R, 2)``, in ascending order.

    Raises:
        InputError: if there are fewer than 10 rows.

    Example:
        >>> [part.tolist() for part in split_ranges(100, (80, 20), seed=0, where="toy", most_blocks=10)]
        [[[0, 50], [60, 80], [90, 100]], [[50, 60], [80, 90]]]
    """
    if num_rows < MIN_ROWS:
        raise InputError(
            f"{where}: {num_rows} rows are too few to split (at least {MIN_ROWS}): "
            "add rows, or give x_train, x_valid and x_test in an .npz file"
        )
    blocks = min(num_rows, most_blocks or num_rows)
    blocks = -(-num_rows // -(-num_rows // blocks))
    return _deal(num_rows, blocks, np.cumsum(shares)[:-1] * blocks // sum(shares), generator(seed, SPLIT_STREAM))


def _deal(
    num_rows: int, blocks: int, cuts: Sequence[int] | np.ndarray, random: np.random.Generator
) -> list[np.ndarray]:
    """Deal blocks of rows to parts at random; each part is its ranges of rows in ascending order."""
    size, parts = -(-num_rows // blocks), []
    for part in np.split(random.permutation(-(-num_rows // size)), cuts):
        part.sort()
        first = np.flatnonzero(np.diff(part, prepend=-2) != 1)
        last = np.append(first[1:], len(part)) - 1
        parts.append(np.stack([part[first] * size, np.minimum((part[last] + 1) * size, num_rows)], 1))
    return parts


def hold_out(
    arrays: Mapping[str, Any], fraction: float, seed: int
) -> tuple[NamedArrays | StoredRows, NamedArrays | StoredRows | None]:
    """Split off some rows, drawn at random, for validation.

    Rows on disk are dealt in at most 16,384 blocks of neighbouring rows, and stay in their order.

    Args:
        arrays: arrays of shape ``(N, ...)`` by name.
        fraction: share of the rows, 0 or more and less than 1.
        seed: seed of the choice of rows.

    Returns:
        The rows to train on and those held out; None instead of these if the share is less than half a row.

    Example:
        >>> train, valid = hold_out({"y": np.arange(10)}, 0.2, seed=0)
        >>> len(train["y"]), len(valid["y"]), sorted([*train["y"].tolist(), *valid["y"].tolist()]) == list(range(10))
        (8, 2, True)
    """
    total = len(next(iter(arrays.values())))
    if isinstance(arrays, StoredRows):
        blocks = min(total, MOST_BLOCKS)
        held = round(fraction * blocks)
        if held == 0:
            return arrays, None
        rest, chosen = _deal(total, blocks, [blocks - held], generator(seed, HOLD_OUT_STREAM))
        return StoredRows(arrays, rest), StoredRows(arrays, chosen)
    held = round(fraction * total)
    if held == 0:
        return NamedArrays(arrays), None
    order = generator(seed, HOLD_OUT_STREAM).permutation(total)
    named = NamedArrays(arrays)
    return named.rows(order[held:]), named.rows(order[:held])
