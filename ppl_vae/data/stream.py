"""Batches of data that do not fit in memory: blocks in a random order, shuffled in a bounded buffer, read ahead."""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import repeat
from threading import Event
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.ahead import read_ahead
from ppl_vae.data.batches import Batches
from ppl_vae.data.binarize import check_unit_interval
from ppl_vae.data.blocks import cut_blocks
from ppl_vae.data.by_length import order_by_length
from ppl_vae.data.memory import describe_size, empty_tensor, memory_for_data
from ppl_vae.data.precision import write_numbers
from ppl_vae.data.sequences import LENGTHS
from ppl_vae.data.source import NamedArrays, Source, as_source, read_rows, takes_rows
from ppl_vae.data.sparse import SparseRows
from ppl_vae.data.trimming import Tensors

MOST_BUFFER = 2**30
"""The largest size of a buffer: with more blocks in it, the order is no better, and the first batch comes later."""
SHARE_OF_BUFFER = 0.25
"""The share of the memory for data that a buffer takes. There are two, and a reader decodes what it reads."""
NOTABLE = 1.5
"""The ``excess`` from which on it is reported."""
SMALL = 2**26
"""The size of data that always fit if the user gives no other memory: it is not measured then."""
TAKEN_BYTES = 2**22
"""The size of what is read at once of rows that cost their own bytes only."""
IN_ORDER_BYTES = 2**24
"""The size of what is read at once for batches in the order of the rows."""


class StreamedBatches(Batches):
    r"""Batches of named arrays that are read while they are used, and that do not have to fit in memory.

    The rows of a source are cut into blocks, and an epoch visits the blocks in a random order. It fills a buffer with
    :math:`G` blocks, shuffles all of their rows, and cuts them into batches. While these are used, a thread fills a
    second buffer. The rows that are left over begin the first batch of the next buffer, so that the batches have the
    sizes of ``Batches``. The order depends on the seed alone, and not on the time that a read takes.

    This is not a full shuffle: two rows of a batch come from one block more often than by chance. If the rows of a
    block are all alike, which is the worst case (a file that is sorted by class), the mean of any function over a batch
    of :math:`B` rows has the variance

    .. math:: \frac{\sigma^2}{B} \Bigl(1 + (B - 1) \Bigl(\rho - \frac{1 - \rho}{K - 1}\Bigr)\Bigr),
        \qquad \rho = \frac{b - 1}{G b - 1},

    for :math:`K` blocks of :math:`b` rows. Divided by the variance under a full shuffle, it is ``excess``.
    Thousands of small blocks fit in a buffer, so that ``excess`` is near one. A file whose natural blocks are large,
    such as the row groups of Parquet, has fewer.

    Args:
        arrays: arrays of shape ``(N, ...)`` by name, or another source of them.
        names: names of the arrays in a batch, in this order.
        batch_size: number of data in a batch, ``B``.
        buffer_bytes: the size of a buffer, of which there are two; it holds a block and a batch at least.
        options: further arguments of ``Batches``. On a GPU, the buffers are there, and are copied to it from pinned
            memory. The dynamic draws of a batch depend on the seed and on the number of the batch. Batches whose
            sequences are sorted together lie in one buffer.

    Attributes:
        num_data: the number of data, ``N``.
        block_rows: the number of rows of a block, ``b``.
        num_blocks: the number of blocks.
        blocks_at_once: the number of blocks in a buffer, ``G``.

    Raises:
        InputError: see ``Batches``; what is wrong with a value is known when its block is read.

    Example:
        >>> batches = StreamedBatches({"y": np.arange(50)}, ["y"], batch_size=20, buffer_bytes=80)
        >>> batches.num_blocks, batches.blocks_at_once
        (50, 20)
        >>> sizes, rows = zip(*[(len(y), y) for y, in batches.shuffled(seed=0)])
        >>> sizes, torch.cat(rows).sort().values.equal(torch.arange(50))
        ((20, 20, 10), True)
    """

    def __init__(
        self,
        arrays: Mapping[str, Any] | Source,
        names: Sequence[str],
        batch_size: int,
        *,
        buffer_bytes: int = MOST_BUFFER,
        **options: Any,
    ) -> None:
        self._buffer_bytes = buffer_bytes
        super().__init__(arrays, names, batch_size, **options)

    def _take(self, source: Source, dynamic: Collection[str]) -> None:
        """Cut the rows into blocks, which are read while the batches are used."""
        self._source = source
        self._ends = cut_blocks(source, self.row_bytes, self.batch_size, self._buffer_bytes)
        self._sizes_of_blocks = np.diff(self._ends, prepend=0)
        self.num_blocks, self.block_rows = len(self._ends), int(self._sizes_of_blocks.max())
        least = -(-self.batch_size // self.block_rows)
        most = max(least, int(self._buffer_bytes / (self.block_rows * self.row_bytes)))
        self.blocks_at_once = min(self.num_blocks, most)

    @property
    def row_bytes(self) -> int:
        """The number of bytes of a datum on the device."""
        return bytes_of_rows(self._source, self._types)

    @property
    def excess(self) -> float:
        """The variance of the mean over a batch, over that under a full shuffle, if a block's rows are all alike."""
        if self.num_blocks == 1:
            return 1.0
        rows, others = self.block_rows, min(self.batch_size, self.num_data) - 1
        together = (rows - 1) / max(1, self.blocks_at_once * rows - 1)
        apart = (1 - together) / (self.num_blocks - 1)
        return (1 + others * (together - apart)) / (1 - others / max(1, self.num_data - 1))

    def describe(self) -> str:
        """Describe in one line what is streamed, and how well it is shuffled."""
        size = self.row_bytes
        doubt = (
            f"; the mean of a batch may have {self.excess:.1f} times the variance of a full shuffle: take more "
            f"--memory, or write the file in smaller blocks"
        )
        return (
            f"{self.num_data:,} data ({describe_size(self.num_data * size)}) are streamed: {self.blocks_at_once:,} of "
            f"{self.num_blocks:,} blocks at a time are shuffled in a buffer of "
            f"{describe_size(self.blocks_at_once * self.block_rows * size)}{doubt if self.excess > NOTABLE else ''}"
        )

    def shuffled(self, seed: int, skip: int = 0, *, common_seed: int | None = None) -> Iterator[Tensors]:
        """Yield every datum once, see ``Batches.shuffled``.

        Closing the iterator, or dropping it, stops the thread that reads ahead.
        """
        order = torch.randperm(self.num_blocks, generator=torch.Generator().manual_seed(seed)).numpy()
        number_of_groups = -(-self.num_blocks // self.blocks_at_once)
        groups = [np.sort(group) for group in np.array_split(order, number_of_groups)]
        ends = np.cumsum([self._count(group) for group in groups])
        sizes = self._sizes()
        start = sum(sizes[:skip])
        first = int(np.searchsorted(ends, start, side="right"))
        offset = start - (int(ends[first - 1]) if first else 0)

        def shuffle() -> Generator[tuple[Tensors, Tensor], None, None]:
            with closing(self._read_in_turn(groups[first:])) as read:
                for number, tensors in enumerate(read, first):
                    mixing = torch.Generator().manual_seed(_mixed(seed, 0, number))
                    rows = torch.randperm(len(tensors[0]), generator=mixing).to(self.device)
                    if self._together:
                        cuts = _sizes_between(sizes, int(ends[number]) - len(rows), int(ends[number]))
                        mixed = _mixed(seed if common_seed is None else common_seed, 2, number)
                        lengths = tensors[self.names.index(LENGTHS)][rows]
                        rows = rows[order_by_length(lengths, cuts, self._together, mixed)]
                    yield tensors, rows[offset if number == first else 0 :]

        with closing(shuffle()) as parts:
            for number, batch in enumerate(_cut(parts, sizes[skip:]), skip):
                yield self._batch(iter(batch), self._draws_of(seed, number))

    def in_order(self, seed: int = 0, *, batch_size: int | None = None) -> Iterator[Tensors]:
        """Yield every datum once, in the order of the rows, with the draws of ``Batches.in_order``."""
        draws, size = self._draws(torch.Generator().manual_seed(seed)), batch_size or self.batch_size
        at_once = max(1, IN_ORDER_BYTES // (self.block_rows * self.row_bytes))
        runs = [range(start, min(start + at_once, self.num_blocks)) for start in range(0, self.num_blocks, at_once)]

        def read(blocks: range, stopped: Event) -> Tensors:
            tensors = self._empty(self._count(np.asarray(blocks)), self.device)
            self._fill(tensors, np.asarray(blocks), stopped)
            return tensors

        with closing(read_ahead(read, runs)) as parts:
            for batch in _cut(((tensors, None) for tensors in parts), repeat(size)):
                yield self._batch(iter(batch), draws)

    def _draws_of(self, seed: int, number: int) -> torch.Generator:
        """Return the generator of the draws of a batch, so that a training can go on with any batch."""
        draws = torch.Generator(self.device)
        return draws.manual_seed(_mixed(seed, 1, number)) if any(self._is_dynamic) else draws

    def _count(self, blocks: np.ndarray) -> int:
        """Return the number of rows of some blocks."""
        return int(self._sizes_of_blocks[blocks].sum())

    def _empty(self, num_rows: int, device: torch.device, pinned: bool = False) -> Tensors:
        shapes = {name: (num_rows, *self._source.shapes[name]) for name in self.names}
        return tuple(
            empty_tensor(shapes[name], type_of(self._source, name, self._types), device, pinned=pinned)
            for name in self.names
        )

    def _read_in_turn(self, groups: Sequence[np.ndarray]) -> Generator[Tensors, None, None]:
        """Yield the rows of each group of blocks, in one of two buffers that are overwritten in turn."""
        if not groups:
            return
        most, on_gpu = max(map(self._count, groups)), self.device.type == "cuda"
        buffers = [self._empty(most, self.device) for _ in groups[:2]]
        pinned = self._empty(most, torch.device("cpu"), pinned=True) if on_gpu else ()
        stream = torch.cuda.Stream(self.device) if on_gpu else None

        def requests() -> Iterator[tuple[int, Any]]:
            for number in range(len(groups)):  # what the GPU still does with a buffer comes before it is overwritten
                yield number, torch.cuda.current_stream(self.device).record_event() if on_gpu else None

        def read(request: tuple[int, Any], stopped: Event) -> Tensors:
            number, used = request
            blocks = groups[number]
            buffer = tuple(tensor[: self._count(blocks)] for tensor in buffers[number % 2])
            if stream is None:
                self._fill(buffer, blocks, stopped)
                return buffer
            staged = tuple(tensor[: len(buffer[0])] for tensor in pinned)
            self._fill(staged, blocks, stopped)
            with torch.cuda.stream(stream):
                stream.wait_event(used)
                for target, tensor in zip(buffer, staged, strict=True):
                    target.copy_(tensor, non_blocking=True)
            stream.synchronize()
            return buffer

        yield from read_ahead(read, requests())

    def _fill(self, tensors: Tensors, blocks: np.ndarray, stopped: Event) -> None:
        """Read blocks, in ascending order, into tensors."""
        start = 0
        for block in self._read(blocks):
            if stopped.is_set():
                return
            stop = start + block.num_rows
            for name, tensor, is_dynamic in zip(self.names, tensors, self._is_dynamic, strict=True):
                if is_dynamic:
                    check_unit_interval(f"dynamic array '{name}'", block[name])
                write_numbers(name, tensor[start:stop], block[name], self._types[name])
            start = stop

    def _read(self, blocks: np.ndarray) -> Iterator[NamedArrays]:
        """Yield the rows of blocks; neighbours are read at once, and any blocks if rows cost their own bytes only."""
        firsts, ends = self._ends[blocks] - self._sizes_of_blocks[blocks], self._ends[blocks]
        if takes_rows(self._source):
            at_once = max(1, TAKEN_BYTES // (self.block_rows * self.row_bytes))
            for number in range(0, len(blocks), at_once):
                pairs = zip(firsts[number : number + at_once], ends[number : number + at_once], strict=True)
                yield read_rows(self._source, np.concatenate([np.arange(*pair) for pair in pairs]))
            return
        for run in np.split(np.arange(len(blocks)), np.flatnonzero(np.diff(blocks) != 1) + 1):
            yield self._source.read(slice(int(firsts[run[0]]), int(ends[run[-1]])))


def type_of(source: Source, name: str, types: Mapping[str, torch.dtype | None]) -> torch.dtype:
    """Return the type of an array on the device; a type of None is that of whole numbers."""
    dtype = types[name]
    if dtype is not None:
        return dtype
    return torch.bool if source.dtypes[name].kind == "b" else torch.int64


def bytes_of_rows(source: Source, types: Mapping[str, torch.dtype | None]) -> int:
    """Return the number of bytes of a row on the device."""
    return sum(math.prod(source.shapes[name]) * type_of(source, name, types).itemsize for name in types)


def choose_batches(
    arrays: Mapping[str, Any] | Source,
    names: Sequence[str],
    batch_size: int,
    *,
    memory: str | int | None = None,
    **options: Any,
) -> Batches:
    """Return batches of data that are on the device if they fit, and that are streamed if they do not.

    Args:
        arrays: arrays by name, or another source of them.
        names: names of the arrays in a batch.
        batch_size: number of data in a batch.
        memory: memory that the data may take on the device, see ``memory_for_data``.
        options: further arguments of ``Batches``.

    Example:
        >>> x = np.zeros((10_000, 50))
        >>> [type(choose_batches({"x": x}, ["x"], 8, memory=memory)).__name__ for memory in ("1MiB", None)]
        ['StreamedBatches', 'Batches']
    """
    source = as_source(arrays)
    if set(names) <= set(source.dtypes):  # a name that is missing is reported below
        dtype, real = options.get("dtype", torch.float32), options.get("real", ("x",))
        types = {name: dtype if name in real or source.dtypes[name].kind == "f" else None for name in names}
        size = source.num_rows * bytes_of_rows(source, types)
        for rows in source.values() if isinstance(source, NamedArrays) else ():
            if isinstance(rows, SparseRows):  # which stay sparse on the device
                size -= rows.size * dtype.itemsize - round(len(rows) * rows.row_bytes)
        if (memory is not None or size > SMALL) and size > (
            most := memory_for_data(memory, options.get("device", "cpu"))
        ):
            buffer = min(MOST_BUFFER, int(SHARE_OF_BUFFER * most))
            return StreamedBatches(arrays, names, batch_size, buffer_bytes=buffer, **options)
    return Batches(arrays, names, batch_size, **options)


def _cut(parts: Iterable[tuple[Tensors, Tensor | None]], sizes: Iterable[int]) -> Iterator[Tensors]:
    """Cut rows of parts, in a given order or in their own, into batches of these sizes; the last may be smaller."""
    rest: Tensors = ()
    wanted = iter(sizes)
    size = next(wanted, 0)
    for tensors, order in parts:
        total, start = len(tensors[0]) if order is None else len(order), 0
        while start < total:
            stop = min(total, start + size - (len(rest[0]) if rest else 0))
            rows = slice(start, stop)
            batch = tuple(t[rows] if order is None else t.index_select(0, order[rows]) for t in tensors)
            batch = tuple(map(torch.cat, zip(rest, batch, strict=True))) if rest else batch
            start, rest = stop, ()
            if len(batch[0]) == size:
                yield batch
                size = next(wanted, 0)
            else:
                rest = batch
    if rest:
        yield rest


def _sizes_between(sizes: Sequence[int], start: int, stop: int) -> list[int]:
    """Return the sizes of the batches, or of their pieces, that lie between two rows of an epoch.

    Example:
        >>> _sizes_between([4, 4, 2], 3, 9)
        [1, 4, 1]
    """
    ends = np.cumsum(sizes)
    return np.diff([start, *ends[(ends > start) & (ends < stop)], stop]).tolist()


def _mixed(*numbers: int) -> int:
    """Return a seed that depends on several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
