"""The importance-sampled evidence against a closed form, and its errors against their own promise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scenarios import Conjugate, normal
from torch import Tensor

from ppl_vae.evidence import importance_sampling
from ppl_vae.program import Program, seeded


def weights(x: Tensor) -> Callable[[int], Tensor]:
    program = Program(Conjugate().double())
    return lambda k: program.log_weights((x,), k)


def test_agrees_with_the_closed_form_and_its_error_covers() -> None:
    """Over 2000 data the error, in units of the reported standard error, is a standard Gaussian."""
    x = normal(2000)
    with seeded(0):
        estimate = importance_sampling(weights(x), 1000, 100)
    errors = (estimate.log_evidence - Conjugate().log_evidence(x)) / estimate.mcse
    inside = (errors.abs() < 1.96).double().mean().item()
    assert abs(inside - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5 + 0.01  # the delta method is off by O(1/K)
    assert abs(errors.mean()) < 4 / 2000**0.5 + 0.05  # the estimate is biased low by O(1/K)
    assert abs(errors.std() - 1) < 0.1
    assert estimate.mcse.max() < 0.05


def test_mcse_is_the_spread_of_repeated_estimates() -> None:
    x = normal(1).expand(3000)
    with seeded(1):
        estimate = importance_sampling(weights(x), 50, 50)
    spread = estimate.log_evidence.std().item()
    # The spread of 3000 estimates is known to 1.3 percent, the delta method at K = 50 to some more.
    assert estimate.mcse.square().mean().sqrt().item() == pytest.approx(spread, rel=0.08)


def test_order_of_the_bounds() -> None:
    x = normal(500)
    with seeded(2):
        estimates = [importance_sampling(weights(x), k, 64) for k in (1, 10, 100)]
    means = [e.log_evidence.mean().item() for e in estimates]
    exact = Conjugate().log_evidence(x).mean().item()
    assert estimates[-1].elbo.mean() < means[1] < means[2] < exact + 3 * 0.3 / (500 * 100) ** 0.5
    torch.testing.assert_close(estimates[0].elbo, estimates[0].log_evidence)


@pytest.mark.parametrize("draws_per_pass", [1, 7, 100, 1000])
def test_the_passes_do_not_matter(draws_per_pass: int) -> None:
    fixed, done = normal(100, 5) * 3 - 200, 0

    def stream(k: int) -> Tensor:
        nonlocal done
        done += k
        return fixed[done - k : done]

    estimate = importance_sampling(stream, 100, draws_per_pass)
    w = fixed.exp()
    torch.testing.assert_close(estimate.log_evidence, w.mean(0).log())
    torch.testing.assert_close(estimate.ess, w.sum(0) ** 2 / (w**2).sum(0))
    torch.testing.assert_close(estimate.mcse, w.std(0) / w.mean(0) / 10)
    torch.testing.assert_close(estimate.elbo, fixed.mean(0))


def test_the_edges_have_a_clear_answer() -> None:
    single = importance_sampling(lambda k: torch.full((k, 2), -3.0), 1, 10)
    assert single.log_evidence.tolist() == [-3.0, -3.0]
    assert single.mcse.tolist() == [math.inf, math.inf]
    assert single.ess.tolist() == [1.0, 1.0]
    impossible = importance_sampling(lambda k: torch.full((k, 1), -math.inf), 4, 3)
    assert impossible.log_evidence.item() == -math.inf
    assert impossible.mcse.item() == math.inf
    assert impossible.ess.item() == 0
    far = importance_sampling(lambda k: torch.full((k, 1), -1e5), 4, 3)
    assert far.log_evidence.item() == pytest.approx(-1e5)
    assert far.mcse.item() < 1e-5  # doubles next to 1e5 are 1e-11 apart, and a root is taken
