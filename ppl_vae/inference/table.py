"""The variational parameters of all data, with their optimiser's state, in host memory or in a file mapped to it."""

from __future__ import annotations

import tempfile
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.inference.local import Rows

IN_MEMORY = 2**30
"""Bytes of a table that is kept in memory; a larger one lies in a temporary file."""


class Table:
    """A row per datum: where its last visit left it.

    There are two copies. An epoch reads the one and writes the other, in which every datum is written once, so that an
    epoch that is broken off has changed nothing that the next attempt reads.

    Args:
        num_data: ``N``.
        width: numbers of a family's lambda, ``P``.
        dtype: of the numbers.

    Example:
        >>> table, numbers = Table(num_data=4, width=2), torch.tensor([3, 1])
        >>> start = Rows.at(torch.zeros(2, 2))
        >>> table.epoch(1).read(numbers, start).lam.tolist()            # none has been visited
        [[0.0, 0.0], [0.0, 0.0]]
        >>> table.epoch(1).write(numbers, start._replace(lam=torch.ones(2, 2)))
        >>> table.epoch(2).read(numbers.flip(0), start).lam.tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """

    def __init__(self, num_data: int, width: int, dtype: torch.dtype = torch.float32) -> None:
        shape = (num_data, 3 * width + 1)
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        self._copies = [_zeros(shape, kind) for _ in range(2)]
        for copy in self._copies:
            copy[:, -1] = np.nan  # the number of steps of a datum that has not been visited

    def epoch(self, number: int) -> TableView:
        """Return the view of an epoch, counted from 1."""
        return TableView(self._copies[(number - 1) % 2], self._copies[number % 2])

    def after(self, epoch: int) -> np.ndarray:
        """Return what an epoch has left, ``(N, 3 P + 1)``; not a copy."""
        return self._copies[epoch % 2]

    def restore(self, epoch: int, rows: np.ndarray) -> None:
        """Take up what ``after`` gave.

        Raises:
            InputError: it is the table of other data or of another family.
        """
        own = self._copies[epoch % 2]
        if rows.shape != own.shape or rows.dtype != own.dtype:
            raise InputError(
                f"the table of local parameters is of shape {rows.shape}, {rows.dtype}: expected {own.shape}, "
                f"{own.dtype}; it belongs to other data or another family"
            )
        own[:] = rows


class TableView(NamedTuple):
    """A table as one epoch sees it."""

    before: np.ndarray
    after: np.ndarray

    def read(self, numbers: Tensor, start: Rows) -> Rows:
        """Return rows of some data; those that have not been visited are taken from ``start``."""
        rows = torch.from_numpy(self.before[numbers.cpu().numpy()]).to(start.lam.device)
        return Rows.split(torch.where(rows[:, -1:].isnan(), start.joined(), rows))

    def write(self, numbers: Tensor, rows: Rows) -> None:
        """Leave rows for the next epoch."""
        self.after[numbers.cpu().numpy()] = rows.joined().cpu().numpy()


def _zeros(shape: tuple[int, int], kind: np.dtype) -> np.ndarray:
    if shape[0] * shape[1] * kind.itemsize <= IN_MEMORY:
        return np.zeros(shape, kind)
    with tempfile.TemporaryFile(prefix="ppl_vae_") as file:  # the map keeps it, and it goes with the array
        return np.memmap(file, dtype=kind, mode="w+", shape=shape)
