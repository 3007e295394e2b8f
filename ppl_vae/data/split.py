"""Random numbers by seed and purpose, and random splits of rows into parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from ppl_vae.data.source import NamedArrays
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


def generator(seed: int, stream: int) -> np.random.Generator:
    """Return a separate generator for each seed and purpose; the global state of NumPy does not change.

    Raises:
        InputError: if the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}: expected a whole number, 0 or larger")
    return np.random.default_rng(np.random.SeedSequence([seed, stream, NAMESPACE]))


def split_rows(num_rows: int, shares: Sequence[int], seed: int, where: str) -> list[np.ndarray]:
    """Split rows at random into disjoint parts that cover them all.

    Args:
        num_rows: the number of rows, ``N``.
        shares: relative size of each part, such as ``(80, 10, 10)``.
        seed: seed of the split.
        where: name of the data, for messages.

    Returns:
        The indices of the rows of each part, in ascending order.

    Raises:
        InputError: if there are fewer than 10 rows.

    Example:
        >>> [len(rows) for rows in split_rows(1797, (70, 10, 20), seed=0, where="digits")]
        [1257, 180, 360]
    """
    if num_rows < MIN_ROWS:
        raise InputError(
            f"{where}: {num_rows} rows are too few to split (at least {MIN_ROWS}): "
            "add rows, or give x_train, x_valid and x_test in an .npz file"
        )
    cuts = np.cumsum(shares)[:-1] * num_rows // sum(shares)
    order = generator(seed, SPLIT_STREAM).permutation(num_rows)
    return [np.sort(rows) for rows in np.split(order, cuts)]


def hold_out(arrays: Mapping[str, np.ndarray], fraction: float, seed: int) -> tuple[NamedArrays, NamedArrays | None]:
    """Split off some rows, drawn at random, for validation.

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
    held = round(fraction * total)
    if held == 0:
        return NamedArrays(arrays), None
    order = generator(seed, HOLD_OUT_STREAM).permutation(total)
    named = NamedArrays(arrays)
    return named.rows(order[held:]), named.rows(order[:held])
