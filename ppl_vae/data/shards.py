"""Data in several files of one format, the shards, as one source."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ppl_vae.data.kinds import Variable
from ppl_vae.data.source import NamedArrays, Source, concatenate, ends_of_blocks, pieces_of, stamp
from ppl_vae.data.transformed import choose_source
from ppl_vae.errors import InputError

MOST_OPEN = 16
"""The largest number of shards that are held open."""


class Shards:
    """The rows of several files with one schema, one file after the other.

    Every shard is opened once, for its number of rows and its schema, and opened again when its rows are read. A read
    costs that of the shards that it touches.

    Args:
        where: name of the data, for messages.
        paths: paths of the shards, in the order of their rows.
        open_shard: a function from a path to a source.

    Raises:
        InputError: there is no shard, one is empty, or one has another schema than the first.
    """

    def __init__(self, where: str, paths: Sequence[Path], open_shard: Callable[[Path], Source]) -> None:
        if not paths:
            raise InputError(f"{where} has no shards: expected files of one format")
        self.paths, self._open = tuple(paths), open_shard
        self._held: OrderedDict[int, Source] = OrderedDict()
        self._lock = threading.Lock()
        counts: list[int] = []
        self.block_rows = 1
        ends: list[np.ndarray | None] = []
        for index, path in enumerate(paths):
            shard = self._shard(index)
            if index == 0:
                self.shapes, self.dtypes = dict(shard.shapes), dict(shard.dtypes)
                self.columns: Mapping[str, tuple[Variable, ...]] = dict(shard.columns)
            elif (difference := _difference(self, shard)) is not None:
                raise InputError(
                    f"{path} has another schema than {paths[0]}: {difference}; save it again, or remove it"
                )
            if shard.num_rows == 0:
                raise InputError(f"{path} is empty: expected at least one row in every shard; remove it")
            of_shard = ends_of_blocks(shard)
            ends.append(None if of_shard is None else of_shard + sum(counts))
            counts.append(shard.num_rows)
            self.block_rows = max(self.block_rows, min(shard.block_rows, shard.num_rows))
        self._ends = np.cumsum(counts, dtype=np.int64)
        self.num_rows = int(self._ends[-1])
        known = [of_shard for of_shard in ends if of_shard is not None]
        self.block_ends = np.concatenate(known) if len(known) == len(ends) else None

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows."""
        pieces = []
        for index, own in pieces_of(self._ends, rows):
            read = self._shard(index).read(own)
            if any(len(array) != own.stop - own.start for array in read.values()):
                raise InputError(f"{self.paths[index]} has changed since it was opened: it has fewer rows")
            pieces.append(read)
        return concatenate(self, pieces)

    @property
    def identity(self) -> str:
        """A text that changes if a shard is written anew."""
        return stamp(self.paths)

    def choose(self, names: Iterable[str]) -> Shards:
        """Return some of the arrays; the others are not read if a shard can leave them out."""
        chosen, whole = tuple(names), self._open
        other = object.__new__(Shards)
        other.__dict__.update(vars(self), _held=OrderedDict(), _lock=threading.Lock())
        other._open = lambda path: choose_source(whole(path), chosen)
        other.shapes = {name: self.shapes[name] for name in chosen}
        other.dtypes = {name: self.dtypes[name] for name in chosen}
        other.columns = {name: columns for name, columns in self.columns.items() if name in chosen}
        return other

    def _shard(self, index: int) -> Source:
        with self._lock:
            if index not in self._held:
                self._held[index] = self._open(self.paths[index])
                while len(self._held) > MOST_OPEN:
                    self._held.popitem(last=False)
            self._held.move_to_end(index)
            return self._held[index]


def join_shards(where: str, paths: Sequence[Path], open_shard: Callable[[Path], Source]) -> Source:
    """Return the rows of one or several files of one schema."""
    return open_shard(paths[0]) if len(paths) == 1 else Shards(where, paths, open_shard)


def sort_naturally(paths: Sequence[Path]) -> list[Path]:
    """Return paths in the order of their names, in which numbers count as numbers.

    Example:
        >>> [path.name for path in sort_naturally([Path("part-10.npy"), Path("part-9.npy")])]
        ['part-9.npy', 'part-10.npy']
    """

    def key(path: Path) -> list[tuple[int, int, str]]:
        pieces = re.split(r"(\d+)", str(path))
        return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces]

    return sorted(paths, key=key)


def _difference(first: Source, other: Source) -> str | None:
    """Describe the first difference of two schemas; None if there is none."""
    for name in dict.fromkeys([*first.shapes, *other.shapes]):
        if name not in other.shapes:
            return f"it lacks the array {name!r}"
        if name not in first.shapes:
            return f"its array {name!r} is not in the others"
        names = [[column.name for column in source.columns.get(name, ())] for source in (first, other)]
        if names[0] != names[1]:
            odd = next((a, b) for a, b in zip([*names[0], None], [*names[1], None], strict=False) if a != b)
            return f"its column {odd[1]!r} stands where {odd[0]!r} is"
        if first.shapes[name] != other.shapes[name]:
            return f"a datum of {name!r} has shape {other.shapes[name]} for {first.shapes[name]}"
        if first.dtypes[name] != other.dtypes[name]:
            return f"{name!r} has dtype {other.dtypes[name]} for {first.dtypes[name]}"
    return None
