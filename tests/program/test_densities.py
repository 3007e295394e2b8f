"""Test that the log density that takes fewer passes is that of the Bernoulli."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_vae.models.vae import VAE
from ppl_vae.program import LatentSpace, Program, densities
from ppl_vae.program.densities import bernoulli_log_prob, log_prob, slope_only, tracing
from tests.helpers.scenarios import bits, normal


@pytest.mark.parametrize(("leading", "event_dim"), [((), 1), ((4,), 1), ((4,), 2), ((2, 4), 2)])
def test_value_and_derivatives(leading: tuple[int, ...], event_dim: int) -> None:
    logits = normal(*leading, 3, 5).mul(4).requires_grad_()
    x = bits(3, 5)
    with pyro.validation_enabled(False):
        fn = dist.Bernoulli(logits=logits).to_event(event_dim)
        expected = fn.log_prob(x)
        torch.testing.assert_close(log_prob(fn, x), expected, rtol=1e-12, atol=1e-12)
        assert log_prob(fn, x).shape == expected.shape
    assert torch.autograd.gradcheck(lambda logits: bernoulli_log_prob(logits, x, event_dim), logits)
    assert torch.autograd.gradgradcheck(lambda logits: bernoulli_log_prob(logits, x, event_dim), logits)


def test_extreme_logits_and_grey_values() -> None:
    logits, x = torch.tensor([-800.0, 800.0, 0.0, 3.0]).double(), torch.tensor([0.0, 1.0, 0.5, 0.25]).double()
    with pyro.validation_enabled(False):
        fn = dist.Bernoulli(logits=logits).to_event(1)
        torch.testing.assert_close(log_prob(fn, x), fn.log_prob(x))
        torch.testing.assert_close(log_prob(fn, 1 - x), fn.log_prob(1 - x))


def test_values_may_have_more_dimensions_than_logits() -> None:
    with pyro.validation_enabled(False):
        fn, x = dist.Bernoulli(logits=normal(3, 5)).to_event(1), bits(7, 3, 5)
        torch.testing.assert_close(log_prob(fn, x), fn.log_prob(x))


def test_the_faster_density_is_used_only_without_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def noting(logits: torch.Tensor, *rest: Any) -> torch.Tensor:
        taken.append(logits.shape)
        return apply(logits, *rest)

    apply = densities._Bernoulli.apply
    monkeypatch.setattr(densities._Bernoulli, "apply", noting)
    for validate in (True, False):
        with pyro.validation_enabled(validate):
            by_logits, by_probs = (dist.Bernoulli(**{by: torch.full((3, 5), 0.2)}) for by in ("logits", "probs"))
            log_prob(by_logits.to_event(1), torch.ones(3, 5))
            log_prob(by_logits, torch.ones(3, 5))
            log_prob(by_probs.to_event(1), torch.ones(3, 5))
            log_prob(by_logits.to_event(1), torch.ones(3, 5).double())
    assert taken == [(3, 5)]


def test_the_density_of_a_program_does_not_depend_on_the_faster_one() -> None:
    x = bits(6, 64)
    program = Program(VAE().double()).bind((x,))
    torch.manual_seed(0)
    ours = program.log_weights((x,), 4)
    torch.manual_seed(0)
    with program.running(training=False):
        torch.testing.assert_close(program.log_weights((x,), 4), ours, rtol=1e-10, atol=1e-10)


def test_the_gradient_is_the_same_if_the_value_is_not_computed() -> None:
    x = bits(6, 64)
    program = Program(VAE().double()).bind((x,))
    space, u = LatentSpace(program), normal(4, 6, 10).requires_grad_()
    with program.running(training=False):
        values = [space.log_joint((x,), u, slope=slope) for slope in (False, True)]
    slopes = [torch.autograd.grad(value.sum(), u)[0] for value in values]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(*values)
    with slope_only(), pyro.validation_enabled(False):
        inside = log_prob(dist.Bernoulli(logits=normal(3, 5)).to_event(1), bits(3, 5))
    assert not inside.any()


@pytest.mark.parametrize("size", [1, 4, 7, 64, 97, 100, 101, 200, 784, 1009])
def test_the_density_is_the_same_in_a_graph(size: int) -> None:
    """A graph takes one logarithm for every hundred numbers; the values agree to the rounding of each precision."""
    logits = normal(3, size, seed=1).mul(torch.logspace(-3, 2, size).double())
    logits[0, 0], logits[1, -1] = 800.0, -800.0
    x = bits(3, size, seed=2)
    x[2] = 0.3
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-6)):
        rounded, data = logits.to(dtype), x.to(dtype)
        with tracing():
            graph = make_fx(lambda logits, x: bernoulli_log_prob(logits, x, 1))(rounded, data)
        terms = data.double() * rounded.double() - torch.logaddexp(rounded.double(), torch.tensor(0.0).double())
        torch.testing.assert_close(graph(rounded, data).double(), terms.sum(-1), rtol=tolerance, atol=size * tolerance)


def test_dimensions_and_derivatives_are_the_same_in_a_graph() -> None:
    logits, x = normal(2, 4, 3, 5), bits(4, 3, 5)

    def slope(logits: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = logits.detach().requires_grad_()
        value = bernoulli_log_prob(logits, x, 2)
        return value.detach(), torch.autograd.grad(value.sin().sum(), logits)[0]

    with tracing():
        graph = make_fx(slope)(logits, x)
    for actual, expected in zip(graph(logits, x), slope(logits, x), strict=True):
        assert actual.shape == expected.shape
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
