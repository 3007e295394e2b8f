"""The state that all programs of a process share: one lock, torch's random generator, and its precision."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LOCK = threading.RLock()
"""Held while a program runs. Pyro's handler stack and its parameter store, torch's random generator, its default dtype
and the precision of its matrix products belong to the process, so that two threads must take turns."""


def _begin_as_a_copy() -> None:
    """Free the lock in a process that was forked, and compute with one thread there, as PyTorch's data loaders do.

    OpenMP's threads are not copied, and GNU's OpenMP would wait for them without end.
    """
    LOCK.release()
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # a fork waits until no other thread runs a program, so that its copy is at rest
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_begin_as_a_copy)


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed torch's global generator, from which Pyro draws, and leave it as it was afterwards.

    With None the generator goes on from its current state, and is set back all the same. The lock of the process is
    held inside the block, and is taken before the state of the generator is read.

    Example:
        >>> with seeded(3):
        ...     a = torch.rand(())
        >>> with seeded(3):
        ...     bool(a == torch.rand(()))
        True
    """
    with LOCK:
        devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices):
            if seed is not None:
                _seed(seed)
            yield


def _seed(seed: int) -> None:
    """Seed the processor's generator, and those of accelerators if there are any.

    Without one, ``torch.manual_seed`` would keep the call and its stack for every kind of accelerator, for the moment
    in which that one is initialised: 1 ms each time, and memory that is never freed.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


Precision = Literal["32-true", "bf16-mixed", "64-true"]
"""The precision of a program, by the names of PyTorch Lightning."""

_PRODUCTS = {
    *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.mm, Tensor.bmm),
    *(functional.conv1d, functional.conv2d, functional.conv3d),
    *(functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d),
    functional.linear,
}


_SUSPENDED: ContextVar[bool] = ContextVar("bfloat16 suspended", default=False)


class BFloat16Products(TorchFunctionMode):
    """A mode in which matrix products and convolutions of fp32 tensors take bfloat16 factors, forward and backward.

    Their results are fp32 again, and so is everything else: activations, draws, log densities and their sums.

    Source: Micikevicius et al., Mixed Precision Training (2018), without a scaled loss: bfloat16 has the range of fp32.

    Example:
        >>> x = torch.tensor([[1.0, 1.001]])
        >>> with BFloat16Products():
        ...     x @ x.T, (x * x).sum()
        (tensor([[2.]]), tensor(2.0020))
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _PRODUCTS or _SUSPENDED.get():
            return func(*args, **kwargs)
        if func is functional.linear:
            return _linear(*args, **kwargs)
        product = func(*_halved(args), **_halved(kwargs))
        return product.float() if product.dtype == torch.bfloat16 else product


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = functional.linear(_halved(input), _halved(weight)).to(input.dtype)
    return product if bias is None else product + bias


def _halved(value: Any) -> Any:
    """Round the fp32 tensors of an argument to bfloat16."""
    if isinstance(value, Tensor):
        return value.bfloat16() if value.dtype == torch.float32 else value
    if isinstance(value, dict):
        return {key: _halved(item) for key, item in value.items()}
    return type(value)(map(_halved, value)) if isinstance(value, list | tuple) else value


MatmulPrecision = Literal["auto", "highest", "high", "medium"]
"""The precision of fp32 matrix products, as in ``torch.set_float32_matmul_precision``; "auto" depends on the device."""


@contextmanager
def fp32_products(precision: MatmulPrecision, device: torch.device) -> Iterator[None]:
    """Compute fp32 matrix products at a precision; ``"auto"`` is TF32 on a GPU, and the present setting on a CPU."""
    with LOCK:
        before = torch.get_float32_matmul_precision()
        if precision != "auto" or device.type == "cuda":
            torch.set_float32_matmul_precision("high" if precision == "auto" else precision)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


@contextmanager
def at_precision(precision: Precision, *, training: bool | None) -> Iterator[None]:
    """Run a program at a precision inside the block.

    The innermost block that trains or evaluates counts: an evaluation within training is fp32.
    In double, tensors that are made from Python's numbers are double too.
    """
    before = torch.get_default_dtype()
    suspended = _SUSPENDED.set(_SUSPENDED.get() if training is None else not training)
    try:
        if precision == "64-true":
            torch.set_default_dtype(torch.float64)
        with BFloat16Products() if precision == "bf16-mixed" and training else nullcontext():
            yield
    finally:
        _SUSPENDED.reset(suspended)
        torch.set_default_dtype(before)
