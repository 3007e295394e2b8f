"""Particle filters of a linear Gaussian chain, compared with the Kalman filter."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ppl_vae.errors import Diverged
from ppl_vae.evidence.smc import Filters, smc
from ppl_vae.program import seeded
from tests.helpers.densities import LinearChain, log_normal, standard_error


def filters(case: LinearChain, num_particles: int, num_filters: int) -> Filters:
    """Return filters whose particles are drawn from the posterior of a step given the one before, made wider."""

    def extend(z: Tensor | None, step: int) -> tuple[Tensor, Tensor]:
        count = num_particles * num_filters
        before = case.x.new_zeros(count, len(case.x), 1) if z is None else z
        loc, scale = case.proposal(before, step)
        z = loc + scale * torch.randn_like(before)
        log_p = log_normal(z, case.decay * before, case.noise) + log_normal(case.x[:, step, None], z, case.error)
        return z, torch.where(step < case.lengths, log_p - log_normal(z, loc, scale), 0.0)

    return Filters(extend, case.x.shape[1], num_filters)


def test_agrees_with_the_kalman_filter() -> None:
    case = LinearChain(num_data=100, num_steps=20)
    with seeded(0):
        estimate = smc(filters(case, num_particles=200, num_filters=30))
    errors = estimate.log_evidence - case.log_evidence
    assert estimate.mcse.max() < 0.1  # so that the delta method holds
    assert (errors.abs() <= 3.5 * estimate.mcse).double().mean() >= 0.98
    squares = (errors / estimate.mcse).square()  # of t with 29 degrees of freedom: mean 29 / 27, variance below 2.6
    assert abs(squares.mean() - 29 / 27) < 4 * (2.6 / 100) ** 0.5
    assert not estimate.doubtful.any()
    assert estimate.bound == "lower"


@pytest.mark.parametrize("num_particles", [2, 8])
def test_the_mean_of_the_estimate_is_the_evidence(num_particles: int) -> None:
    """Few particles, so that nearly every step resamples: the mean is right for any number of them."""
    case = LinearChain(num_data=1, num_steps=4, repeat=4000)
    with seeded(1):
        estimate = smc(filters(case, num_particles, num_filters=1))
    ratios = (estimate.log_evidence - case.log_evidence).exp()
    assert abs(ratios.mean() - 1) < 4 * standard_error(ratios)
    assert estimate.mcse.isinf().all()
    assert estimate.doubtful.all()  # one filter does not know its error


def test_resampling_is_what_makes_long_sequences_possible() -> None:
    case = LinearChain(num_data=50, num_steps=60)
    with seeded(2):
        filtered = smc(filters(case, num_particles=100, num_filters=10))
    with seeded(2):
        extend = filters(case, num_particles=100, num_filters=10).extend
        z, log_weight = None, torch.zeros(())
        for step in range(60):
            z, increment = extend(z, step)
            log_weight = log_weight + increment
    weighed = log_weight.logsumexp(0) - math.log(1000)
    assert (filtered.log_evidence - case.log_evidence).abs().mean() < 0.3
    assert (weighed - case.log_evidence).mean() < -2
    assert (filtered.columns["lowest_share"] < 1).all()


def test_a_sequence_ends_where_its_length_says() -> None:
    case = LinearChain(num_data=60, num_steps=12)
    case.lengths[::2] = 5
    with seeded(3):
        estimate = smc(filters(case, num_particles=400, num_filters=10))
    short = LinearChain(num_data=60, num_steps=12)
    short.x = short.x[:, :5]
    expected = torch.where(case.lengths == 5, short.log_evidence, LinearChain(num_data=60, num_steps=12).log_evidence)
    assert (estimate.log_evidence - expected).abs().max() < 0.3
    assert (short.log_evidence - LinearChain(num_data=60, num_steps=12).log_evidence).abs().min() > 1


def test_weights_that_are_zero_or_not_numbers() -> None:
    def extend(z: Tensor | None, step: int) -> tuple[Tensor, Tensor]:
        log_weight = torch.zeros(6, 3)
        log_weight[:, 1] = -math.inf
        return torch.zeros(6, 3, 1), log_weight

    estimate = smc(Filters(extend, num_steps=3, num_filters=2))
    assert estimate.log_evidence.tolist() == [0, -math.inf, 0]
    assert estimate.doubtful.tolist() == [False, True, False]

    with pytest.raises(Diverged, match="the log weights of datum 8 are nan"):
        smc(Filters(lambda z, step: (torch.zeros(6, 3, 1), torch.tensor([0.0, math.nan, 0.0]).expand(6, 3)), 3, 2, 7))
