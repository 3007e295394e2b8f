"""Active units and the divergence of the aggregated posterior, compared with closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from ppl_vae.errors import InputError
from ppl_vae.evidence.diagnostics import (
    ACTIVE_VARIANCE,
    active_units,
    marginal_divergence,
    marginal_divergence_error,
)

DIMS = 400


def normal(rows, seed, mean=0.0, scale=1.0, dims=DIMS):
    return mean + scale * torch.randn(rows, dims, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def sampling_error(p, q, rows, prior_rows):
    """Return the standard error of a plug-in KL by the delta method: Var_p[log p/q] / N + Var_q[p/q] / M."""
    ratio = p / q
    log = torch.where(p > 0, ratio, 1.0).log()
    divergence = (p * log).sum()
    return math.sqrt(((p * log**2).sum() - divergence**2) / rows + ((q * ratio**2).sum() - 1) / prior_rows), divergence


class TestActiveUnits:
    def test_the_variance_over_the_data_decides(self):
        step = math.sqrt(ACTIVE_VARIANCE / 2)  # two data at -a and a have the variance 2 a^2
        means = torch.tensor([1.0, -1.0]).double()[:, None] * step * torch.tensor([0.99, 1.01, 0.0]).double() + 7
        assert active_units(means).tolist() == [False, True, False]

    def test_latents_may_have_any_shape(self):
        assert active_units(torch.randn(5, 2, 3)).shape == (2, 3)
        assert active_units(torch.tensor([0, 1, 0, 1])).item() is True

    @pytest.mark.parametrize(
        ("means", "message"),
        [
            (torch.zeros(1, 3), "at least 2 data, got 1"),
            (torch.zeros(0, 3), "at least one row"),
            (torch.tensor([[0.0], [math.nan]]), "row 1 is not finite"),
        ],
    )
    def test_bad_input_is_one_line(self, means, message):
        with pytest.raises(InputError, match=message) as error:
            active_units(means)
        assert "\n" not in str(error.value)


class TestDivergence:
    @pytest.mark.parametrize(("rows", "prior_rows"), [(500, 500), (1000, 4000), (3000, 1000)])
    def test_equal_distributions_average_to_zero(self, rows, prior_rows):
        estimate = marginal_divergence(normal(rows, 1), normal(prior_rows, 2))
        # B - 1 degrees of freedom on either side: 2 N KL is about chi-squared for M infinite.
        bins = round(2 * rows ** (1 / 3))
        error = math.sqrt((bins - 1) / 2) * (1 / rows + 1 / prior_rows)
        assert estimate.mean().abs() < 4 * error / math.sqrt(DIMS)
        assert estimate.std() == pytest.approx(error, rel=4 / math.sqrt(2 * DIMS) + 0.05)
        estimated = marginal_divergence_error(normal(rows, 1), normal(prior_rows, 2))
        assert estimated.mean() == pytest.approx(error, rel=0.2)
        assert estimated.min() > 0.9 * error
        assert estimate.min() < 0  # not clipped
        uncorrected = (bins - 1) / 2 * (1 / rows + 1 / prior_rows)
        assert uncorrected > 20 * error / math.sqrt(DIMS)  # the test would see a bias left in

    @pytest.mark.parametrize(("mean", "scale"), [(0.5, 0.8), (1.0, 1.0), (0.0, 0.3), (-0.3, 1.2)])
    def test_gaussians(self, mean, scale):
        rows, prior_rows = 4000, 4000
        estimate = marginal_divergence(normal(rows, 3, mean, scale), normal(prior_rows, 4))
        bins = round(2 * rows ** (1 / 3))
        ends = Normal(0.0, 1.0).icdf(torch.linspace(0, 1, bins + 1, dtype=torch.double))
        shares = Normal(mean, scale).cdf(ends).diff()
        error, binned = sampling_error(shares, torch.full_like(shares, 1 / bins), rows, prior_rows)
        # Each estimate is of its own bins, whose ends are draws: hence the second-order term.
        assert estimate.mean().item() == pytest.approx(binned.item(), abs=4 * error / math.sqrt(DIMS) + 1 / rows)
        assert ((estimate - binned).abs() < 5 * error).all()
        estimated = marginal_divergence_error(normal(rows, 3, mean, scale), normal(prior_rows, 4))
        assert estimate.std().item() == pytest.approx(estimated.mean().item(), rel=4 / math.sqrt(2 * DIMS) + 0.1)
        exact = (mean**2 + scale**2 - 1) / 2 - math.log(scale)
        assert 0 < exact - binned < 0.02  # what bins cannot see

    @pytest.mark.parametrize(("p", "q"), [([0.3, 0.7], [0.5, 0.5]), ([0.0, 0.2, 0.8], [0.4, 0.3, 0.3])])
    def test_discrete(self, p, q):
        p, q = torch.tensor(p).double(), torch.tensor(q).double()
        rows, prior_rows = 600, 2000

        def draw(probs, count, seed):
            generator = torch.Generator().manual_seed(seed)
            return probs.multinomial(count * DIMS, replacement=True, generator=generator).reshape(count, DIMS)

        estimate = marginal_divergence(draw(p, rows, 5), draw(q, prior_rows, 6))
        error, exact = sampling_error(p, q, rows, prior_rows)
        assert estimate.mean().item() == pytest.approx(exact.item(), abs=4 * error / math.sqrt(DIMS))

    def test_a_value_the_prior_never_drew_is_finite(self):
        estimate = marginal_divergence(torch.ones(100, 1), torch.zeros(1000, 1))
        assert estimate.item() == pytest.approx(math.log(1000.5 / 0.5))

    def test_dimensions_are_independent(self):
        draws, prior_draws = normal(50, 7, dims=6).reshape(50, 2, 3), normal(80, 8, dims=6).reshape(80, 2, 3)
        estimate = marginal_divergence(draws, prior_draws)
        assert estimate.shape == (2, 3)
        assert estimate[1, 2] == marginal_divergence(draws[:, 1, 2], prior_draws[:, 1, 2])
        assert marginal_divergence(draws.flip(0), prior_draws.flip(0)).equal(estimate)
        assert marginal_divergence(3 * draws + 1, 3 * prior_draws + 1).equal(estimate)

    @pytest.mark.parametrize("rows", [1, 2, 3])
    def test_few_draws(self, rows):
        assert marginal_divergence(normal(rows, 9), normal(1, 10)).isfinite().all()
        assert marginal_divergence_error(normal(rows, 9), normal(1, 10)).isfinite().all()

    @pytest.mark.parametrize(
        ("draws", "prior_draws", "message"),
        [
            (torch.zeros(5, 2), torch.zeros(5, 3), r"latent shape \(2,\) that draws have, got \(5, 3\)"),
            (torch.zeros(5, 2), torch.full((5, 2), math.inf), "prior_draws: row 0 is not finite"),
            (torch.zeros(0, 2), torch.zeros(5, 2), "draws: expected"),
        ],
    )
    def test_bad_input_is_one_line(self, draws, prior_draws, message):
        with pytest.raises(InputError, match=message) as error:
            marginal_divergence(draws, prior_draws)
        assert "\n" not in str(error.value)
