"""Batches of arrays that are on the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.binarize import check_unit_interval
from ppl_vae.data.by_length import order_by_length
from ppl_vae.data.precision import to_tensor
from ppl_vae.data.sequences import LENGTHS
from ppl_vae.data.source import NamedArrays, Source, as_source, block_slices
from ppl_vae.data.split import SUBSET_STREAM, generator
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.trimming import trim
from ppl_vae.errors import InputError, nearest


class Batches:
    """Batches of named arrays, each a tuple of tensors in the order of ``names``.

    The arrays are copied to the device once, and a batch is looked up there by index, without worker processes. Those
    of a source on disk are read block by block, so that they are never held twice. The last batch is smaller if the
    batch size does not divide the number of data.

    Args:
        arrays: arrays of shape ``(N, ...)`` by name, or another source of them.
        names: names of the arrays in a batch, in this order: the arguments of ``model``.
        batch_size: number of data in a batch, ``B``.
        device: device of the arrays.
        dtype: the type of real numbers, the precision of the program; other whole numbers become int64, and other
            Booleans stay.
        real: names of arrays whose whole numbers and Booleans become real numbers too, because a likelihood observes
            them.
        dynamic: names of arrays of probabilities; a batch has Bernoulli draws with these probabilities, new ones
            for each seed (Burda et al., 2016).
        num_batches: number of shuffled batches; the last one takes all rows that are left. By default it is smaller
            than the others.
        group_by_length: number of shuffled batches whose sequences are sorted by length, see ``order_by_length``.

    Attributes:
        num_data: the number of data, ``N``.

    Raises:
        InputError: if a name is missing, there are no names or no rows, the batch size is below 1, arrays
            differ in length, a dynamic array does not hold probabilities, the type cannot hold a number, or data
            without lengths are to be grouped by them.

    Example:
        >>> batches = Batches({"x": np.eye(5), "y": np.arange(5)}, ["x", "y"], batch_size=2)
        >>> len(batches), batches.num_data
        (3, 5)
        >>> [y.tolist() for x, y in batches.in_order()]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        arrays: Mapping[str, Any] | Source,
        names: Sequence[str],
        batch_size: int,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        real: Collection[str] = ("x",),
        dynamic: Collection[str] = (),
        num_batches: int | None = None,
        group_by_length: int | None = None,
    ) -> None:
        source = as_source(arrays)
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: expected 1 or more")
        if not names:
            raise InputError("no names of arrays: a batch needs at least one, such as 'x'")
        for name in (*names, *dynamic):
            if name not in source.dtypes:
                raise InputError(f"the data have no array {name!r}: {nearest(name, source.dtypes)}")
        for name in dynamic:
            if source.dtypes[name].kind != "f":
                raise InputError(
                    f"dynamic array '{name}' has dtype {source.dtypes[name]}: expected real numbers in [0, 1]"
                )
        if isinstance(source, NamedArrays):
            source = NamedArrays({name: source[name] for name in names})
            self.num_data = _num_rows(source)
        elif (rows := source.num_rows) == 0:
            raise InputError(f"the arrays {', '.join(names)} are empty: expected at least one row")
        else:
            self.num_data = rows
        self.batch_size, self.names, self.device = batch_size, tuple(names), torch.device(device)
        self.num_batches = num_batches or -(-self.num_data // batch_size)
        if group_by_length is not None and LENGTHS not in names:
            raise InputError(
                f"group_by_length is {group_by_length}, and no array '{LENGTHS}' is an argument of the model: give the "
                f"lengths of the sequences, or leave the option out"
            )
        self._together = group_by_length
        self._is_dynamic = tuple(name in dynamic for name in names)
        self._types = {name: dtype if name in real or source.dtypes[name].kind == "f" else None for name in names}
        self._take(source, dynamic)

    def _take(self, source: Source, dynamic: Collection[str]) -> None:
        """Load the arrays that are used; the source may be larger."""
        self._tensors = tuple(_load(source, self._types, dynamic, self.device).values())

    trims = False
    """True if the padding of sequences is cut off, see ``trim``."""

    def __len__(self) -> int:
        """Return the number of batches, including the last, smaller one."""
        return self.num_batches

    def sizes(self, batch_size: int | None = None) -> dict[int, int]:
        """Return the number of batches by their number of rows; see ``sizes``."""
        if batch_size is not None:
            return sizes(self.num_data, batch_size)
        return dict(Counter(self._sizes()))

    def shuffled(self, seed: int, skip: int = 0, *, common_seed: int | None = None) -> Iterator[tuple[Tensor, ...]]:
        """Yield every datum once, in an order and with draws that depend on the seeds alone.

        The global random state does not change. The order is the same on every device; the draws are not.

        Args:
            seed: the seed.
            skip: the number of batches at the beginning that are left out; the others are the same.
            common_seed: the seed of the order of batches by length; by default the same seed. Processes that train
                together have one in common, so that their sequences are of similar length.
        """
        order_generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.num_data, generator=order_generator).to(self.device)
        if self._together:
            lengths = self._tensors[self.names.index(LENGTHS)][order]
            common_seed = seed if common_seed is None else common_seed
            order = order[order_by_length(lengths, self._sizes(), self._together, common_seed)]
        draws = self._draws(order_generator)
        for number, rows in enumerate(order.split(self._sizes())):
            if number >= skip or any(self._is_dynamic):  # the draws of a batch follow those of the one before
                batch = self._batch((tensor.index_select(0, rows) for tensor in self._tensors), draws)
                if number >= skip:
                    yield batch

    def in_order(self, seed: int = 0, *, batch_size: int | None = None) -> Iterator[tuple[Tensor, ...]]:
        """Yield every datum once, in the order of the rows.

        Args:
            seed: seed of the draws of dynamic arrays.
            batch_size: number of data in a batch; by default the same as in shuffled batches.

        Yields:
            Tensors; those that are not dynamic are views, so do not write to them.
        """
        draws = self._draws(torch.Generator().manual_seed(seed))
        size = batch_size or self.batch_size
        for start in range(0, self.num_data, size):
            rows = slice(start, start + size)
            yield self._batch((tensor[rows] for tensor in self._tensors), draws)

    def _sizes(self) -> list[int]:
        """Return the number of rows of each shuffled batch."""
        before = (self.num_batches - 1) * self.batch_size
        return [self.batch_size] * (self.num_batches - 1) + [self.num_data - before]

    def _draws(self, parent: torch.Generator) -> torch.Generator:
        seed = int(torch.randint(2**31, (), generator=parent))
        return torch.Generator(self.device).manual_seed(seed)

    def _batch(self, tensors: Iterator[Tensor], draws: torch.Generator) -> tuple[Tensor, ...]:
        batch = tuple(
            torch.bernoulli(tensor, generator=draws) if is_dynamic else tensor
            for tensor, is_dynamic in zip(tensors, self._is_dynamic, strict=True)
        )
        return trim(self.names, batch) if self.trims else batch


def sizes(num_data: int, batch_size: int) -> dict[int, int]:
    """Return the number of batches by their number of rows.

    Example:
        >>> sizes(5, batch_size=2)
        {2: 2, 1: 1}
    """
    counts = {batch_size: num_data // batch_size, num_data % batch_size: 1}
    return {rows: count for rows, count in counts.items() if rows and count}


def subset(arrays: Mapping[str, Any], num_data: int | None, seed: int) -> Mapping[str, Any]:
    """Return some rows of every array, drawn at random without replacement, in ascending order.

    Args:
        arrays: arrays of shape ``(N, ...)`` by name, or ``StoredRows`` of a source on disk.
        num_data: number of rows; None, or ``N`` and more, means all of them.
        seed: seed of the choice of rows.

    Returns:
        Arrays of shape ``(num_data, ...)`` by name; all rows of a source on disk stay there.

    Raises:
        InputError: if ``num_data`` is below 1, the seed is negative, or arrays differ in length.

    Example:
        >>> y = subset({"y": np.arange(100)}, 3, seed=0)["y"]
        >>> len(set(y.tolist())), bool((np.diff(y) > 0).all())
        (3, True)
    """
    total = arrays.num_rows if isinstance(arrays, StoredRows) else _num_rows(arrays)
    if num_data is None or num_data >= total:
        return arrays if isinstance(arrays, StoredRows) else dict(arrays)
    if num_data < 1:
        raise InputError(f"num_data is {num_data}: expected 1 or more, or None for all {total} rows")
    rows = np.sort(generator(seed, SUBSET_STREAM).choice(total, size=num_data, replace=False))
    return (
        dict(arrays.rows(rows)) if isinstance(arrays, StoredRows) else {k: values[rows] for k, values in arrays.items()}
    )


def _load(
    source: Source, types: Mapping[str, torch.dtype | None], dynamic: Collection[str], device: str | torch.device
) -> dict[str, Tensor]:
    """Read arrays of a source to the device, block by block; a type of None is that of whole numbers."""
    whole: dict[str, Tensor] = {}
    for rows in block_slices(source):
        block = source.read(rows)
        for name in set(dynamic) & set(types):
            check_unit_interval(f"dynamic array '{name}'", block[name])
        for name, dtype in types.items():
            tensor = to_tensor(name, block[name], dtype, device)
            if len(tensor) == source.num_rows:
                whole[name] = tensor
                continue
            if name not in whole:
                whole[name] = tensor.new_empty((source.num_rows, *source.shapes[name]))
            whole[name][rows] = tensor
    return whole


def _num_rows(arrays: Mapping[str, np.ndarray]) -> int:
    sizes = {name: len(values) for name, values in arrays.items()}
    if len(set(sizes.values())) != 1:
        counts = ", ".join(f"'{name}' {size}" for name, size in sizes.items())
        raise InputError(f"arrays differ in their number of rows ({counts}): every array needs one row a datum")
    num_rows = next(iter(sizes.values()))
    if num_rows == 0:
        raise InputError(f"the arrays {', '.join(sizes)} are empty: expected at least one row")
    return num_rows
