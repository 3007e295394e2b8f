"""The divergence of posteriors from the prior by moments, compared with the divergence of Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ppl_vae.evidence import gaussian_divergence


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def with_moments(draws: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """Return draws, shifted and scaled so that they have exactly these moments."""
    return mean + sd * (draws - draws.mean(0)) / draws.std(0)


def test_draws_with_the_moments_of_gaussians_have_their_divergence() -> None:
    loc, scale = normal(7, 3, seed=1), normal(7, 3, seed=2).exp()
    base, width = normal(3, seed=3), normal(3, seed=4).exp()
    draws, prior = with_moments(normal(20, 7, 3), loc, scale), with_moments(normal(50, 3, seed=5), base, width)
    expected = kl_divergence(Normal(loc, scale), Normal(base, width)).mean(0)
    torch.testing.assert_close(gaussian_divergence(draws, prior), expected, rtol=1e-12, atol=1e-12)
    assert (expected > 0.1).all()


def test_estimates_are_near_the_divergence_of_the_distributions() -> None:
    many, num_data = 400, 300
    draws, prior = 0.5 * normal(many, num_data, 2) + 1.5, normal(200000, 2, seed=1)
    expected = math.log(2) + (0.25 + 2.25) / 2 - 0.5
    # per datum: the variance of 1.5 m + log-scale terms is near (1.5 * 0.5)^2 / K + (1 - 0.25)^2 / (2 K); bias 1 / K;
    # the prior's own moments: the slopes in its mean and its log scale are -1.5 and 1 - 2.5
    error = math.sqrt((0.75**2 + 0.75**2 / 2) / many / num_data + (1.5**2 + 1.5**2 / 2) / 200000)
    assert ((gaussian_divergence(draws, prior) - expected).abs() < 4.5 * error + 1 / many).all()


def test_the_bias_is_of_the_order_of_one_in_k() -> None:
    """If the posteriors equal the prior, E[-log s] + E[s^2] / 2 + 1 / (2 K) - 1 / 2 is near 1 / K for K draws."""
    prior = with_moments(normal(1000, 1, seed=5), torch.zeros(1).double(), torch.ones(1).double())
    for many in (10, 100):
        divergence = gaussian_divergence(normal(many, 20000, 1), prior)
        # of a chi-squared with K - 1 degrees of freedom: E[-log s] = -(digamma(n / 2) - log(n / 2)) / 2
        half = torch.tensor((many - 1) / 2).double()
        expected = -(half.digamma() - half.log()) / 2 + 1 / (2 * many)
        assert abs(divergence.item() - expected) < 4.5 * (2 / many) / 20000**0.5
        assert abs(expected - 1 / many) < 0.5 / many


def test_any_draws_are_converted_to_double_precision() -> None:
    draws, prior = normal(20, 7, 3), normal(50, 3, seed=5)
    divergence = gaussian_divergence(draws.float(), prior.float())
    assert divergence.dtype == torch.double
    torch.testing.assert_close(divergence, gaussian_divergence(draws, prior), rtol=1e-5, atol=1e-5)
    assert gaussian_divergence(normal(20, 1, 1), prior[:, :1]).shape == (1,)
    assert gaussian_divergence(normal(20, 7, 0), normal(50, 0)).shape == (0,)


def test_the_divergence_of_points_is_large_and_finite() -> None:
    """The latent of a deterministic encoder has no spread, and a constant prior has none either."""
    prior = normal(50, 1, seed=5)
    divergence = gaussian_divergence(torch.ones(20, 7, 1).double(), prior)
    assert divergence.isfinite().all()
    assert (divergence > 10).all()
    same = gaussian_divergence(torch.ones(20, 7, 1).double(), torch.ones(50, 1).double())
    torch.testing.assert_close(same, torch.zeros(1).double())
