"""A source whose blocks are changed when they are read, row by row: bits of grey values, cleared padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ppl_vae.data.kinds import Variable
from ppl_vae.data.source import NamedArrays, Source, ends_of_blocks

Change = Callable[[NamedArrays, int], Mapping[str, np.ndarray]]
"""A function from a block and the number of its first row to the changed block; it looks at each row by itself."""


class Transformed:
    """The rows of a source, each changed by a function.

    Args:
        source: the source.
        change: the function, which gives the same for a row whatever stands beside it.
        name: a text that names the function and its options.
        columns: the columns of arrays, if the function changes them.

    Example:
        >>> rows = Transformed(NamedArrays({"x": np.eye(3)}), lambda block, first: {"x": block["x"] + first}, "toy")
        >>> rows.read(slice(1, 2))["x"].tolist()
        [[1.0, 2.0, 1.0]]
    """

    def __init__(
        self,
        source: Source,
        change: Change,
        name: str,
        columns: Mapping[str, tuple[Variable, ...]] | None = None,
    ) -> None:
        self.source, self.change, self.name = source, change, name
        self.columns = dict(source.columns if columns is None else columns)
        first = self.read(slice(0, 1))
        self.num_rows, self.block_rows = source.num_rows, source.block_rows
        self.shapes, self.dtypes = first.shapes, first.dtypes
        self.columns = {array: of_array for array, of_array in self.columns.items() if array in first}

    @property
    def block_ends(self) -> np.ndarray | None:
        """The ends of the blocks of the source."""
        return ends_of_blocks(self.source)

    @property
    def identity(self) -> str | None:
        """A text that changes if the source or the function changes; None if the source has none."""
        before = getattr(self.source, "identity", None)
        return before and f"{self.name}\n{before}"

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows."""
        start, _, _ = rows.indices(self.source.num_rows)
        block = self.source.read(rows)
        return NamedArrays(self.change(block, start), self.columns)


def choose_source(source: Source, names: Iterable[str]) -> Source:
    """Return some arrays of a source; the others are not read if the source can leave them out.

    Example:
        >>> choose_source(NamedArrays({"x": np.eye(2), "y": np.arange(2)}), ["y"]).shapes
        {'y': ()}
    """
    chosen = tuple(names)
    choose = getattr(source, "choose", None)
    if choose is not None:
        return choose(chosen)
    return Transformed(source, lambda block, _: {name: block[name] for name in chosen}, f"arrays {chosen}")
