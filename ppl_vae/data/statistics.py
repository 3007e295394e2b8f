"""Statistics of the columns of arrays: their mean, scale and mode, computed block by block without what is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ppl_vae.data.frames import NamedArrays
from ppl_vae.data.kinds import CODED
from ppl_vae.data.source import block_slices
from ppl_vae.data.stored import StoredRows

NUMBERS_PER_BLOCK = 1 << 22
"""The largest number of numbers that are read at once."""


class ColumnStatistics(NamedTuple):
    """The statistics of each number of a datum, all of the shape of a datum; what is missing, NaN, has no part in them.

    A number that no datum has is counted zero times. Its mean, scale and mode are zero.
    """

    known: np.ndarray
    """The number of data that have the number."""
    mean: np.ndarray
    scale: np.ndarray
    """The standard deviation, with this number as its divisor."""
    mode: np.ndarray
    """The most frequent code of a column of codes, the smallest of those if there are several; else the mean."""

    @property
    def usual(self) -> np.ndarray:
        """The value in place of what is missing: the mode of a column of codes, and the mean of any other."""
        return self.mode


def column_statistics(
    blocks: Iterable[Mapping[str, np.ndarray]], coded: Mapping[str, Collection[int]] | None = None
) -> dict[str, ColumnStatistics]:
    r"""Return the statistics of each array, which are read one block of rows after the other.

    Means and sums of squares of two groups of data are merged by

    .. math:: m = m_1 + \frac{n_2}{n} (m_2 - m_1), \qquad S = S_1 + S_2 + \frac{n_1 n_2}{n} (m_2 - m_1)^2

    Source: Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (1979).

    Args:
        blocks: arrays of shape ``(B, ...)`` by name, block by block, see ``blocks_of``.
        coded: for an array ``(N, D)`` or ``(N,)``, the positions of the columns that are codes, 0, 1, ...

    Example:
        >>> x = np.array([[1.0, 0.0], [np.nan, 2.0], [4.0, 2.0]])
        >>> of_x = column_statistics([{"x": x[:2]}, {"x": x[2:]}], {"x": [1]})["x"]
        >>> of_x.mean[0], of_x.scale[0], of_x.usual, of_x.known
        (np.float64(2.5), np.float64(1.5), array([2.5, 2. ]), array([2, 3]))
    """
    running: dict[str, _Running] = {}
    for block in blocks:
        for name, values in block.items():
            if name not in running:
                running[name] = _Running(values.shape[1:], (coded or {}).get(name, ()))
            running[name].add(values)
    return {name: of_array.statistics() for name, of_array in running.items()}


def blocks_of(arrays: Mapping[str, np.ndarray], names: Collection[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield some of the arrays in blocks of rows that fit in memory as double precision."""
    chosen = {name: arrays[name] for name in names}
    if not chosen:
        return
    if isinstance(arrays, StoredRows):
        source = arrays.choose(names)
        for at in block_slices(source):
            yield dict(source.read(at))
        return
    num_rows = len(next(iter(chosen.values())))
    widest = max(values[:1].size for values in chosen.values())
    rows = max(1, NUMBERS_PER_BLOCK // max(1, widest))
    for start in range(0, num_rows, rows):
        yield {name: np.asarray(values[start : start + rows]) for name, values in chosen.items()}


def coded_columns(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Return the positions of the columns that are codes, by array; those of arrays that were no table are not known.

    Example:
        >>> from ppl_vae.data.kinds import Variable
        >>> coded_columns(NamedArrays({"x": np.eye(2)}, {"x": (Variable("a", "real"), Variable("b", "categorical"))}))
        {'x': (1,)}
    """
    columns = NamedArrays(arrays).columns
    return {
        name: tuple(index for index, column in enumerate(variables) if column.kind in CODED)
        for name, variables in columns.items()
    }


class _Running:
    """The statistics of an array so far."""

    def __init__(self, shape: tuple[int, ...], coded: Collection[int]) -> None:
        self.shape, self.size = shape, int(np.prod(shape))
        self.count, self.mean, self.squares = (np.zeros(self.size) for _ in range(3))
        self.codes: dict[int, np.ndarray] = {column: np.zeros(1, np.int64) for column in coded}

    def add(self, values: np.ndarray) -> None:
        """Add a block of rows."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        seen = ~np.isnan(flat)
        for column, before in self.codes.items():
            times = np.bincount(flat[seen[:, column], column].astype(np.int64), minlength=len(before))
            times[: len(before)] += before
            self.codes[column] = times
        count = seen.sum(0).astype(np.float64)
        divisor = np.maximum(count, 1)
        mean = np.where(seen, flat, 0.0).sum(0) / divisor
        squares = np.square(np.where(seen, flat - mean, 0.0)).sum(0)
        total = self.count + count
        share = count / np.maximum(total, 1)
        self.squares += squares + np.square(mean - self.mean) * self.count * share
        self.mean += (mean - self.mean) * share
        self.count = total

    def statistics(self) -> ColumnStatistics:
        """Return the statistics of all rows that were added."""
        mode = self.mean.copy()
        for column, times in self.codes.items():
            mode[column] = times.argmax()
        scale = np.sqrt(self.squares / np.maximum(self.count, 1))
        parts = (self.count.astype(np.int64), self.mean, scale, mode)
        return ColumnStatistics(*(part.reshape(self.shape) for part in parts))
