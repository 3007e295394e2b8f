"""Data with missing numbers: what stands in their place, and masks of what was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from ppl_vae.data.frames import match_columns
from ppl_vae.data.given import FitColumns, as_named
from ppl_vae.data.sequences import LENGTHS, clear_padding, is_padded
from ppl_vae.data.source import NamedArrays
from ppl_vae.data.statistics import blocks_of, coded_columns, column_statistics
from ppl_vae.data.stored import StoredRows, in_memory
from ppl_vae.data.survey import survey
from ppl_vae.data.transformed import Transformed
from ppl_vae.errors import InputError, nearest

REMEDY = "impute fills them in, and a fit with holes or with --extra-missing 0.2 takes them"
MOST_ROWS = 5
"""The largest number of rows that a sentence names."""


def mask_of(name: str) -> str:
    """Return the name of the mask of an array, true for a number that was seen.

    Example:
        >>> mask_of("x")
        'x_mask'
    """
    return f"{name}_mask"


@dataclass(frozen=True)
class Holes:
    """The arrays of a fit that may have holes, which are NaN, and what stands in the place of a missing number.

    Attributes:
        usual: a value for each number of a datum, by the name of the array: the mean or the mode of the training part.
        allowed: True for the numbers of a datum that may be missing, by the name of the array; None before it is known.

    Example:
        >>> holes = find_holes(["x"], [{"x": np.array([[1.0, np.nan], [3.0, 4.0]])}])
        >>> arrays = holes.fill({"x": np.array([[np.nan, 5.0]])})
        >>> arrays["x"].tolist(), arrays["x_mask"].tolist()
        ([[2.0, 5.0]], [[False, True]])
    """

    usual: Mapping[str, np.ndarray] = field(default_factory=dict)
    allowed: Mapping[str, np.ndarray] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays that may have holes."""
        return tuple(self.usual)

    @property
    def masks(self) -> tuple[str, ...]:
        """The names of their masks, in the same order."""
        return tuple(mask_of(name) for name in self.usual)

    def fill(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return arrays without NaN, and behind them a mask for each that may have holes; masks that are there stay.

        Rows on disk stay there, and are filled in block by block when they are read.
        """
        return self._changed(arrays, "filled in", self._fill)

    def open(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return arrays with NaN where their masks hide a number, as they were before ``fill``."""
        return self._changed(arrays, "with holes", self._open)

    def _changed(
        self, arrays: Mapping[str, Any], how: str, change: Callable[[Mapping[str, np.ndarray]], NamedArrays]
    ) -> Mapping[str, Any]:
        if not self.usual:
            return arrays
        if not isinstance(arrays, StoredRows):
            return change(arrays)
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(usual).tobytes() for usual in self.usual.values()))
        name = f"{', '.join(self.usual)} {how} {digest.hexdigest()}"
        return StoredRows(Transformed(arrays.source, lambda block, _: change(block), name), arrays.ranges)

    def _fill(self, arrays: Mapping[str, np.ndarray]) -> NamedArrays:
        filled = NamedArrays(arrays)
        for name, usual in self.usual.items():
            if name in arrays and mask_of(name) not in arrays:
                hole = holes_of(arrays[name])
                filled[name] = np.where(hole, usual, arrays[name]).astype(arrays[name].dtype, copy=False)
                filled[mask_of(name)] = ~hole
        return filled

    def _open(self, arrays: Mapping[str, np.ndarray]) -> NamedArrays:
        hidden = {name: arrays[mask_of(name)] for name in self.usual if mask_of(name) in arrays}
        holey = {name: np.where(mask, arrays[name], np.nan) for name, mask in hidden.items()}
        return NamedArrays({**arrays, **holey}, NamedArrays(arrays).columns)

    def check(self, where: str, arrays: Mapping[str, np.ndarray], names: Collection[str]) -> None:
        """Check that data have, after ``fill``, every number that a fitted program needs.

        Args:
            where: name of the data, for messages.
            arrays: arrays by name, with their masks.
            names: the names of the arrays that the program takes.

        Raises:
            InputError: an array has a hole although no array of that name had one in the fit, or a number is missing
                that the model needs.
        """
        for name in names:
            if name not in self.usual and name in arrays and (row := first_hole(arrays, name)) is not None:
                at = np.argwhere(np.isnan(np.asarray(arrays[name][row])))[0]
                raise InputError(
                    f"{where}: {describe_column(name, at, arrays)} is missing in row {row}, and in the fit no "
                    f"number of {name!r} was: {REMEDY}"
                )
        needed = {mask_of(name): name for name, allowed in (self.allowed or {}).items() if not allowed.all()}
        first, masks = 0, [mask for mask in needed if mask in arrays]
        for block in blocks_of(arrays, masks):
            for mask, seen in block.items():
                name = needed[mask]
                lost = ~(seen | (self.allowed or {})[name])
                if lost.any():
                    row, *at = np.argwhere(lost)[0]
                    raise InputError(
                        f"{where}: {describe_column(name, at, arrays)} is missing in row {first + row}, and the model "
                        f"needs it: it is a condition, which no site observes, or a distribution depends on it; fill "
                        f"it in, or remove the row"
                    )
            first += len(seen)


def find_holes(names: Iterable[str], parts: Iterable[Mapping[str, np.ndarray]], *, also: Collection[str] = ()) -> Holes:
    """Return what a fit needs to know about the missing numbers of its data.

    Args:
        names: the names of the arrays that the program takes.
        parts: the parts of the data, of which the first is the training part; a hole in any part counts.
        also: names of arrays that may have holes although they have none here.

    Raises:
        InputError: an array with holes has a mask of its own in the data, or a number of it is missing in all of the
            training part.
    """
    train, *others = parts
    chosen = [
        name
        for name in names
        if name in also or any(name in part and first_hole(part, name) is not None for part in (train, *others))
    ]
    chosen = [name for name in chosen if train[name].dtype.kind == "f" or name in also]
    statistics = column_statistics(blocks_of(train, chosen), coded_columns(train))
    for name, of_array in statistics.items():
        if mask_of(name) in train:
            raise InputError(
                f"{name!r} has missing numbers, and the data have an array {mask_of(name)!r} too, which is the name of "
                f"its mask: rename this array"
            )
        if not of_array.known.all():
            at = np.unravel_index(int(np.argmin(of_array.known)), of_array.known.shape)
            raise InputError(
                f"{describe_column(name, at, train)} is missing in all rows of the training data: leave it out"
            )
    return Holes({name: of_array.usual for name, of_array in statistics.items()})


def holes_of(values: np.ndarray) -> np.ndarray:
    """Return True for the numbers of an array that are missing."""
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)


def first_hole(arrays: Mapping[str, Any], name: str) -> int | None:
    """Return the first row in which a number of an array is missing; None if there is none.

    Example:
        >>> first_hole({"x": np.array([[0.0, 1.0], [np.nan, 2.0]])}, "x"), first_hole({"x": np.eye(2)}, "x")
        (1, None)
    """
    values = arrays[name]
    if values.dtype.kind != "f":
        return None
    if isinstance(arrays, StoredRows):
        if _is_known_whole(arrays, name):
            return None
        of_array = survey("the data", arrays)[name]
        return of_array.nan_row if of_array.nan else None
    if not isinstance(values, np.ndarray) or not np.isnan(values.min(initial=np.inf)):
        return None
    return int(np.argmax(np.isnan(values.reshape(len(values), -1)).any(1)))


def count_holes(arrays: Mapping[str, Any], name: str) -> int:
    """Return the number of numbers of an array that are missing."""
    if first_hole(arrays, name) is None:
        return 0
    if isinstance(arrays, StoredRows):
        return survey("the data", arrays)[name].missing
    return int(np.count_nonzero(np.isnan(arrays[name])))


def _is_known_whole(rows: StoredRows, name: str) -> bool:
    """Return True if a pass over these rows, or over more of the same ones, has found that no number is missing."""
    source: Any = rows
    while source is not None:
        surveyed = getattr(source, "surveyed", None)
        if surveyed is not None and name in surveyed and not surveyed[name].nan:
            return True
        source = getattr(source, "source", None)
    return False


def describe_empty_rows(part: str, arrays: Mapping[str, np.ndarray], names: Collection[str]) -> list[str]:
    """Return a sentence about the rows without any number of these arrays; an empty text if there is no such row.

    Example:
        >>> mask = np.array([[True], [False], [False]])
        >>> describe_empty_rows("train", {"x": np.zeros((3, 1)), "x_mask": mask}, ["x"])
        ["2 of 3 rows of train are empty, with no number of 'x': rows 1, 2; their log evidence is 0"]
    """
    masks = [mask_of(name) for name in names if mask_of(name) in arrays]
    if not masks:
        return []
    empty = np.concatenate(
        [
            ~np.logical_or.reduce([mask.reshape(len(mask), -1).any(1) for mask in block.values()])
            for block in blocks_of(arrays, masks)
        ]
    )
    if not empty.any():
        return []
    rows = np.flatnonzero(empty)
    shown = ", ".join(map(str, rows[:MOST_ROWS])) + (", ..." if len(rows) > MOST_ROWS else "")
    are, row = ("is", "row") if len(rows) == 1 else ("are", "rows")
    return [
        f"{len(rows)} of {len(empty)} rows of {part} {are} empty, with no number of {' or '.join(map(repr, names))}: "
        f"{row} {shown}; their log evidence is 0"
    ]


def describe_column(name: str, at: Sequence[Any] | np.ndarray, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the place of a number in a datum in words: the name of its column if it is known.

    Example:
        >>> describe_column("x", (3,), {}), describe_column("w", (), {})
        ("column 3 of 'x'", "'w'")
    """
    columns = NamedArrays(arrays).columns.get(name, ())
    if len(columns) > 1 and len(at) == 1:
        return f"column {columns[int(at[0])].name!r}"
    return f"column {' '.join(map(str, at))} of {name!r}" if len(at) else repr(name)


def fill_missing(
    owner: str,
    arrays: Sequence[Any],
    arguments: Sequence[str],
    missing: Mapping[str, np.ndarray],
    like: Mapping[str, np.ndarray],
    columns: FitColumns = MappingProxyType({}),
    usual: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Replace the missing numbers of a column by its mean, or by the replacement that is known for it.

    Args:
        owner: name of the object that is called, for messages.
        arrays: arrays in the order of the model's arguments, or one mapping; a missing number is NaN.
        arguments: names of the model's arguments.
        missing: masks of further missing numbers, Boolean arrays by name.
        like: rows of each argument, for the mean of a column without any number.
        columns: the columns in the fit, by the name of the array, see ``match_columns``.
        usual: what stands in the place of a missing number of an array, if it is known, see ``Holes``.

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
    opened: dict[str, np.ndarray] = {}
    holes: dict[str, np.ndarray] = {}
    for name, array in named.items():
        real, hole = array.dtype.kind == "f", holes_of(array)
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
            opened[name] = np.where(hole, np.array(np.nan, array.dtype if real else np.float64), array)
    places = dict(usual)
    for name, of_array in column_statistics(blocks_of(opened, opened.keys() - usual.keys())).items():
        other = like[name].mean(0) if name in like else np.zeros(of_array.mean.shape)
        places[name] = np.where(of_array.known > 0, of_array.mean, other)
    filled = Holes(places).fill(opened)
    return {name: filled.get(name, array) for name, array in named.items()}, holes
