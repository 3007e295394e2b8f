"""Log densities of sites; the one of Bernoulli images takes fewer passes over memory than ``Bernoulli.log_prob``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent
from torch.nn import functional

_SLOPE_ONLY: ContextVar[bool] = ContextVar("slope_only", default=False)
_TRACING: ContextVar[bool] = ContextVar("tracing", default=False)


@contextmanager
def _switched_on(switch: ContextVar[bool]) -> Iterator[None]:
    token = switch.set(True)
    try:
        yield
    finally:
        switch.reset(token)


def slope_only() -> AbstractContextManager[None]:
    """Compute log densities for their gradient only: a value that costs more than its gradient may be wrong."""
    return _switched_on(_SLOPE_ONLY)


def tracing() -> AbstractContextManager[None]:
    """Choose operations that suit a graph, whose compiler fuses them into one pass over memory."""
    return _switched_on(_TRACING)


def is_tracing() -> bool:
    """Return True if operations are recorded as a graph."""
    return _TRACING.get()


def log_prob(fn: Any, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return ``fn.log_prob(value)``, computed in one function for independent Bernoullis that are given by logits."""
    if isinstance(fn, Independent) and isinstance(fn.base_dist, Bernoulli) and not fn.base_dist._validate_args:
        logits = fn.base_dist.__dict__.get("logits")
        if logits is not None and not value.requires_grad and value.dtype == logits.dtype:
            shape = torch.broadcast_shapes(logits.shape, value.shape)
            return _Bernoulli.apply(logits.expand(shape), value, fn.reinterpreted_batch_ndims, _SLOPE_ONLY.get())
    return fn.log_prob(value, *args, **kwargs)


def bernoulli_log_prob(logits: Tensor, x: Tensor, event_dim: int) -> Tensor:
    r"""Return the log probability of Bernoulli variables, summed over the last dimensions.

    .. math:: \sum_d x_d l_d - \log(1 + e^{l_d}), \qquad \frac{\partial}{\partial l_d} = x_d - \mathrm{sigmoid}(l_d)

    Args:
        logits: :math:`l`, of any shape.
        x: numbers from zero to one, of a shape that broadcasts to the shape of the logits.
        event_dim: the number of dimensions that are summed over, one or more.

    Example:
        >>> bernoulli_log_prob(torch.zeros(5, 3, 2), torch.ones(3, 2), 1)[0].tolist()  # three times 2 log(1/2)
        [-1.386..., -1.386..., -1.386...]
    """
    return _Bernoulli.apply(logits, x, event_dim, False)


FACTORS = 100
"""The number of factors between 1 and 2 whose product stays far below the largest fp32 number, about 2 to the 127."""


def _in_products(logits: Tensor, x: Tensor) -> Tensor:
    r"""Return the log probability with one logarithm per hundred numbers; logarithms are most of the work otherwise.

    .. math:: \sum_d x_d l_d - \max(l_d, 0) - \log \prod_d (1 + e^{-|l_d|})
    """
    size = logits.shape[-1]
    groups = next((n for n in range(-(-size // FACTORS), size // 10 + 1) if size % n == 0), None)
    factors = (-logits.abs()).exp() + 1
    if groups is None:
        groups = max(1, -(-size // FACTORS))
        factors = functional.pad(factors, (0, -size % groups), value=1.0)
    products = factors.unflatten(-1, (groups, -1)).prod(-1)
    return (logits * x - logits.clamp(min=0)).sum(-1) - products.log().sum(-1)


class _Bernoulli(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor, event_dim: int, slope_only: bool) -> Tensor:
        ctx.save_for_backward(logits, x)
        if slope_only:
            return logits.new_zeros(logits.shape[: logits.dim() - event_dim])
        if _TRACING.get():
            return _in_products(logits.flatten(-event_dim), x.expand(logits.shape).flatten(-event_dim))
        dims = tuple(range(logits.dim() - event_dim, logits.dim()))
        return torch.addcmul(functional.softplus(logits).neg_(), logits, x).sum(dims)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        logits, x = ctx.saved_tensors
        above = gradients[0].reshape(gradients[0].shape + (1,) * (logits.dim() - gradients[0].dim()))
        if torch.is_grad_enabled():  # a second derivative is wanted
            return (x - torch.sigmoid(logits)) * above, None, None, None
        return torch.sigmoid(logits).sub_(x).mul_(-above), None, None, None
