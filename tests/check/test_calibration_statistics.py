"""Ranks, the bands of their distribution functions, widths and shifts: against closed forms and ArviZ."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.special import logsumexp
from scipy.stats import kstest, norm, poisson, uniform

from ppl_vae.check.ranks import expected_coverage, randomised_ranks, tarp_ranks
from ppl_vae.check.uniformity import points_for, probability_inside, uniformity_bands, uniformity_p_value
from ppl_vae.check.width import width_and_shift
from ppl_vae.plots import ecdf_differences
from tests.helpers.arviz_versions import VERSION, arviz


@pytest.mark.parametrize("size", [20, 100, 300, 1000])
def test_the_bands_are_those_of_arviz(size: int) -> None:
    utils = pytest.importorskip("arviz.stats.ecdf_utils", reason="ArviZ 1 simulates the bands")
    points = points_for(size)
    lower, upper = utils.ecdf_confidence_band(size, points, points, prob=0.95, method="optimized")
    bands = uniformity_bands(size)
    assert np.abs(bands.lower - lower).max() * size < 1.5  # the probability is a staircase: one count at most
    assert np.abs(bands.upper - upper).max() * size < 1.5
    inside = probability_inside(size, points, size * bands.lower, size * bands.upper)
    assert 0.94 < inside < 0.97


def test_weighted_ranks_are_the_probability_integral_transforms_of_arviz() -> None:
    """Up to the weight of the value itself, which the rank splits at random."""
    if VERSION:
        pytest.skip("ArviZ 1 takes no arrays for loo_pit")
    random = np.random.default_rng(10)
    values, draws, log_weights = random.normal(size=60), random.normal(size=(50, 60)), random.normal(size=(50, 60))
    log_weights -= logsumexp(log_weights, 0)
    for logs in (log_weights, np.full((50, 60), -np.log(50))):
        expected = arviz.loo_pit(y=values, y_hat=draws.T, log_weights=logs.T)
        ranks = randomised_ranks(values, draws, random, logs)
        assert (np.abs(ranks - expected) <= np.exp(logs).max(0)).all()
        assert np.abs(ranks - expected).mean() < 0.02
    equal = randomised_ranks(values, draws, random)
    assert (np.abs(equal - expected) <= 1 / 51 + 1e-9).all()


def test_the_line_of_a_distribution_function_is_that_of_arviz() -> None:
    if VERSION:
        pytest.skip("ArviZ 1 draws by plot_ecdf_pit, whose bands are simulated")
    ranks = np.random.default_rng(11).beta(1.3, 1.0, 80)
    bands = uniformity_bands(80)
    band = {"x": (bands.points, bands.lower, bands.upper)}
    figure = ecdf_differences({"x": ranks[:, None]}, {"x": ("x",)}, band, {"x": np.ones(1)})
    settings = {"eval_points": bands.points, "difference": True, "confidence_bands": "optimized", "ci_prob": 0.95}
    theirs = arviz.plot_ecdf(ranks, cdf=uniform.cdf, ax=Figure().subplots(), **settings)
    ours, expected = figure.axes[0].lines[1].get_xydata(), theirs.lines[0].get_xydata()
    np.testing.assert_allclose(ours[1:], expected[-len(bands.points) :], atol=1e-9)


def test_the_probability_of_staying_inside_is_that_of_simulated_samples() -> None:
    random = np.random.default_rng(0)
    points, lower, upper = np.array([0.2, 0.5, 1.0]), np.array([2, 8, 20]), np.array([6, 13, 20])
    counts = (random.uniform(size=(20_000, 20, 1)) <= points).sum(1)
    share = ((counts >= lower) & (counts <= upper)).all(1).mean()
    assert abs(share - probability_inside(20, points, lower, upper)) < 4 * (share * (1 - share) / 20_000) ** 0.5


def test_p_values_of_uniform_samples_are_uniform_and_agree_with_the_bands() -> None:
    random = np.random.default_rng(1)
    samples = random.uniform(size=(400, 120))
    p_values = np.array([uniformity_p_value(sample) for sample in samples])
    for level in (0.05, 0.2, 0.5):
        assert abs((p_values <= level).mean() - level) < 4 * (level * (1 - level) / 400) ** 0.5
    bands = uniformity_bands(120)
    shares = (samples[:, :, None] <= bands.points).mean(1)
    leaves = ((shares < bands.lower - 1e-9) | (shares > bands.upper + 1e-9)).any(1)
    assert (leaves == (p_values <= 0.05)).mean() > 0.99  # at the level itself one count decides


def test_nan_does_not_count() -> None:
    sample = np.random.default_rng(2).uniform(size=50)
    assert uniformity_p_value(np.r_[sample, np.nan]) == uniformity_p_value(sample)
    assert np.isnan(uniformity_p_value([np.nan, 0.5]))


def test_ranks_of_exchangeable_numbers_are_uniform_with_and_without_ties() -> None:
    random = np.random.default_rng(3)
    kinds = {
        "continuous": random.normal(size=(11, 4000)),
        "counts": random.poisson(0.7, (11, 4000)),
        "censored": np.maximum(random.normal(size=(11, 4000)), 0.3),
        "constant": np.zeros((11, 4000)),
    }
    for name, numbers in kinds.items():
        assert kstest(randomised_ranks(numbers[0], numbers[1:], random), "uniform").pvalue > 1e-3, name


def test_weights_give_the_ranks_of_the_density_that_they_make() -> None:
    """Draws of N(0, 1.5^2) that are reweighted to N(0, 1)."""
    random = np.random.default_rng(4)
    draws = 1.5 * random.normal(size=(200, 3000))
    log_weights = norm.logpdf(draws) - norm.logpdf(draws, scale=1.5)
    truth = random.normal(size=3000)
    assert kstest(randomised_ranks(truth, draws, random, log_weights), "uniform").pvalue > 1e-3
    assert kstest(randomised_ranks(truth, draws, random), "uniform").pvalue < 1e-6


def test_few_draws_with_weights_have_the_right_share_of_extreme_ranks() -> None:
    """Weights that do not depend on the draws, with the spread of those of annealed chains."""
    random = np.random.default_rng(9)
    numbers, log_weights = random.normal(size=(17, 100_000)), 0.8 * random.normal(size=(16, 100_000))
    ranks = randomised_ranks(numbers[0], numbers[1:], random, log_weights)
    for share in ((ranks < 0.05).mean(), (ranks > 0.95).mean()):
        assert share == pytest.approx(0.05, rel=0.06)  # weights as fractions of a draw would give 0.042
    assert 12 * ranks.var() == pytest.approx(1, abs=0.02)


def test_ranks_among_many_draws_are_the_distribution_function() -> None:
    random = np.random.default_rng(5)
    values = np.array([0.0, 1.0, 4.0])
    ranks = randomised_ranks(values, np.broadcast_to(random.poisson(1.0, (20_000, 1)), (20_000, 3)), random)
    assert (ranks > poisson.cdf(values - 1, 1.0) - 0.015).all()
    assert (ranks < poisson.cdf(values, 1.0) + 0.015).all()


@pytest.mark.parametrize(("width", "shift"), [(1.0, 0.0), (0.7, 0.0), (1.5, 0.0), (1.0, 0.5), (0.3, -0.4)])
def test_width_and_shift_are_those_of_gaussians(width: float, shift: float) -> None:
    random = np.random.default_rng(6)
    ranks = randomised_ranks(random.normal(size=4000), shift + width * random.normal(size=(99, 4000)), random)
    found = width_and_shift(ranks, 99)
    assert abs(found.width - width) < 4 * found.width_error + 0.02
    assert abs(found.shift - shift) < 4 * found.shift_error + 0.02


def test_tarp_sees_a_dependence_that_no_latent_shows_alone() -> None:
    random = np.random.default_rng(7)
    truth = random.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 2000)
    alone, references = random.normal(size=(99, 2000, 2)), random.normal(size=(2000, 2))
    right = np.moveaxis(random.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], (2000, 99)), 1, 0)
    assert kstest(randomised_ranks(truth[:, 0], alone[..., 0], random), "uniform").pvalue > 1e-3
    assert kstest(tarp_ranks(truth, alone, references, random), "uniform").pvalue < 1e-6
    assert kstest(tarp_ranks(truth, right, references, random), "uniform").pvalue > 1e-3


def test_expected_coverage_is_that_of_gaussian_intervals() -> None:
    """Intervals of half the width hold what Gaussian intervals of half the quantile do."""
    random, levels = np.random.default_rng(8), np.array([0.5, 0.9])
    ranks = randomised_ranks(random.normal(size=5000), 0.5 * random.normal(size=(400, 5000)), random)
    expected = 2 * norm.cdf(0.5 * norm.ppf((1 + levels) / 2)) - 1
    np.testing.assert_allclose(expected_coverage(ranks, levels), expected, atol=0.03)
