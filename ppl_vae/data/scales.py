"""The location and the scale by which the columns of a table are standardised."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ppl_vae.data.frames import column_names
from ppl_vae.data.source import NamedArrays
from ppl_vae.data.statistics import blocks_of, column_statistics
from ppl_vae.errors import InputError


class Scaling(NamedTuple):
    """The numbers m and s of each column, by which x becomes (x - m) / s: 0 and 1 for a column that stays as it is."""

    location: np.ndarray
    scale: np.ndarray
    is_positive: np.ndarray
    """True for a column that is positive, which has a location only if the program may draw any number of it."""

    @property
    def is_trivial(self) -> bool:
        """True if every column stays as it is."""
        return bool((self.location == 0).all() and (self.scale == 1).all())


def find_scalings(arrays: Mapping[str, np.ndarray], names: Collection[str]) -> dict[str, Scaling]:
    """Return how the columns of arrays are standardised; what is missing has no part in it.

    A real column has its mean and its standard deviation, and so has a positive one; of that, the location is left out
    where a program needs positive numbers. Every other column stays as it is, and so does one whose values are all the
    same.

    Args:
        arrays: the training data, ``(N,)`` or ``(N, D)`` by name. The kinds of columns that were no table are inferred.
        names: the arrays that are standardised.

    Raises:
        InputError: no column is real or positive, or a datum has a shape other than that of a row of a table.

    Example:
        >>> of_x = find_scalings({"x": np.array([[1.5, 1.0, -1.0], [4.5, 2.0, 3.0]])}, ["x"])["x"]
        >>> of_x.location.tolist(), of_x.scale.tolist(), of_x.is_positive.tolist()
        ([3.0, 0.0, 1.0], [1.5, 1.0, 2.0], [True, False, False])
    """
    for name in names:
        if len(arrays[name].shape) > 2:
            raise InputError(
                f"standardize: a datum of {name!r} has shape {arrays[name].shape[1:]}, and only the columns of a table "
                f"are standardised: scale the array, and leave the option out"
            )
    statistics = column_statistics(blocks_of(arrays, names))
    inferred = _kinds_of_numbers(blocks_of(arrays, names))
    known, scalings = NamedArrays(arrays).columns, {}
    for name in names:
        of_array, kinds = statistics[name], inferred[name]
        if name in known:
            kinds = np.array([column.kind for column in known[name]]).reshape(kinds.shape)
        moves = (of_array.scale > 0) & np.isin(kinds, ("real", "positive"))
        parts = np.where(moves, of_array.mean, 0.0), np.where(moves, of_array.scale, 1.0)
        scalings[name] = Scaling(*parts, moves & (kinds == "positive"))
    if all(scaling.is_trivial for scaling in scalings.values()):
        columns = [column for named in column_names(arrays).values() for column in named]
        raise InputError(
            f"standardize: no column is real or positive ({', '.join(columns[:6]) or ', '.join(names)}): leave the "
            f"option out, or name the kinds, such as --kinds {(columns or ['age'])[0]}=real"
        )
    return scalings


def _kinds_of_numbers(blocks: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the kind of each number of a datum by array, as ``infer_kind`` does: real, positive, or count."""
    low: dict[str, np.ndarray] = {}
    is_whole: dict[str, np.ndarray] = {}
    for block in blocks:
        for name, values in block.items():
            hole = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
            lowest = np.where(hole, np.inf, values).min(0)
            whole = ((values == np.round(values)) | hole).all(0)
            low[name] = np.minimum(low.get(name, lowest), lowest)
            is_whole[name] = is_whole.get(name, whole) & whole
    return {
        name: np.where(
            low[name] < 0, "real", np.where(is_whole[name], "count", np.where(low[name] > 0, "positive", "real"))
        )
        for name in low
    }
