"""Data with missing numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ppl_vae.data.frames import match_columns
from ppl_vae.data.given import FitColumns, as_named
from ppl_vae.data.sequences import LENGTHS, clear_padding, is_padded
from ppl_vae.data.stored import in_memory
from ppl_vae.errors import InputError, nearest


def fill_missing(
    owner: str,
    arrays: Sequence[Any],
    arguments: Sequence[str],
    missing: Mapping[str, np.ndarray],
    like: Mapping[str, np.ndarray],
    columns: FitColumns = MappingProxyType({}),
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Replace the missing numbers of a column by its mean.

    Args:
        owner: name of the object that is called, for messages.
        arrays: arrays in the order of the model's arguments, or one mapping; a missing number is NaN.
        arguments: names of the model's arguments.
        missing: masks of further missing numbers, Boolean arrays by name.
        like: rows of each argument, for the mean of a column without any number.
        columns: the columns in the fit, by the name of the array, see ``match_columns``.

    Returns:
        The arrays without NaN, and for each array a mask of the numbers that were NaN or in ``missing``.

    Raises:
        InputError: if a mask belongs to no array, has another shape than its array, or is of whole numbers, which are
            conditions.

    Example:
        >>> x = np.array([[1.0, np.nan], [3.0, 4.0]])
        >>> filled, holes = fill_missing("vi", [x], ["x"], {}, {"x": x[1:]})
        >>> filled["x"].tolist(), holes["x"].tolist()
        ([[1.0, 4.0], [3.0, 4.0]], [[False, True], [False, False]])
    """
    matched = in_memory(match_columns(as_named("the data", arrays, arguments, columns), columns, "the data"))
    cleared = clear_padding(owner, "the data", matched)
    named = {name: np.asarray(array) for name, array in cleared.items()}  # sparse rows too: all are written
    for name in missing.keys() - named.keys():
        raise InputError(f"a mask of {name!r}, which the data do not have; {nearest(name, named)}")
    filled, holes = dict(named), {}
    for name, array in named.items():
        real = array.dtype.kind == "f"
        hole = np.isnan(array) if real else np.zeros(array.shape, bool)
        if name in missing:
            mask = np.asarray(missing[name])
            if mask.shape != array.shape:
                raise InputError(
                    f"the mask of {name!r} has shape {mask.shape}: expected that of the array, {array.shape}"
                )
            if not real and name in like and like[name].dtype.kind != "f":
                raise InputError(f"a mask of {name!r}, which is whole numbers: only real numbers can be missing")
            hole = hole | mask.astype(bool)
        if name == "x" and is_padded(named):  # past the end of a sequence, nothing is missing
            past = np.arange(array.shape[1]) >= named[LENGTHS][:, None]
            hole = hole & ~past.reshape(past.shape + (1,) * (array.ndim - 2))
        holes[name] = hole
        if hole.any():
            number = array.astype(array.dtype if real else np.float64)
            seen = (~hole).sum(0)
            total = np.where(hole, 0, number).sum(0)
            usual = like[name].mean(0) if name in like else np.zeros(array.shape[1:])
            mean = np.where(seen > 0, total / np.maximum(seen, 1), usual)
            filled[name] = np.where(hole, mean, number).astype(number.dtype)
    return filled, holes
