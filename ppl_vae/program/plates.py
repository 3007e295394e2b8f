"""Plates whose size is not written as the size of the batch: without a size, or with a total and a subsample of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from pyro.poutine.broadcast_messenger import BroadcastMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.errors import InputError


class SizedPlates(Messenger):
    """A handler that gives plates of a run on a batch their sizes, as if ``len(x)`` was written there.

    A plate without a size, ``pyro.plate("data")``, has the size of the dimension that it stands for, or that of the
    batch. A plate of all data, ``pyro.plate("data", N, subsample_size=len(x))``, holds the rows of the batch in their
    order, also if there are more than ``N``; its total ``N`` stays in its frame, and is undone in every density.

    Args:
        num_data: the number of rows of the batch.

    Attributes:
        acted: True if a plate of the run needed this.
    """

    def __init__(self, num_data: int) -> None:
        super().__init__()
        self.num_data, self.acted = num_data, False

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            self._choose_rows(msg)
        elif any(frame.size == -1 for frame in msg["cond_indep_stack"]):
            self.acted = True
            msg["cond_indep_stack"] = tuple(self._sized(frame, msg) for frame in msg["cond_indep_stack"])
            BroadcastMessenger._pyro_sample(msg)

    def _choose_rows(self, msg: Any) -> None:
        total, size = msg["fn"].size, msg["fn"].subsample_size
        if size is None or size == total:
            return
        if size == self.num_data:
            self.acted = True
            if msg["value"] is None:
                msg["value"] = torch.arange(size, device=msg["fn"].device)
        elif total == self.num_data:
            self.acted = True
            raise InputError(
                f"the plate {msg['name']!r} takes {size} of the {total} rows that the model is given: remove "
                f"subsample_size, and choose the number of rows of a step by batch_size"
            )

    def _sized(self, frame: Any, msg: Any) -> Any:
        if frame.size != -1 or frame.dim is None:
            return frame
        shape = msg["fn"].batch_shape
        size = shape[frame.dim] if len(shape) >= -frame.dim else 1
        size = self.num_data if size == 1 else size
        return frame._replace(size=size, full_size=size)


def with_sized_plates(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a model or a guide whose plates have sizes, see ``SizedPlates``.

    Example:
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("data"):
        ...         return pyro.sample("z", dist.Normal(0.0, 1.0))
        >>> with_sized_plates(model)(torch.zeros(5)).shape
        torch.Size([5])
    """

    @wraps(function, assigned=(), updated=())
    def sized(*batch: Tensor) -> Any:
        with SizedPlates(len(batch[0])):
            return function(*batch)

    return sized
