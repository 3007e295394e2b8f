"""Estimates from importance weights, and their errors, compared with closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from ppl_vae.errors import Diverged
from ppl_vae.evidence.cubo import cubo
from ppl_vae.evidence.estimate import Evidence
from ppl_vae.evidence.iwae import iwae
from ppl_vae.evidence.prior import prior
from ppl_vae.evidence.weights import Weights, weigh
from ppl_vae.program import Program, seeded
from tests.helpers.scenarios import Conjugate, normal

# z ~ N(0, 1), x | z ~ N(z, 1/2): the posterior is N(2 x / 3, 1/3)
DEVIATION = (1 / 3) ** 0.5
Estimator = Callable[[Weights], Evidence]


def program_weights(x: Tensor) -> Callable[[int], Tensor]:
    program = Program(Conjugate().double()).bind((x,))
    return lambda k: program.log_weights((x,), k)


def proposal(x: Tensor, scale: float, shift: float = 0.0, seed: int = 0) -> Callable[[int], Tensor]:
    """Return weights of draws from a Gaussian that is ``scale`` times as wide as the posterior and shifted."""
    generator = torch.Generator().manual_seed(seed)
    q = Normal(2 * x / 3 + shift, scale * DEVIATION)

    def log_weights(k: int) -> Tensor:
        z = q.mean + q.stddev * torch.randn((k, *x.shape), generator=generator, dtype=torch.double)
        return Normal(0.0, 1.0).log_prob(z) + Normal(z, 0.5**0.5).log_prob(x) - q.log_prob(z)

    return log_weights


def likelihoods(x: Tensor, seed: int = 0) -> Callable[[int], Tensor]:
    """Return log p(x | z) of z ~ p(z), for data ``(B, D)``."""
    generator = torch.Generator().manual_seed(seed)

    def log_weights(k: int) -> Tensor:
        z = torch.randn((k, *x.shape), generator=generator, dtype=torch.double)
        return Normal(z, 0.5**0.5).log_prob(x).sum(-1)

    return log_weights


def chi_bound(x: Tensor, scale: float, shift: float) -> Tensor:
    """Return log p(x) + 1/2 log of the integral of the squared posterior over a proposal that is wide enough."""
    s2, t2 = 1 / 3, scale**2 / 3
    log_ratio = math.log(t2) - 0.5 * math.log(s2 * (2 * t2 - s2)) + shift**2 / (2 * t2 - s2)
    return Conjugate().log_evidence(x) + log_ratio / 2


def assert_covers(estimate: Evidence, exact: Tensor) -> None:
    """Check that errors of the data, in units of the reported standard error, are standard Gaussian."""
    count = len(exact)
    errors = (estimate.log_evidence - exact) / estimate.mcse
    inside = (errors.abs() < 1.96).double().mean().item()
    assert abs(inside - 0.95) < 4 * (0.95 * 0.05 / count) ** 0.5 + 0.01  # the delta method is off by O(1/K)
    assert abs(errors.mean()) < 4 / count**0.5 + 0.05  # the estimate is biased low by O(1/K)
    assert abs(errors.std() - 1) < 0.1
    assert estimate.mcse.max() < 0.1


def test_iwae_agrees_with_the_closed_form_and_its_error_covers() -> None:
    x = normal(2000)
    with seeded(0):
        estimate = iwae(weigh(program_weights(x), 1000, 100))
    assert_covers(estimate, Conjugate().log_evidence(x))
    assert estimate.bound == "lower"
    assert not estimate.doubtful.any()


def test_prior_agrees_with_the_closed_form_and_its_error_covers() -> None:
    x = normal(2000).clamp(-2, 2)  # further out the prior has a few draws only
    estimate = prior(weigh(likelihoods(x[:, None]), 1000, 100))
    assert_covers(estimate, Conjugate().log_evidence(x))
    assert set(estimate.columns) == {"pareto_k"}
    assert list(estimate.curve) == [1, 10, 100, 1000]


@pytest.mark.parametrize(("scale", "shift"), [(1.3, 0.0), (1.5, 0.3)])
def test_cubo_agrees_with_the_closed_form_and_its_error_covers(scale: float, shift: float) -> None:
    x = normal(2000)
    weights = weigh(proposal(x, scale, shift), 1000, 100)
    estimate = cubo(weights)
    assert_covers(estimate, chi_bound(x, scale, shift))
    assert estimate.bound == "estimate"
    assert not estimate.doubtful.any()
    # Above the evidence, of which the other estimate from the same draws is a lower bound.
    assert estimate.log_evidence.mean() > Conjugate().log_evidence(x).mean() > iwae(weights).log_evidence.mean() - 0.01


@pytest.mark.parametrize("make", [iwae, cubo])
def test_mcse_is_the_spread_of_repeated_estimates(make: Estimator) -> None:
    x = normal(1).expand(3000)
    estimate = make(weigh(proposal(x, 1.3, 0.2), 50, 50))
    spread = estimate.log_evidence.std().item()
    # The spread of 3000 estimates is known to 1.3 percent, the delta method at K = 50 to some more.
    assert estimate.mcse.square().mean().sqrt().item() == pytest.approx(spread, rel=0.08)


def test_estimates_equal_their_definitions() -> None:
    fixed = normal(100, 5) * 3 - 100
    weights = weigh(lambda k: fixed[:k], 100, 100)
    for estimate, w, power in ((iwae(weights), fixed.exp(), 1), (cubo(weights), (2 * fixed).exp(), 2)):
        torch.testing.assert_close(estimate.log_evidence, w.mean(0).log() / power)
        torch.testing.assert_close(estimate.ess, w.sum(0) ** 2 / (w**2).sum(0))
        torch.testing.assert_close(estimate.mcse, w.std(0) / w.mean(0) / 10 / power)
    torch.testing.assert_close(iwae(weights).columns["elbo"], fixed.mean(0))
    stream = iter(fixed)
    by_seven = weigh(lambda k: torch.stack([next(stream) for _ in range(k)]), 100, 7)
    for passes in (weights, by_seven):
        torch.testing.assert_close(iwae(passes).columns["elbo_mcse"], fixed.std(0) / 10)
    assert set(iwae(weights).columns) == {"elbo", "elbo_mcse", "pareto_k"}
    torch.testing.assert_close(iwae(weights).curve[100], iwae(weights).log_evidence)


def test_order_of_the_bounds() -> None:
    x = normal(500)
    with seeded(2):
        estimates = [iwae(weigh(program_weights(x), k, 64)) for k in (1, 10, 100)]
    means = [e.log_evidence.mean().item() for e in estimates]
    exact = Conjugate().log_evidence(x).mean().item()
    assert estimates[-1].columns["elbo"].mean() < means[1] < means[2] < exact + 3 * 0.3 / (500 * 100) ** 0.5
    torch.testing.assert_close(estimates[0].columns["elbo"], estimates[0].log_evidence)


def test_the_effective_number_of_draws_from_the_prior_falls_with_the_dimension() -> None:
    """At x = 0 it is ``K`` times (3 / 5 ** 0.5) to the power of minus ``D``."""
    shares = {}
    for dim in (1, 5, 20):
        estimate = prior(weigh(likelihoods(torch.zeros(50, dim, dtype=torch.double)), 2000, 500))
        shares[dim] = estimate.ess.mean().item() / 2000
    assert shares[1] == pytest.approx(5**0.5 / 3, rel=0.02)
    assert shares[5] == pytest.approx((5**0.5 / 3) ** 5, rel=0.1)
    assert shares[20] < 0.05
    far = prior(weigh(likelihoods(1.5**0.5 * normal(50, 20)), 2000, 500))
    assert far.ess.median() < 10
    assert far.doubtful.double().mean() > 0.8
    assert far.mcse.max() <= 1 + 1e-9


def test_a_proposal_that_is_too_narrow_is_doubtful_and_a_wide_one_is_not() -> None:
    """The tail index of a proposal with a share ``c`` of the variance of the posterior is ``1 - c``."""
    x = normal(100)
    narrow, half, wide = (iwae(weigh(proposal(x, scale), 5000, 1000)) for scale in (0.2, 0.5**0.5, 1.5))
    assert (narrow.columns["pareto_k"] > 0.7).double().mean() > 0.8
    assert torch.equal(narrow.doubtful, narrow.columns["pareto_k"] > 0.7)
    assert half.columns["pareto_k"].mean().item() == pytest.approx(0.5, abs=0.15)  # the limit is reached slowly
    assert not wide.doubtful.any()
    squares = cubo(weigh(proposal(x, 0.5**0.5), 5000, 1000))
    assert squares.columns["pareto_k"].mean().item() == pytest.approx(1, abs=0.25)
    assert (squares.columns["pareto_k"] > half.columns["pareto_k"]).all()
    assert squares.doubtful.double().mean() > 0.8  # its expectation is infinite


@pytest.mark.parametrize("make", [iwae, prior, cubo])
class TestEdges:
    def test_a_proposal_that_is_the_posterior(self, make: Estimator) -> None:
        x = normal(7)
        estimate = make(weigh(proposal(x, 1.0), 500, 100))
        torch.testing.assert_close(estimate.log_evidence, Conjugate().log_evidence(x))
        torch.testing.assert_close(estimate.ess, torch.full_like(x, 500))
        assert estimate.mcse.max() < 1e-6
        assert not estimate.doubtful.any()

    def test_a_single_draw(self, make: Estimator) -> None:
        estimate = make(weigh(lambda k: torch.full((k, 2), -3.0), 1, 10))
        assert estimate.log_evidence.tolist() == [-3.0, -3.0]
        assert estimate.mcse.tolist() == [math.inf, math.inf]
        assert estimate.ess.tolist() == [1.0, 1.0]
        assert estimate.doubtful.all()

    @pytest.mark.parametrize("draws", [1, 4, 100])
    def test_all_weights_are_zero(self, make: Estimator, draws: int) -> None:
        estimate = make(weigh(lambda k: torch.full((k, 1), -math.inf), draws, 3))
        assert estimate.log_evidence.item() == -math.inf
        assert estimate.mcse.item() == math.inf
        assert estimate.ess.item() == 0
        assert estimate.doubtful.item()
        assert all(bound.item() == -math.inf for bound in estimate.curve.values())

    def test_some_weights_of_zero(self, make: Estimator) -> None:
        """If half of the draws are impossible, half of the evidence is left, without doubt."""
        fixed = normal(1000, 3)
        fixed[::2] = -math.inf
        estimate, half = make(weigh(lambda k: fixed, 1000, 1000)), make(weigh(lambda k: fixed[1::2], 500, 500))
        power = 2 if make is cubo else 1
        torch.testing.assert_close(estimate.log_evidence, half.log_evidence - math.log(2) / power)
        torch.testing.assert_close(estimate.ess, half.ess)
        assert estimate.mcse.isfinite().all()
        if make is not cubo:
            assert not estimate.doubtful.any()

    def test_far_from_zero(self, make: Estimator) -> None:
        far = make(weigh(lambda k: torch.full((k, 1), -1e5), 4, 3))
        assert far.log_evidence.item() == pytest.approx(-1e5)
        assert far.mcse.item() < 1e-5  # doubles next to 1e5 are 1e-11 apart, and a root is taken

    def test_the_datum_of_a_nan_is_named(self, make: Estimator) -> None:
        with pytest.raises(Diverged, match="datum 9 are nan"):
            make(weigh(lambda k: torch.full((k, 1), math.nan), 10, 5, first_datum=9))
