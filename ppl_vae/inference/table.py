"""The variational parameters of all data, with their optimiser's state, in host memory or in a file mapped to it."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.inference.local import Rows
from ppl_vae.inference.place import Place
from ppl_vae.parallel import Ranks

if TYPE_CHECKING:
    from ppl_vae.inference.method import Method

IN_MEMORY = 2**30
"""The largest size in bytes of a table in memory; a larger table is in a temporary file."""


class Table:
    """A table of the variational parameters of all data after their last visit, one row per datum.

    There are two copies. An epoch reads one copy and writes every datum once to the other. So an epoch that is
    interrupted changes nothing that the next attempt reads.

    Args:
        num_data: number of data, ``N``.
        width: number of numbers in a family's lambda, ``P``.
        dtype: type of the numbers.

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
        """Return the rows after an epoch, ``(N, 3 P + 1)``, which are not copied."""
        return self._copies[epoch % 2]

    def restore(self, epoch: int, rows: np.ndarray) -> None:
        """Restore the rows that ``after`` returned.

        Raises:
            InputError: the table belongs to other data or to another family.
        """
        own = self._copies[epoch % 2]
        if rows.shape != own.shape or rows.dtype != own.dtype:
            raise InputError(
                f"the table of local parameters is of shape {rows.shape}, {rows.dtype}: expected {own.shape}, "
                f"{own.dtype}; it belongs to other data or another family"
            )
        own[:] = rows


def tables_at(method: Method, place: Place) -> dict[str, tuple[Table, int]]:
    """Return the tables of a method at a place of a training, and the epoch after which they are copied.

    In the middle of an epoch there are two copies of the training data's table: the one that this epoch reads, and the
    one to which it writes, ``train-next``. The validation data's table counts validations.
    """
    copies = {part: (table, place.epochs) for part, table in method.tables.items()}
    if "train" in copies and place.steps:
        copies["train-next"] = (method.tables["train"], place.epochs + 1)
    if "valid" in copies:
        copies["valid"] = (method.tables["valid"], place.validations)
    return copies


def gather_table(rows: np.ndarray, ranks: Ranks) -> np.ndarray | None:
    """Return the rows of all processes on the first of them, in the order of the data; None on the others."""
    if ranks.size == 1:
        return rows
    num_data = int(ranks.total(len(rows)))
    return ranks.gather_rows(rows, _zeros((num_data, rows.shape[1]), rows.dtype) if ranks.is_first else None)


class TableView(NamedTuple):
    """A table as one epoch sees it."""

    before: np.ndarray
    after: np.ndarray

    def read(self, numbers: Tensor, start: Rows) -> Rows:
        """Return the rows of some data; data without a visit get their rows of ``start``."""
        rows = torch.from_numpy(self.before[numbers.cpu().numpy()]).to(start.lam.device)
        return Rows.split(torch.where(rows[:, -1:].isnan(), start.joined(), rows))

    def write(self, numbers: Tensor, rows: Rows) -> None:
        """Write rows for the next epoch."""
        self.after[numbers.cpu().numpy()] = rows.joined().cpu().numpy()


def _zeros(shape: tuple[int, int], kind: np.dtype) -> np.ndarray:
    if shape[0] * shape[1] * kind.itemsize <= IN_MEMORY:
        return np.zeros(shape, kind)
    with tempfile.TemporaryFile(prefix="ppl_vae_") as file:  # the map keeps the file until the array is freed
        return np.memmap(file, dtype=kind, mode="w+", shape=shape)
