"""Checks of data before they reach a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.given import FitColumns, as_named
from ppl_vae.data.kinds import CODED
from ppl_vae.data.precision import check_numeric_type, describe, to_native
from ppl_vae.data.sequences import check_lengths, clear_padding, is_padded
from ppl_vae.data.source import NamedArrays, Source
from ppl_vae.data.sparse import SparseRows
from ppl_vae.data.split import PARTS
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.survey import survey
from ppl_vae.data.transformed import Transformed
from ppl_vae.errors import InputError

LABELS = "y"
UNKNOWN = -1
"""The value of a label that is not known, as in scikit-learn."""


def check_parts(name: str, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the arrays of a data set, part by part and then against the train part.

    Args:
        name: name of the data set, for messages.
        parts: the arrays of "train", "valid" and "test" by name, each of shape ``(N_part, ...)``.

    Raises:
        InputError: if a part is empty, an array is not numeric, infinite or missing, arrays differ in length, data
            differ in shape, or a label is out of range.
    """
    for part in PARTS:
        check_arrays(name, part, parts[part])
    train = parts["train"]
    for part in PARTS[1:]:
        _check_same_names(name, part, parts[part], train)
        for array, values in parts[part].items():
            if values.shape[1:] != train[array].shape[1:]:
                raise InputError(
                    f"{name}: a datum of '{array}' has shape {train[array].shape[1:]} in train and "
                    f"{values.shape[1:]} in {part}: pad or cut the arrays to one shape, or give the lengths of "
                    f"sequences, lengths_train and so on"
                )
        labels, known = _label_range(name, part, parts[part]), _label_range(name, "train", train)
        if labels is not None and known is not None and labels.high > known.high:
            raise InputError(
                f"{name}: label out of range: '{LABELS}' of {part} has {labels.high} in row {labels.high_row}, "
                f"the largest in train is {known.high}: remove the row or add its class to train"
            )


def check_arrays(name: str, part: str, arrays: Mapping[str, Any]) -> None:
    """Check the arrays of one part, whose rows are the data.

    Raises:
        InputError: if the part is empty, an array is not numeric or infinite, arrays differ in length, a label is
            below -1, or x cannot have the lengths. A real number that is NaN is missing.
    """
    if not arrays:
        raise InputError(f"{name}: {part} holds no arrays: it needs at least one, such as 'x'")
    if isinstance(arrays, StoredRows):
        _check_stored(name, part, arrays)
    else:
        _check_held(name, part, arrays)
    labels = _label_range(name, part, arrays)
    if labels is not None and labels.low < UNKNOWN:
        raise InputError(
            f"{name}: label out of range: '{LABELS}' of {part} has {labels.low} in row {labels.low_row}: "
            f"number the labels from 0; {UNKNOWN} is an unknown one"
        )


def _check_held(name: str, part: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Check arrays in memory."""
    first = next(iter(arrays))
    for array, values in arrays.items():
        where = f"{name}: array '{array}' of {part}"
        check_numeric(where, values)
        if values.ndim == 0:
            raise InputError(f"{where} is a single number: expected one row a datum, shape (N, ...)")
        if len(values) == 0:
            raise InputError(f"{where} is empty: every part needs at least one row")
        if values.size == 0:
            raise InputError(f"{where} has shape {values.shape}: a datum needs at least one number")
        if len(values) != len(arrays[first]):
            raise InputError(
                f"{name}: in {part}, '{first}' has {len(arrays[first])} rows and '{array}' has "
                f"{len(values)}: every array needs one row a datum"
            )
        _check_finite(where, values)
    if is_padded(arrays):
        check_lengths(name, part, arrays)


def check_numeric(where: str, values: np.ndarray) -> None:
    """Raise ``InputError`` if values are not an array of Booleans, whole or real numbers."""
    if not isinstance(values, np.ndarray | SparseRows):
        raise InputError(f"{where} is a {type(values).__name__}: expected a NumPy array")
    check_numeric_type(where, values.dtype)


def is_labels(values: Any) -> TypeGuard[np.ndarray]:
    """Return True if an array holds labels: whole numbers, one per datum."""
    return values is not None and values.ndim == 1 and values.dtype.kind in "iu"


def _check_finite(where: str, values: np.ndarray | SparseRows) -> None:
    if values.dtype.kind != "f":
        return
    kept = values.data if isinstance(values, SparseRows) else values
    finite = np.isfinite(kept)
    if finite.all():
        return
    is_sparse = isinstance(values, SparseRows)
    wrong = ~finite if is_sparse else np.isinf(kept)  # what is NaN is missing, but for counts that are kept sparse
    if not wrong.any():
        return
    first = int(np.argmax(wrong))
    at = values.place(first) if isinstance(values, SparseRows) else np.unravel_index(first, values.shape)
    remedy = "mend the value or remove the row" if is_sparse else "mend the value, or take nan for what is missing"
    raise InputError(f"{where} has {kept.flat[first]} in row {at[0]}: {remedy} (rows count from 0)")


def _check_same_names(name: str, part: str, arrays: Mapping[str, np.ndarray], train: Mapping[str, np.ndarray]) -> None:
    for first, second, place, other in ((train, arrays, "train", part), (arrays, train, part, "train")):
        for array in first:
            if array not in second:
                raise InputError(
                    f"{name}: array '{array}' is in {place} but not in {other}: "
                    f"add it to {other} or leave it out of every part"
                )


class LabelRange(NamedTuple):
    """The smallest and the largest label of a part, and a row of each."""

    low: int
    low_row: int
    high: int
    high_row: int


def _label_range(name: str, part: str, arrays: Mapping[str, Any]) -> LabelRange | None:
    """Return the range of the labels; None if there are none."""
    labels = arrays.get(LABELS)
    if not is_labels(labels):
        return None
    if isinstance(arrays, StoredRows):
        stored = survey(f"{name}, {part}", arrays)[LABELS]
        return LabelRange(int(stored.low), stored.low_row, int(stored.high), stored.high_row)
    low, high = int(labels.argmin()), int(labels.argmax())
    return LabelRange(int(labels[low]), low, int(labels[high]), high)


def _check_stored(name: str, part: str, rows: StoredRows) -> None:
    """Check the shapes and the types of arrays on disk, and then their numbers in one pass over the rows."""
    for array, values in rows.items():
        where = f"{name}: array '{array}' of {part}"
        check_numeric_type(where, values.dtype)
        if len(values) == 0:
            raise InputError(f"{where} is empty: every part needs at least one row")
        if values.size == 0:
            raise InputError(f"{where} has shape {values.shape}: a datum needs at least one number")
    for array, seen in survey(f"{name}, {part}", rows).items():
        if seen.infinite:
            row = seen.infinite_row
            raise InputError(
                f"{name}: array '{array}' of {part} has inf in row {row} (so in {seen.infinite} of {rows.num_rows} "
                f"rows, which count from 0 in {part}; this is row {rows.locate(np.array([row]))[0]} of its file or "
                f"files): mend the value, or take nan for what is missing"
            )


def check_kinds(name: str, part: str, arrays: Source) -> None:
    """Check that the numbers of the columns of a table are of their kinds, which were inferred from some of the rows.

    Raises:
        InputError: a column has a number that is not of its kind.
    """
    if not arrays.columns:
        return
    rows = arrays if isinstance(arrays, StoredRows) else StoredRows(arrays)
    for array, seen in survey(f"{name}, {part}", rows).items():
        for column, low, high, uneven in zip(
            rows.columns.get(array, ()), seen.lows, seen.highs, seen.fractions, strict=True
        ):
            codes = max(2, len(column.categories))
            wrong = {
                "positive": low <= 0,
                "count": low < 0 or uneven,
                **dict.fromkeys(CODED, low < 0 or uneven or high >= codes),
            }
            if wrong.get(str(column.kind)):
                expected = {"positive": "positive numbers", "count": "whole numbers, 0 or larger"}
                raise InputError(
                    f"{name}: column {column.name!r} ranges from {low:g} to {high:g} in {part}"
                    f"{', with fractions' if uneven else ''}: kind {column.kind} needs "
                    f"{expected.get(str(column.kind), f'codes from 0 to {codes - 1}')}; give it another kind, "
                    f"--kinds {column.name}=real"
                )


def as_condition(name: str, given: Any, like: Tensor, num_data: int) -> Tensor:
    """Return a condition for ``num_data`` draws, of the type and shape with which the model was fitted.

    Args:
        name: name of the array.
        given: the value of one datum for all draws, or an array with a row for each draw. If the rows of the fit are
            one-hot vectors, a category is its number, counted from 0.
        like: rows of the array with which the model was fitted.
        num_data: number of draws.

    Raises:
        InputError: if the condition is not finite numbers, not whole although the array was, or of another shape; or
            if it can be read as one vector for all draws and as a category for each.

    Example:
        >>> as_condition("y", 3, torch.tensor([0, 1]), num_data=4)
        tensor([3, 3, 3, 3])
        >>> as_condition("batch", 1, torch.eye(2), num_data=3)
        tensor([[0., 1.],
                [0., 1.],
                [0., 1.]])
    """
    array, row = np.asarray(given), tuple(like.shape[1:])
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise InputError(f"the condition {name!r} is {given!r}: expected finite numbers")
    if not like.is_floating_point() and (array != np.round(array)).any():
        raise InputError(f"the condition {name!r} is {given!r}: expected whole numbers, as in the fit")
    if len(row) == 1 and array.shape in ((), (1,), (num_data,)) and is_one_hot(like):
        vector = array.shape == row and bool(is_one_hot(array[None]))
        if vector and num_data > 1 and array.shape == (num_data,):
            raise InputError(
                f"the condition {name!r} is {given!r}: one vector for all draws, or a category for each? Give an array "
                f"of shape {(num_data, *row)}"
            )
        if not vector:
            if (array != np.round(array)).any() or not 0 <= array.min() <= array.max() < row[0]:
                raise InputError(
                    f"the condition {name!r} is {given!r}: expected a category, one of the whole numbers from 0 to "
                    f"{row[0] - 1}, or its one-hot vector of width {row[0]}"
                )
            array = np.eye(row[0])[array.astype(int)]
    value = torch.as_tensor(array).to(like)
    if (array == np.round(array)).all() and (value.cpu().double().numpy() != array).any():
        expected = "0 or 1" if like.dtype == torch.bool else f"whole numbers that {describe(like.dtype)} can hold"
        raise InputError(f"the condition {name!r} is {given!r}: expected {expected}")
    if value.shape in (row, (1, *row), (num_data, *row)) or value.numel() == like[0].numel() == 1:
        return value.reshape(value.shape if value.dim() > len(row) else row).expand(num_data, *row)
    raise InputError(
        f"the condition {name!r} has shape {tuple(value.shape)}: expected {(num_data, *row)}, or "
        + (f"the {like[0].numel()} numbers of one datum, shape {row}, for all" if row else "one value for all")
    )


def is_one_hot(rows: Tensor | np.ndarray) -> bool:
    """Return true if every row of an array ``(N, C)`` has a single one, and zeros.

    Example:
        >>> is_one_hot(np.eye(3)), is_one_hot(np.ones((3, 2)))
        (True, False)
    """
    return rows.ndim == 2 and bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(-1) == 1).all())


def name_arrays(
    owner: str,
    where: str,
    arrays: Sequence[Any],
    arguments: Sequence[str],
    known: FitColumns | None = None,
    *,
    mixed: bool = False,
) -> NamedArrays | StoredRows:
    """Return the arguments of a call as named arrays, after checking them.

    Args:
        owner: name of the object that is called, for messages.
        where: name of the call, for messages.
        arrays: the data as ``as_named`` takes them.
        arguments: names of the model's arguments.
        known: the columns of a fit, see ``as_named``.
        mixed: If True, columns of x may be texts.

    Returns:
        The arrays, each number with its value; the precision of a program decides when ``Batches`` are made of them.

    Raises:
        InputError: if there are more arrays than arguments, or arrays do not pass ``check_arrays``.

    Example:
        >>> name_arrays("VAE", "fit", [[[0, 1], [1, 1]]], ["x", "y"])["x"].dtype
        dtype('int64')
    """
    given = as_named(where, arrays, arguments, known, mixed=mixed)
    if isinstance(given, StoredRows):
        if is_padded(given):
            given = StoredRows(Transformed(given, partial(clear_padding, owner, where), "cleared padding"))
        check_arrays(owner, where, given)
        return given
    named = clear_padding(owner, where, given)
    check_arrays(owner, where, named)
    native = {name: to_native(f"{owner}: array '{name}' of {where}", array) for name, array in named.items()}
    return NamedArrays(native, given.columns)
