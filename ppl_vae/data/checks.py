"""Checks of data before they reach a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.given import as_named
from ppl_vae.data.precision import describe, to_native
from ppl_vae.data.sequences import check_lengths, clear_padding, is_padded
from ppl_vae.data.source import NamedArrays
from ppl_vae.data.split import PARTS
from ppl_vae.errors import InputError

LABELS = "y"
UNKNOWN = -1
"""The value of a label that is not known, as in scikit-learn."""


def check_parts(name: str, parts: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Check the arrays of a data set, part by part and then against the train part.

    Args:
        name: name of the data set, for messages.
        parts: the arrays of "train", "valid" and "test" by name, each of shape ``(N_part, ...)``.

    Raises:
        InputError: if a part is empty, an array is not numeric, not finite or missing, arrays differ in length, data
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
        labels, known = parts[part].get(LABELS), train.get(LABELS)
        if is_labels(labels) and is_labels(known):
            _check_label_range(name, part, labels, known)


def check_arrays(name: str, part: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Check the arrays of one part, whose rows are the data.

    Raises:
        InputError: if the part is empty, an array is not numeric or not finite, arrays differ in length, a label is
            below -1, or x cannot have the lengths.
    """
    if not arrays:
        raise InputError(f"{name}: {part} holds no arrays: it needs at least one, such as 'x'")
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
    labels = arrays.get(LABELS)
    if is_labels(labels) and labels.min() < UNKNOWN:
        row = int(np.argmax(labels < UNKNOWN))
        raise InputError(
            f"{name}: label out of range: '{LABELS}' of {part} has {labels[row]} in row {row}: "
            f"number the labels from 0; {UNKNOWN} is an unknown one"
        )
    if is_padded(arrays):
        check_lengths(name, part, arrays)


def check_numeric(where: str, values: np.ndarray) -> None:
    """Raise ``InputError`` if values are not an array of Booleans, whole or real numbers."""
    if not isinstance(values, np.ndarray):
        raise InputError(f"{where} is a {type(values).__name__}: expected a NumPy array")
    if values.dtype.kind not in "biuf":
        raise InputError(f"{where} has dtype {values.dtype}: expected numbers, so convert or remove it")


def is_labels(values: np.ndarray | None) -> TypeGuard[np.ndarray]:
    """Return True if an array holds labels: whole numbers, one per datum."""
    return values is not None and values.ndim == 1 and values.dtype.kind in "iu"


def _check_finite(where: str, values: np.ndarray) -> None:
    if values.dtype.kind != "f":
        return
    finite = np.isfinite(values)
    if finite.all():
        return
    at = np.unravel_index(int(np.argmin(finite)), values.shape)
    raise InputError(
        f"{where} has {values[at]} in row {at[0]}: fill the value in or remove the row "
        "(rows count from 0; a mask can be an array of its own)"
    )


def _check_same_names(name: str, part: str, arrays: Mapping[str, np.ndarray], train: Mapping[str, np.ndarray]) -> None:
    for first, second, place, other in ((train, arrays, "train", part), (arrays, train, part, "train")):
        for array in first:
            if array not in second:
                raise InputError(
                    f"{name}: array '{array}' is in {place} but not in {other}: "
                    f"add it to {other} or leave it out of every part"
                )


def _check_label_range(name: str, part: str, labels: np.ndarray, train: np.ndarray) -> None:
    largest = train.max()
    if labels.max() > largest:
        row = int(np.argmax(labels > largest))
        raise InputError(
            f"{name}: label out of range: '{LABELS}' of {part} has {labels[row]} in row {row}, "
            f"the largest in train is {largest}: remove the row or add its class to train"
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


def name_arrays(owner: str, where: str, arrays: Sequence[Any], arguments: Sequence[str]) -> NamedArrays:
    """Return the arguments of a call as named arrays, after checking them.

    Args:
        owner: name of the object that is called, for messages.
        where: name of the call, for messages.
        arrays: the data as ``as_named`` takes them.
        arguments: names of the model's arguments.

    Returns:
        The arrays, each number with its value; the precision of a program decides when ``Batches`` are made of them.

    Raises:
        InputError: if there are more arrays than arguments, or arrays do not pass ``check_arrays``.

    Example:
        >>> name_arrays("VAE", "fit", [[[0, 1], [1, 1]]], ["x", "y"])["x"].dtype
        dtype('int64')
    """
    given = as_named(where, arrays, arguments)
    named = clear_padding(owner, where, given)
    check_arrays(owner, where, named)
    native = {name: to_native(f"{owner}: array '{name}' of {where}", array) for name, array in named.items()}
    return NamedArrays(native, given.columns)
