"""Several ranks in a test: processes that are forked, so that nothing is imported again, or parts in one process."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import TCPStore
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae.runs.posterior import import_arviz


class Finished(NamedTuple):
    """What a rank left: the value of its function, its error, and what it has printed."""

    value: Any
    error: BaseException | None
    out: str
    err: str


class Launcher:
    """The part of a launcher that the ranks see: the store, which outlives them."""

    def __init__(self) -> None:
        import_arviz()  # what every fork would import otherwise, for seconds
        torch.optim.Adam([torch.zeros(1)])
        self.store, self.attempt = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False), -1

    def run(self, size: int, function: Callable[[], Any]) -> list[Finished]:
        """Run a function in ranks that have not joined yet, and return what each left; again is a restart."""
        self.attempt += 1
        ends = [self._fork(rank, size, function) for rank in range(size)]
        finished = []
        for process, end in ends:
            with os.fdopen(end, "rb") as pipe:
                left = pipe.read()
            finished.append(pickle.loads(left) if left else Finished(None, EOFError("it was killed"), "", ""))
            os.waitpid(process, 0)
        return finished

    def _fork(self, rank: int, size: int, function: Callable[[], Any]) -> tuple[int, int]:
        ours, theirs = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads that do not come along: none is needed
            process = os.fork()
        if process:
            os.close(theirs)
            return process, ours
        try:
            os.environ |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "LOCAL_WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(self.store.port),
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": str(self.attempt),
            }
            out, err, value, error = io.StringIO(), io.StringIO(), None, None
            with redirect_stdout(out), redirect_stderr(err):
                try:
                    value = function()
                except BaseException as caught:
                    error = caught
            with os.fdopen(theirs, "wb") as pipe:
                pipe.write(pickle.dumps(Finished(value, error, out.getvalue(), err.getvalue())))
        finally:
            os._exit(0)


def run_ranks(size: int, function: Callable[[], Any]) -> list[Any]:
    """Run a function in ranks, and return its values; the first error of a rank is raised."""
    finished = Launcher().run(size, function)
    for rank in finished:
        if rank.error is not None:
            raise rank.error
    return [rank.value for rank in finished]


class _Draws(TorchDispatchMode):
    """Keeps the draws of a function, or gives it the rows of those that another run had."""

    def __init__(self, kept: list[Tensor], rows: slice | None, num_data: int) -> None:
        super().__init__()
        self.kept, self.rows, self.num_data, self.taken = kept, rows, num_data, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded not in func.tags or not isinstance(result, Tensor):
            return result
        if self.rows is None:
            self.kept.append(result.clone())
            return result
        whole, self.taken = self.kept[self.taken], self.taken + 1
        return result.copy_(self._part(whole, result)) if func._schema.is_mutable else self._part(whole, result).clone()

    def _part(self, whole: Tensor, like: Tensor) -> Tensor:
        """Return the rows of the draws, whose dimension of data has another size; all, if all data share them."""
        if whole.shape == like.shape:
            return whole
        (axis,) = (axis for axis, size in enumerate(like.shape) if size != whole.shape[axis])
        inner = whole.unflatten(axis, (-1, self.num_data)).movedim(axis + 1, 0)[self.rows].movedim(0, axis + 1)
        return inner.flatten(axis, axis + 1)


@contextmanager
def keeping_draws(kept: list[Tensor]) -> Iterator[None]:
    """Keep the draws of torch's generator inside the block, in their order."""
    with _Draws(kept, None, 0):
        yield


@contextmanager
def same_draws(kept: list[Tensor], rows: slice, num_data: int) -> Iterator[None]:
    """Give a run on some rows of the data the draws that these rows had in the run on all of them."""
    with _Draws(kept, rows, num_data) as mode:
        yield
    assert mode.taken == len(kept), "the parts draw as often as the whole"
