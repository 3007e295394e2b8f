"""Map-style data sets of PyTorch as a source, and those of its loaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)
from torch.utils.data import Dataset as TorchDataset

from ppl_vae.data.kinds import Variable
from ppl_vae.data.precision import to_native
from ppl_vae.data.source import NamedArrays
from ppl_vae.errors import InputError


def dataset_of(where: str, loader: DataLoader[Any]) -> TorchDataset[Any]:
    """Return the data set of a DataLoader, whose rows are then read in their own order.

    The size of a batch and the shuffling are those of the fit's options, so that those of the loader have no effect.

    Args:
        where: name of the call, for messages.
        loader: the loader.

    Raises:
        InputError: the loader gives other data than its data set: it draws rows by a sampler, or changes them.

    Example:
        >>> import torch
        >>> rows = torch.utils.data.TensorDataset(torch.ones(3, 2))
        >>> dataset_of("fit", DataLoader(rows, batch_size=2, shuffle=True)) is rows
        True
    """
    if loader.collate_fn not in (default_collate, default_convert):
        raise InputError(f"{where}: the collate_fn of the DataLoader may change its data: pass the data that it makes")
    rows: Any = loader.dataset
    sampler: Any = getattr(loader.batch_sampler, "sampler", loader.sampler)
    whole = isinstance(sampler, SequentialSampler) or (isinstance(sampler, RandomSampler) and not sampler.replacement)
    if not isinstance(rows, IterableDataset) and not (whole and len(sampler) == len(rows)):
        raise InputError(
            f"{where}: the {type(sampler).__name__} of the DataLoader chooses among its rows: pass the rows that are "
            f"meant, such as torch.utils.data.Subset(loader.dataset, rows)"
        )
    return rows


class TorchRows:
    """The rows of a map-style data set of PyTorch, each of which it makes when it is asked.

    A read costs ``__getitems__`` of its rows if the data set has it, and ``__getitem__`` of each row otherwise. The
    types and shapes are those of the first row. No row may depend on when it is read: a random augmentation belongs
    into the model.

    Args:
        where: name of the call, for messages.
        rows: the data set.
        arguments: names of the parts of a row that is a tuple, those of the model's arguments.
        to_array: a function from a name and what a row holds to a NumPy array.

    Raises:
        InputError: the data set has no length or no rows, or a row has other parts than the first.

    Example:
        >>> import torch
        >>> rows = torch.utils.data.TensorDataset(torch.ones(3, 2), torch.arange(3))
        >>> source = TorchRows("fit", rows, ["x", "y"], lambda name, value: np.asarray(value))
        >>> source.num_rows, source.shapes, source.read(slice(1, 3))["y"].tolist()
        (3, {'x': (2,), 'y': ()}, [1, 2])
    """

    def __init__(self, where: str, rows: TorchDataset[Any], arguments: Sequence[str], to_array: Any) -> None:
        self.where, self.rows, self.arguments, self.to_array = where, rows, tuple(arguments), to_array
        if not hasattr(rows, "__len__"):
            raise InputError(f"{where}: a {type(rows).__name__} has no length: pass its arrays")
        self.num_rows = len(rows)
        if self.num_rows == 0:
            raise InputError(f"{where}: the {type(rows).__name__} is empty: expected at least one row")
        first = self._named(rows[0])
        self.shapes = {name: array.shape for name, array in first.items()}
        self.dtypes = {name: array.dtype for name, array in first.items()}
        self.columns: Mapping[str, tuple[Variable, ...]] = {}
        self.block_rows = 1

    def read(self, rows: slice) -> NamedArrays:
        """Return a block of rows."""
        numbers = list(range(*rows.indices(self.num_rows)))
        many = getattr(self.rows, "__getitems__", None)
        parts = many(numbers) if many is not None and numbers else [self.rows[number] for number in numbers]
        read = {n: np.empty((len(numbers), *self.shapes[n]), dtype) for n, dtype in self.dtypes.items()}
        for index, part in enumerate(parts):
            named = self._named(part)
            for name, target in read.items():
                fits = name in named and named[name].shape == self.shapes[name]
                if not fits or not np.can_cast(named[name].dtype, target.dtype, "same_kind"):
                    raise InputError(
                        f"{self.where}: the rows of the {type(self.rows).__name__} differ in shape, type or parts: "
                        f"row {numbers[index]} is not like row 0"
                    )
                target[index] = named[name]
        return NamedArrays(read)

    def _named(self, row: Any) -> dict[str, np.ndarray]:
        if isinstance(row, Mapping):
            named = dict(row)
        else:
            parts = row if isinstance(row, tuple | list) else (row,)
            if len(parts) > len(self.arguments):
                raise InputError(
                    f"{self.where}: {len(parts)} arrays given, the model takes {len(self.arguments)}: "
                    f"{', '.join(self.arguments)}"
                )
            named = dict(zip(self.arguments, parts, strict=False))
        arrays = {name: self.to_array(f"{self.where}: array {name!r}", value) for name, value in named.items()}
        return {name: to_native(f"{self.where}: array {name!r}", array) for name, array in arrays.items()}
