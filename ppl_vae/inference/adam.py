"""Adam as a pure function, for every method's steps in theta, in phi and in lambda."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-8
CLEARED_EVERY = 64
"""Number of steps after which tiny numbers are cleared where that is no part of a step. None of them falls from the
smallest that is kept to the least normal number meanwhile."""

Number = float | Tensor
"""A number for all elements, or a tensor that broadcasts to them, such as one number a row."""


class AdamState(NamedTuple):
    """The state of Adam: running means of the gradient and of its square, of the gradient's shape."""

    mean: Tensor
    square: Tensor


class Rates(NamedTuple):
    r"""The numbers of one step, which depend on its number t.

    Attributes:
        mean: share of the new gradient in its running mean, :math:`1 - \beta_1`.
        square: share of its square in that running mean, :math:`1 - \beta_2`.
        step: corrected learning rate, :math:`\rho / (1 - \beta_1^t)`.
        root: correction of the root of the squares, :math:`1 / \sqrt{1 - \beta_2^t}`.
    """

    mean: Number
    square: Number
    step: Number
    root: Number


def adam(moments: AdamState, gradient: Tensor, rates: Rates, epsilon: float = EPSILON) -> tuple[AdamState, Tensor]:
    r"""Return Adam's next moments and its step, which is to be added to ascend the gradient.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
        \Delta = \frac{\rho}{1 - \beta_1^t} \frac{m}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Nothing changes in place. A gradient through the step treats the divisor as a constant.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization (2015), algorithm 1.

    Args:
        moments: the state before the step, zeros at first.
        gradient: the gradient, of any shape.
        rates: the numbers of this step; rows that have taken different numbers of steps have their own. A row whose
            first three rates are zero does not move and keeps its moments.
        epsilon: a number that is added to the divisor.

    Example:
        >>> zero, gradient = torch.zeros(2), torch.tensor([4.0, -0.1])
        >>> moments, step = adam(AdamState(zero, zero), gradient, Rates(0.1, 0.001, 0.05 / 0.1, 0.001**-0.5))
        >>> step.round(decimals=4)
        tensor([ 0.0500, -0.0500])
    """
    constant = gradient.detach()
    mean = torch.lerp(moments.mean, gradient, rates.mean)
    square = moments.square * (1 - rates.square)
    if isinstance(rates.square, Tensor):
        square = torch.addcmul(square, constant * rates.square, constant)
    else:  # as torch.optim.Adam rounds
        square = torch.addcmul(square, constant, constant, value=rates.square)
    return AdamState(mean, square), mean * rates.step / (square.sqrt() * rates.root + epsilon)


def without_tiny(values: Tensor, multiple: float | None = None) -> Tensor:
    """Return values with zero in place of those below a multiple of the least normal number.

    Processors take a hundred times longer for numbers below the least normal one. A matrix of weights that has some of
    them is multiplied twelve times more slowly, and an update with means of them took six times as long. The gradient
    of a unit that is never active is zero, and its running mean falls by a tenth in each step. If weights decay, those
    of the unit itself become as small after some thousand steps.

    Args:
        values: means of gradients, means of their squares, or weights.
        multiple: the multiple; by default the reciprocal of the precision. In products and steps, what is smaller is
            lost by rounding.

    Example:
        >>> without_tiny(torch.tensor([1e-38, -1e-30, 0.5]))
        tensor([ 0.0000e+00, -1.0000e-30,  5.0000e-01])
    """
    limits = torch.finfo(values.dtype)
    return torch.where(values.abs() < (multiple or 1 / limits.eps) * limits.tiny, 0.0, values)


@torch.no_grad()
def clear_tiny(tensors: Iterable[Tensor]) -> None:
    """Write zeros in place of tiny numbers, see ``without_tiny``; tensors of whole numbers stay as they are.

    Example:
        >>> values = torch.tensor([1e-38, 0.5])
        >>> clear_tiny([values])
        >>> values
        tensor([0.0000, 0.5000])
    """
    for tensor in tensors:
        if tensor.is_floating_point():
            tensor.copy_(without_tiny(tensor))
