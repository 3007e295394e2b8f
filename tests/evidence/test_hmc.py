"""Hamiltonian Monte Carlo leaves densities invariant, also those with impossible or infinite values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Gamma, MultivariateNormal

from ppl_vae.evidence.hmc import Beta, ChainState, LogDensities, evaluate, leapfrog, move, trajectory
from ppl_vae.program import seeded
from tests.helpers.densities import double, log_normal

CORRELATED = MultivariateNormal(double(1, -2), torch.tensor([[1.0, 0.9], [0.9, 1.5]], dtype=torch.double))


def correlated(u: Tensor) -> tuple[Tensor, Tensor]:
    return log_normal(u, 0.0, 2.0), CORRELATED.log_prob(u)


def skewed(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log densities of the logarithm of a Gamma(1.5, 1) variable, with its log Jacobian."""
    log_density = (1.5 * u - u.exp() - math.lgamma(1.5)).sum(-1)
    return log_density, log_density


def run(log_densities: LogDensities, u: Tensor, beta: float, step: float, moves: int = 20) -> tuple[ChainState, Tensor]:
    """Return chains (C, B, D), and their mean acceptance over all moves."""
    state, total = evaluate(log_densities, u), torch.zeros(u.shape[:2], dtype=u.dtype)
    for _ in range(moves):
        state, acceptance = move(log_densities, state, beta, torch.full(u.shape[1:2], step, dtype=u.dtype), 4)
        total += acceptance
    return state, total / moves


def assert_moments(draws: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Compare the moments of independent draws (C, D) within 4 standard errors."""
    n = len(draws)
    assert ((draws.mean(0) - mean).abs() < 4 * (covariance.diagonal() / n).sqrt()).all()
    products = (draws - mean)[:, :, None] * (draws - mean)[:, None]
    assert ((products.mean(0) - covariance).abs() < 4 * products.std(0) / n**0.5).all()


def test_leapfrog_leads_back() -> None:
    with seeded(0):
        begin, momentum = evaluate(skewed, torch.randn(5, 3, 2).double()), torch.randn(5, 3, 2).double()
    steps = torch.linspace(0.05, 0.4, 15, dtype=torch.double).view(5, 3)
    end, momentum_there = leapfrog(skewed, begin, momentum, 1.0, steps, 10)
    back, again = leapfrog(skewed, end, -momentum_there, 1.0, steps, 10)
    assert (end.u - begin.u).abs().min() > 1e-3
    torch.testing.assert_close(back.u, begin.u)
    torch.testing.assert_close(-again, momentum)


def test_energy_error_is_of_second_order() -> None:
    """Half the step size over the same time has a quarter of the error."""
    with seeded(1):
        begin, momentum = evaluate(skewed, torch.randn(200, 1, 2).double()), torch.randn(200, 1, 2).double()
    energy = momentum.square().sum(-1) / 2 - begin.log_target
    errors = []
    for num_leapfrog in (10, 20, 40):
        steps = torch.full((200, 1), 1 / num_leapfrog, dtype=torch.double)
        end, momentum_there = leapfrog(skewed, begin, momentum, 1.0, steps, num_leapfrog)
        errors.append((momentum_there.square().sum(-1) / 2 - end.log_target - energy).abs().mean().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("step", [0.2, 0.95])  # with the longer, many trajectories are rejected
def test_the_target_is_invariant(step: float) -> None:
    with seeded(2):
        end, acceptance = run(correlated, CORRELATED.sample((6000, 1)), 1.0, step)
    assert_moments(end.u[:, 0], CORRELATED.mean, CORRELATED.covariance_matrix)
    assert step < 0.5 or acceptance.mean() < 0.75


@pytest.mark.parametrize("step", [0.3, 1.3])
def test_a_skewed_target_is_invariant(step: float) -> None:
    with seeded(3):
        end, _ = run(skewed, Gamma(double(1.5), 1.0).sample((6000, 1)).log(), 1.0, step)
    draws = end.u[:, 0]
    exact = double(torch.digamma(double(1.5)).item())
    assert_moments(draws, exact, torch.polygamma(1, double(1.5))[:, None])
    third = (draws - exact) ** 3
    assert (third.mean() - torch.polygamma(2, double(1.5))).abs() < 4 * third.std() / len(draws) ** 0.5


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_tempered_density_is_reached(beta: float) -> None:
    """Halfway between two Gaussians is the Gaussian of the mean precision."""
    with seeded(4):
        end, _ = run(correlated, torch.full((4000, 1, 2), 5.0, dtype=torch.double), beta, 0.7, moves=60)
    precision = (1 - beta) * torch.eye(2).double() / 4 + beta * CORRELATED.precision_matrix
    mean = torch.linalg.solve(precision, beta * CORRELATED.precision_matrix @ CORRELATED.mean)
    assert_moments(end.u[:, 0], mean, precision.inverse())


def test_each_datum_has_its_step_size() -> None:
    with seeded(5):
        state = evaluate(correlated, CORRELATED.sample((200, 3)))
        _, acceptance = move(correlated, state, 1.0, double(0.01, 0.5, 10.0), 3)
    small, medium, large = acceptance.mean(0).tolist()
    assert small > 0.99
    assert 0.5 < medium < 0.99
    assert large < 0.01


@pytest.mark.parametrize("outside", [math.nan, -math.inf, math.inf])
def test_positions_with_infinite_energy_are_rejected(outside: float) -> None:
    """A Gaussian that is not finite below 0 is a half Gaussian: mean sqrt(2 / pi), mean square 1."""

    def half(u: Tensor) -> tuple[Tensor, Tensor]:
        log_density = (-u.square() / 2).sum(-1)
        return log_density, torch.where((u < 0).any(-1), outside, log_density)

    with seeded(6):
        end, acceptance = run(half, torch.randn(10000, 1, 1).double().abs(), 1.0, 0.4)
    assert all(part.isfinite().all() for part in end)
    assert acceptance.isfinite().all()
    draws = end.u.flatten()
    assert (draws >= 0).all()
    assert abs(draws.mean() - (2 / math.pi) ** 0.5) < 4 * draws.std() / len(draws) ** 0.5
    assert abs(draws.square().mean() - 1) < 4 * draws.square().std() / len(draws) ** 0.5


def test_densities_are_only_evaluated_at_finite_positions() -> None:
    def steep(u: Tensor) -> tuple[Tensor, Tensor]:
        assert u.isfinite().all()
        log_density = (-(u**4)).sum(-1)
        return log_density, log_density

    with seeded(7):
        begin = evaluate(steep, torch.randn(10, 4, 2).double())
        end, acceptance = move(steep, begin, 1.0, double(0.1, 1e3, 1e20, 1e200), 8)
    assert acceptance[:, 0].mean() > 0.9
    assert (acceptance[:, 1:] == 0).all()
    assert (end.u == begin.u)[:, 1:].all()


def test_an_impossible_target_does_not_affect_the_start() -> None:
    def impossible(u: Tensor) -> tuple[Tensor, Tensor]:
        return -u.square().sum(-1) / 2, torch.full(u.shape[:2], -math.inf, dtype=u.dtype)

    with seeded(8):
        end, acceptance = run(impossible, torch.zeros(5000, 1, 2).double(), 0.0, 0.8)
        stuck, never = run(impossible, torch.zeros(10, 1, 2).double(), 0.5, 0.8)
    assert acceptance.min() > 0
    assert_moments(end.u[:, 0], torch.zeros(2).double(), torch.eye(2).double())
    assert (never == 0).all()
    assert (stuck.u == 0).all()


def test_a_chain_leaves_an_impossible_position() -> None:
    def half(u: Tensor) -> tuple[Tensor, Tensor]:
        log_density = (-u.square() / 2).sum(-1)
        return log_density, torch.where((u < 0).any(-1), -math.inf, log_density)

    with seeded(9):
        end, _ = run(half, -torch.rand(100, 1, 1).double(), 0.5, 0.5)
    assert (end.u >= 0).all()
    assert end.log_target.isfinite().all()


def test_parameters_need_no_gradient() -> None:
    network = nn.Linear(2, 3).double()
    network.weight.requires_grad_(False)

    def densities(u: Tensor) -> tuple[Tensor, Tensor]:
        return -u.square().sum(-1), -network(u).square().sum(-1)

    with seeded(10):
        state = evaluate(densities, torch.randn(4, 3, 2).double())
        state, _ = move(densities, state, 0.5, torch.full((3,), 0.1).double(), 2)
    torch.testing.assert_close(state.grad_start, -2 * state.u)
    torch.testing.assert_close(state.grad_target, -2 * network(state.u).detach() @ network.weight)
    assert network.weight.grad is None
    assert network.bias.grad is None
    assert not any(part.requires_grad for part in state)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_temperature_may_be_a_tensor(beta: float) -> None:
    """At either end the other density does not matter, even if it is minus infinity."""

    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        nothing = torch.full_like(u[..., 0], -math.inf)
        start, target = correlated(u)
        return torch.where(u[..., 0] > 0.5, nothing, start), torch.where(u[..., 0] < -0.5, nothing, target)

    with seeded(3):
        begin = evaluate(log_densities, torch.randn(50, 3, 2).double())
    steps, results = torch.full((3,), 0.4).double(), []
    for temperature in (beta, torch.tensor(beta, dtype=torch.double)):
        with seeded(4):
            results.append(trajectory(log_densities, begin, temperature, steps, 3))
    (end, acceptance), (other, same) = results
    assert (acceptance > 0).any()
    for a, b in zip((*end, acceptance), (*other, same), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_trajectories_may_be_computed_in_another_way() -> None:
    """All trajectories of a transition are computed so, and later draws stay the same."""
    with seeded(5):
        begin = evaluate(skewed, torch.randn(20, 3, 2).double())
    calls: list[tuple[float, int]] = []

    def propose(
        log_densities: LogDensities, state: ChainState, beta: Beta, step_size: Tensor, num_leapfrog: int
    ) -> tuple[ChainState, Tensor]:
        calls.append((float(beta), num_leapfrog))
        return trajectory(log_densities, state, beta, step_size, num_leapfrog)

    ends = []
    for how in (None, propose):
        with seeded(6):
            state, _ = move(skewed, begin, 0.5, torch.full((3,), 0.7).double(), 4, how)
            ends.append((state.u, torch.rand(1)))
    assert calls == [(0.5, 4)]
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])
    assert (ends[0][0] == begin.u).all(-1).any(), "some have to stay"
    never, _ = move(skewed, begin, 0.5, torch.ones(3).double(), 4, lambda *how: _stays(propose(*how)))
    assert torch.equal(never.u, begin.u)


def _stays(proposed: tuple[ChainState, Tensor]) -> tuple[ChainState, Tensor]:
    return proposed[0], torch.zeros_like(proposed[1])
