"""The processes that work together, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError, reason

PATIENCE, CONNECTING = timedelta(minutes=30), timedelta(minutes=2)
"""The longest time that a process waits for another one, and for the others' word that they are connected as well."""


class LostProcess(RuntimeError):
    """The error for a process that has ended, or does not answer, while others wait for it."""


class Ranks:
    """The processes that work together, and the place of this one among them.

    An object of this class is a process that works alone, for which all that follows costs nothing.

    Attributes:
        rank: the number of this process, from 0.
        size: the number of processes.
        local_size: the number of them on this machine, which share its memory.

    Example:
        >>> ranks, gradient = Ranks(), torch.ones(3)
        >>> ranks.sum_(gradient), gradient, ranks.gather("mine")
        (None, tensor([1., 1., 1.]), ['mine'])
    """

    rank, size, local_size = 0, 1, 1

    @property
    def is_first(self) -> bool:
        """True for the process that writes and prints."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Return the seed of this process's draws; the first process has the seed as it is."""
        if self.is_first:
            return seed
        return int(np.random.SeedSequence([seed, self.rank]).generate_state(1, np.uint64)[0] >> 1)

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes, which have the same bits everywhere.

        Raises:
            LostProcess: another process has ended.
        """

    def gather(self, value: Any) -> list[Any]:
        """Return a small value of every process, by rank."""
        return [value]

    def gather_rows(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray | None:
        """Return the rows of all processes, by rank, on the first process, and None on the others.

        Args:
            rows: the rows of this process, ``(n, ...)``.
            out: an array for all rows, which the first process has.
        """
        return rows

    def total(self, number: float) -> float:
        """Return the sum of a number over all processes, added in the order of the ranks."""
        numbers = self.gather(number)
        return sum(numbers[1:], numbers[0])

    def decide(self, choice: bool) -> bool:
        """Return the choice of the first process."""
        return self.gather(choice)[0]

    def check_equal(self, what: str, value: Any, remedy: str) -> None:
        """Check that all processes have the same value, such as a digest.

        Raises:
            InputError: they have not.
        """
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise InputError(f"{what} of process {rank} differ from those of process 0: {remedy}")

    def may_report(self) -> bool:
        """Return True for the first process that asks: an error is reported once, by the one that raised it first."""
        return True

    def remember(self, name: str, value: str) -> None:
        """Keep a text for this process's successor, if the launcher starts all processes again."""

    def recall(self, name: str) -> str | None:
        """Return what a process before a restart remembered, or None."""
        return None


ALONE = Ranks()
_present: Ranks = ALONE


def present() -> Ranks:
    """Return the processes that this one has ``joined``; ``ALONE`` if it has not."""
    return _present


class _Group(Ranks):
    """Several processes, which ``torch.distributed`` connects."""

    def __init__(self, store: Any, rank: int, size: int, attempt: int) -> None:
        self.rank, self.size, self.local_size = rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._store, self._attempt = store, attempt

    def sum_(self, tensor: Tensor) -> None:
        with _lost(self):
            torch.distributed.all_reduce(tensor)

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.size
        with _lost(self):
            torch.distributed.all_gather_object(values, value)
        return values

    def gather_rows(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray | None:
        numbers = self.gather(len(rows))
        if not self.is_first:
            for block in _blocks(len(rows), rows):
                with _lost(self):
                    torch.distributed.send(torch.from_numpy(np.array(rows[block])), 0)
            return None
        whole = np.empty((sum(numbers), *rows.shape[1:]), rows.dtype) if out is None else out
        whole[: len(rows)] = rows
        start = len(rows)
        for other, number in enumerate(numbers[1:], 1):
            for block in _blocks(number, rows):
                received = torch.from_numpy(np.empty((block.stop - block.start, *rows.shape[1:]), rows.dtype))
                with _lost(self):
                    torch.distributed.recv(received, other)
                whole[start + block.start : start + block.stop] = received.numpy()
            start += number
        return whole

    def may_report(self) -> bool:
        try:
            return self._store.add(f"reports of attempt {self._attempt}", 1) == 1
        except Exception:  # the store has gone with the process that reported first
            return False

    def remember(self, name: str, value: str) -> None:
        try:
            self._store.set(name, value)
        except Exception as error:
            raise self._gone() from error

    def recall(self, name: str) -> str | None:
        try:
            return self._store.get(name).decode() if self._store.check([name]) else None
        except Exception as error:
            raise self._gone() from error

    def _gone(self) -> LostProcess:
        return LostProcess(
            f"one of the {self.size} processes has ended, or does not answer: its own message is above if it was not "
            f"killed; --resume goes on after the last checkpoint"
        )


def _blocks(number: int, rows: np.ndarray, most: int = 2**24) -> Iterator[slice]:
    """Yield ranges of rows whose numbers take about 16 MB."""
    step = max(1, most // max(1, rows[:1].nbytes or rows.dtype.itemsize))
    for start in range(0, number, step):
        yield slice(start, min(number, start + step))


@contextmanager
def _lost(group: _Group) -> Iterator[None]:
    """Turn the error of a connection into a ``LostProcess``."""
    try:
        yield
    except RuntimeError as error:
        raise group._gone() from error


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` has started, and leave them at the end.

    Inside the block, a fit is one of all processes together. Gradients are reduced by NCCL on GPUs, and by gloo on
    CPUs. A process that no launcher has started works alone.

    Raises:
        InputError: the others cannot be reached, or there are fewer GPUs than processes on this machine.

    Example:
        >>> with joined() as ranks:
        ...     ranks.size
        1
    """
    global _present
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or _present is not ALONE:
        yield _present
        return
    _present = _connect()
    try:
        yield _present
    finally:
        _present = ALONE
        torch.distributed.destroy_process_group()


def _connect() -> Ranks:
    """Connect this process to the others, and give it a GPU of its own if there are any."""
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend = "gloo"
    if torch.cuda.is_available():
        local, own = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > own:
            raise InputError(
                f"there are {os.environ['LOCAL_WORLD_SIZE']} processes on a machine with {own} GPUs: start {own}, or "
                f"hide the GPUs, CUDA_VISIBLE_DEVICES=''"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
        torch.distributed.init_process_group(
            backend, store=PrefixStore(f"attempt {attempt}", store), rank=rank, world_size=size, timeout=PATIENCE
        )
        connected = PrefixStore(f"connected in attempt {attempt}", store)
        connected.set(str(rank), "")
        connected.wait([str(other) for other in range(size)], CONNECTING)  # the end of one would stop others' start
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the processes that torchrun has started cannot reach each other: {reason(error)}") from error
    return _Group(PrefixStore("ppl_vae", store), rank, size, attempt)
