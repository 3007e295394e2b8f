"""Adam as a pure function: PyTorch's steps, for all elements at once and for rows that have taken different numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ppl_vae.inference.adam import AdamState, Rates, adam
from tests.helpers.scenarios import normal

BETAS, RATE = (0.5, 0.99), 0.1
GRADIENTS = [normal(4, 3, seed=seed) for seed in range(6)]


def by_torch(gradients: list[Tensor], betas: tuple[float, float] = BETAS) -> Tensor:
    parameter = nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer = torch.optim.Adam([parameter], lr=RATE, betas=betas)
    for gradient in gradients:
        parameter.grad = -gradient
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("betas", [BETAS, (0.9, 0.999)])
def test_it_takes_the_steps_of_torch(betas: tuple[float, float]) -> None:
    moments, value = AdamState(torch.zeros(4, 3).double(), torch.zeros(4, 3).double()), torch.zeros(4, 3).double()
    first, second = betas
    for number, gradient in enumerate(GRADIENTS, 1):
        rates = Rates(1 - first, 1 - second, RATE / (1 - first**number), (1 - second**number) ** -0.5)
        before = [tensor.clone() for tensor in moments]
        after, step = adam(moments, gradient, rates)
        assert all(torch.equal(a, b) for a, b in zip(moments, before, strict=True)), "nothing changes in place"
        moments, value = after, value + step
        torch.testing.assert_close(value, by_torch(GRADIENTS[:number], betas), rtol=1e-12, atol=1e-14)


def test_rows_have_their_own_numbers_of_steps() -> None:
    """Row i rests in step i, and is then where the others' steps alone would have taken it."""
    moments, value = AdamState(torch.zeros(4, 3).double(), torch.zeros(4, 3).double()), torch.zeros(4, 3).double()
    taken, (first, second) = torch.zeros(4, 1).double(), BETAS
    for number, gradient in enumerate(GRADIENTS):
        share = (torch.arange(4) != number).double()[:, None]
        taken = taken + share
        steps = taken.clamp(min=1)
        rates = Rates(
            (1 - first) * share, (1 - second) * share, RATE * share / (1 - first**steps), (1 - second**steps) ** -0.5
        )
        moments, step = adam(moments, gradient * share, rates)
        value = value + step
    for row in range(4):
        own = [gradient[row] for number, gradient in enumerate(GRADIENTS) if number != row]
        torch.testing.assert_close(value[row], by_torch(own), rtol=1e-12, atol=1e-14)


def test_the_divisor_is_a_constant_to_a_gradient_through_the_step() -> None:
    gradient = normal(3, seed=7).requires_grad_()
    rates = Rates(0.5, 0.01, 0.2, 10.0)
    moments, step = adam(AdamState(torch.zeros(3).double(), torch.zeros(3).double()), gradient, rates)
    (slope,) = torch.autograd.grad(step.sum(), gradient)
    expected = 0.5 * 0.2 / (0.1 * gradient.detach().abs() * 10.0 + 1e-8)
    torch.testing.assert_close(slope, expected)
    assert not moments.square.requires_grad
