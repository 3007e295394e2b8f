"""Numbers at the precision of a program; a number that this precision cannot hold is refused."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.sparse import SparseRows, SparseTensor
from ppl_vae.errors import InputError

MOST_ROUNDING = 1e-3
"""The largest rounding of a real number that is accepted, as a share of the standard deviation of its column."""
NUMBERS_AT_ONCE = 1 << 22
REMEDY = "take --precision 64-true"


def check_numeric_type(where: str, dtype: np.dtype) -> None:
    """Raise ``InputError`` if a type is not one of Booleans, whole or real numbers."""
    if dtype.kind not in "biuf":
        raise InputError(f"{where} has dtype {dtype}: expected numbers, so convert or remove it")


def to_native(where: str, values: Any, row: int = 0) -> Any:
    """Return numbers in a type that both NumPy and PyTorch have, each with its value.

    Booleans, bytes, float32 and float64 stay as they are; other whole numbers become int64, float16 becomes float32.

    Args:
        where: name of the array, for messages.
        values: the array.
        row: number of its first row, for messages.

    Raises:
        InputError: if a whole number is larger than int64 can hold.

    Example:
        >>> [to_native("x", np.ones(2, dtype)).dtype.name for dtype in (">f8", "f2", "u2", "u1", bool)]
        ['float64', 'float32', 'int64', 'uint8', 'bool']
    """
    if isinstance(values, SparseRows):
        return values.with_data(to_native(where, values.data))
    if values.dtype.kind == "f":
        kind = np.float32 if values.dtype.itemsize <= 4 else np.float64
        with np.errstate(over="ignore"):  # a long double may become infinite, which the checks report
            return values.astype(kind, copy=False)
    if values.dtype.kind in "iu" and values.dtype != np.uint8:
        if values.dtype == np.uint64 and values.max(initial=0) > np.iinfo(np.int64).max:
            at = np.unravel_index(int(values.argmax()), values.shape)
            raise InputError(
                f"{where} has {values[at]} in row {at[0] + row}: whole numbers end at 2^63 - 1, so rescale it"
            )
        return values.astype(np.int64, copy=False)
    return values


def to_tensor(name: str, values: Any, dtype: torch.dtype | None, device: str | torch.device) -> Any:
    """Return an array as a tensor: real numbers, and whole numbers that are data, at the precision of the program.

    Sparse rows become a ``SparseTensor``, unless they are whole numbers that are no data.

    Args:
        name: name of the array, for messages.
        values: the array.
        dtype: a type of real numbers, or None: whole numbers become int64 and Booleans stay.
        device: device of the tensor.

    Raises:
        InputError: if the type cannot hold a whole number exactly, or a real number becomes infinite.

    Example:
        >>> to_tensor("x", np.array([2**24, 2**24 + 1]), torch.float32, "cpu")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: array 'x' has the whole number 16777217, which single precision cannot hold: ...
    """
    if dtype is None:
        dtype, values = torch.bool if values.dtype.kind == "b" else torch.int64, np.asarray(values)
    else:
        _check_held(name, values, dtype)
        if isinstance(values, SparseRows):
            return SparseTensor(values, dtype, device)
    # NumPy's steps along an axis of size one mean nothing; PyTorch takes some for a layout with the channels last.
    return torch.tensor(values.ravel(), dtype=dtype, device=device).reshape(values.shape)


def write_numbers(name: str, target: Tensor, values: np.ndarray, dtype: torch.dtype | None) -> None:
    """Write an array into a tensor, as ``to_tensor`` converts it.

    Raises:
        InputError: see ``to_tensor``.
    """
    if target.device.type == "cpu" and target.dtype != torch.bfloat16:  # NumPy copies in the thread that calls it
        if dtype is not None:
            _check_held(name, values, dtype)
        target.numpy()[...] = values
    else:
        target.copy_(to_tensor(name, values, dtype, "cpu"))


def check_precision(arrays: Mapping[str, Any], names: Collection[str], dtype: torch.dtype) -> None:
    r"""Check that the precision of a program holds the real numbers that it is fitted to.

    A column is held if its whole numbers are exact, or, if some numbers are not whole, if

    .. math:: \max_i |x_i - \mathrm{round}(x_i)| \le 10^{-3}\, \mathrm{sd}(x),

    so that rounding changes the log density of a datum by about a thousandth of a nat at most.

    Args:
        arrays: the training data, ``(N, ...)`` by name, in memory or on disk.
        names: names of the arrays that the program takes.
        dtype: the type of the program's real numbers.

    Raises:
        InputError: if a column is not held.

    Example:
        >>> check_precision({"x": 1e9 + np.arange(3.0)[:, None] / 8}, ["x"], torch.float32)
        Traceback (most recent call last):
        ppl_vae.errors.InputError: array 'x', column 0 has 1000000000.25, which single precision rounds to...
    """
    target = _numpy_type(dtype)
    for name in names:
        values = arrays[name]
        if values.dtype.kind != "f" or np.finfo(values.dtype).nmant <= np.finfo(target).nmant:
            continue
        lost = _lost_by_rounding(values, target)
        if lost is not None:
            place, number = lost
            raise InputError(
                f"{_describe_place(name, place)} has {number!s}, which {describe(dtype)} rounds to "
                f"{float(number.astype(target))!s}: {REMEDY}, or subtract an offset from the column"
            )


def _lost_by_rounding(values: Any, target: np.dtype) -> tuple[tuple[Any, ...], Any] | None:
    """Return the column and the worst number of the first column that a type does not hold; None if it holds all.

    Rows are looked at block by block, so that the array may be on disk; the deviation is merged as in
    ``column_statistics``.
    """
    size = max(1, math.prod(values.shape[1:]))
    count, mean, squares, most = (np.zeros(size) for _ in range(4))
    worst, numbers, is_whole = np.full(size, -1.0), np.zeros(size, values.dtype), np.ones(size, bool)
    rows = max(1, NUMBERS_AT_ONCE // size)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(values), rows):
            x = np.asarray(values[start : start + rows]).reshape(-1, size)
            known = ~np.isnan(x)
            rounding = np.where(known, np.abs(x - x.astype(target)), 0)
            at = rounding.argmax(0)
            of_block = np.take_along_axis(rounding, at[None], 0)[0]
            numbers = np.where(of_block > worst, np.take_along_axis(x, at[None], 0)[0], numbers)
            worst = np.maximum(worst, of_block)
            most = np.maximum(most, np.abs(np.where(known, x, 0)).max(0))
            is_whole &= ((x == np.round(x)) | ~known).all(0)
            more = known.sum(0)
            middle = np.where(known, x, 0).sum(0, dtype=np.float64) / np.maximum(more, 1)
            share = more / np.maximum(count + more, 1)
            squares += np.square(np.where(known, x - middle, 0)).sum(0) + np.square(middle - mean) * count * share
            mean += (middle - mean) * share
            count += more
        scale = np.sqrt(squares / np.maximum(count, 1))
        noise = 4 * np.finfo(values.dtype).eps * most  # a constant column that was computed
        allowed = np.where(is_whole, 0.0, np.where(scale > noise, MOST_ROUNDING * scale, np.inf))
        lost = worst > allowed
    if not lost.any():
        return None
    column = int(np.argmax(lost))
    return tuple(np.unravel_index(column, values.shape[1:]) if len(values.shape) > 1 else ()), numbers[column]


def describe(dtype: torch.dtype) -> str:
    """Return the name of a precision in words.

    Example:
        >>> describe(torch.float32), describe(torch.float64), describe(torch.bfloat16)
        ('single precision', 'double precision', 'bfloat16')
    """
    names = {torch.float32: "single precision", torch.float64: "double precision"}
    return names.get(dtype, str(dtype).removeprefix("torch."))


def _check_held(name: str, values: Any, dtype: torch.dtype) -> None:
    kept = values.data if isinstance(values, SparseRows) else values
    if (at := _first_lost(kept, dtype)) is not None:
        what = "the whole number " if values.dtype.kind in "iu" else ""
        place = values.place(at[0]) if isinstance(values, SparseRows) else at
        raise InputError(
            f"{_describe_place(name, place[1:])} has {what}{kept[at]}, which {describe(dtype)} cannot hold: {REMEDY}, "
            f"or rescale the data"
        )


def _first_lost(values: np.ndarray, dtype: torch.dtype) -> tuple[Any, ...] | None:
    """Return the index of the first whole number that is not exact, or real number that overflows; None if none is."""
    info = torch.finfo(dtype)
    if values.size == 0 or values.dtype.kind == "b":
        return None
    if values.dtype.kind == "f":
        if float(np.finfo(values.dtype).max) <= info.max:
            return None
        lost = np.isfinite(values) & (np.abs(values) > values.dtype.type(info.max))
    else:
        exact = round(2 / info.eps)
        if -exact <= values.min() and values.max() <= exact:
            return None
        odd = values // np.where(values == 0, 1, values & -values)  # a number is held if its odd factor is
        lost = (odd > exact) | (odd < -exact)
    return tuple(np.unravel_index(int(np.argmax(lost)), values.shape)) if lost.any() else None


def _describe_place(name: str, at: Sequence[Any]) -> str:
    """Return the place of a number within a datum in words; parts of the data no longer count rows as the user does."""
    return ", ".join([f"array {name!r}", *([f"column {' '.join(map(str, at))}"] if len(at) else [])])


def _numpy_type(dtype: torch.dtype) -> np.dtype:
    return np.dtype(np.float16) if dtype == torch.bfloat16 else torch.empty(0, dtype=dtype).numpy().dtype
