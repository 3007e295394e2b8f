"""Imputation against closed forms."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn import functional

from ppl_vae import InputError, VariationalInference
from ppl_vae.models.cvae import CVAE
from ppl_vae.models.mixture import Mixture
from ppl_vae.uses import Imputation, column_means, impute
from ppl_vae.uses.impute import effective_number, tempered, weighted_quantile
from tests.helpers.known import Gaussian, factor_analysis


@pytest.fixture(scope="module")
def known() -> Gaussian:
    return factor_analysis()


@pytest.fixture(scope="module")
def holes(known: Gaussian) -> np.ndarray:
    return np.where(np.random.default_rng(1).random(known.x.shape) < 0.5, np.nan, known.x)


@pytest.fixture(scope="module")
def imputed(known: Gaussian, holes: np.ndarray) -> Imputation:
    return impute(known.vi, holes)


def test_the_mean_is_the_closed_form_conditional_mean(known: Gaussian, holes: np.ndarray, imputed: Imputation) -> None:
    exact = [known.conditional(row) for row in holes]
    mean, sd = (np.array(moment) for moment in zip(*exact, strict=True))
    hole = np.isnan(holes)
    error = sd / np.sqrt(imputed.effective)[:, None]  # at most: the mean of x given z varies less than x does
    off = np.abs(imputed.mean["x"] - mean)[hole] / error[hole]
    assert off.max() < 4.5  # of 1200
    assert np.sqrt(np.square(off).mean()) < 1.1
    ratio = imputed.sd["x"][hole] / sd[hole]
    assert abs(ratio - 1).max() < 4.5 / np.sqrt(2 * imputed.effective.min())
    assert abs(ratio.mean() - 1) < 0.01
    np.testing.assert_array_equal(imputed.mean["x"][~hole], known.x[~hole])
    np.testing.assert_array_equal(imputed.completed["x"], imputed.mean["x"])


def test_intervals_contain_the_missing_numbers(known: Gaussian, holes: np.ndarray, imputed: Imputation) -> None:
    hole = np.isnan(holes)
    inside = (known.x >= imputed.lower["x"]) & (known.x <= imputed.upper["x"])
    assert 0.85 <= inside[hole].mean() <= 0.95


def test_the_figure_has_the_intervals_of_a_column_in_the_order_of_their_means(imputed: Imputation) -> None:
    axes = imputed.plot().axes
    assert [ax.get_title().partition("\n")[0] for ax in axes] == [f"x[{i}]" for i in range(8)]
    hole = imputed.missing["x"][:, 0]
    order = np.argsort(imputed.mean["x"][hole, 0], kind="stable")
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), imputed.mean["x"][hole, 0][order])
    ends = np.array([line[:, 1] for line in axes[0].collections[0].get_segments()])
    np.testing.assert_array_equal(ends, np.stack([imputed.lower["x"], imputed.upper["x"]], -1)[hole, 0][order])
    images = imputed.plot(image_shape=(2, 4), num_data=3).axes[0].images
    np.testing.assert_array_equal(
        images[0].get_array().ravel()[~imputed.missing["x"][0]], imputed.mean["x"][0][~imputed.missing["x"][0]]
    )
    with pytest.raises(InputError, match="nothing is missing"):
        imputed._replace(missing={"x": np.zeros((300, 8), bool)}).plot()


def test_draws_have_the_conditional_distribution(known: Gaussian, holes: np.ndarray) -> None:
    few = holes[:20]
    draws = impute(known.vi, few, num_samples=2000, num_draws=2000).draws["x"]
    for row, drawn in zip(few, draws.swapaxes(0, 1), strict=True):
        mean, sd = known.conditional(row)
        hole = np.isnan(row)
        # the error has two parts: that of the weighted draws, and that of drawing from them again
        error = sd[hole] * np.sqrt(2 / 2000)
        assert (np.abs(drawn[:, hole].mean(0) - mean[hole]) < 4.5 * error).all()
        np.testing.assert_array_equal(drawn[:, ~hole], np.broadcast_to(row[~hole], drawn[:, ~hole].shape))


def test_the_log_evidence_is_that_of_the_numbers_seen(known: Gaussian, holes: np.ndarray, imputed: Imputation) -> None:
    for row, log_evidence in zip(holes, imputed.log_evidence, strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        if len(seen):
            marginal = torch.distributions.MultivariateNormal(
                torch.tensor(known.mean[seen]), torch.tensor(known.covariance[np.ix_(seen, seen)])
            )
            assert abs(marginal.log_prob(torch.tensor(row[seen])).item() - log_evidence) < 0.05
        else:
            assert abs(log_evidence) < 0.05


def test_a_mask_and_nan_give_the_same_answer(
    known: Gaussian, holes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known.vi, "inference_steps", 50)  # the law holds for any proposal
    by_nan = impute(known.vi, holes[:5], num_samples=50)
    by_mask = impute(known.vi, known.x[:5], missing={"x": np.isnan(holes[:5])}, num_samples=50)
    # the numbers in the gaps do not count: both fill them with the mean of the numbers that were seen
    for one, other in zip(by_nan.mean.values(), by_mask.mean.values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_mixture_is_filled_in_exactly() -> None:
    """The weights of a Gaussian mixture are all equal, and each component's conditional mean is known."""
    x = np.random.default_rng(0).normal(size=(40, 3))
    torch.manual_seed(0)
    program = Mixture(data_dim=3, num_components=4)
    with torch.no_grad():
        program.raw_tril.add_(0.8 * torch.randn_like(program.raw_tril))
    vi = VariationalInference(program, max_epochs=1, precision="64-true", compile="off").fit(x)
    gaps = x.copy()
    gaps[:, 1] = np.nan
    gaps[20:, 2] = np.nan
    imputed = impute(vi, gaps, num_samples=4000)
    assert imputed.effective.min() > 3999
    scale = functional.softplus(program.raw_tril.diagonal(dim1=-2, dim2=-1)) + program.min_scale
    tril = (program.raw_tril.tril(-1) + scale.diag_embed()).detach()
    loc, covariance = program.loc.detach(), tril @ tril.mT
    for i, row in enumerate(torch.tensor(gaps)):
        seen, hole = (~row.isnan()).nonzero()[:, 0], row.isnan().nonzero()[:, 0]
        cut = covariance[:, seen[:, None], seen]
        density = torch.distributions.MultivariateNormal(loc[:, seen], cut).log_prob(row[seen])
        shares = (density + program.logits.detach().log_softmax(-1)).softmax(-1)
        gain = covariance[:, hole[:, None], seen] @ torch.linalg.inv(cut)
        means = loc[:, hole] + (gain @ (row[seen] - loc[:, seen])[..., None])[..., 0]
        exact = (shares[:, None] * means).sum(0)
        spread = (shares[:, None] * (means - exact).square()).sum(0).sqrt()
        error = (spread / np.sqrt(4000)).clamp(min=1e-9)
        assert ((torch.tensor(imputed.mean["x"][i])[hole] - exact).abs() < 4.5 * error).all()
        evidence = (density + program.logits.detach().log_softmax(-1)).logsumexp(-1)
        assert abs(imputed.log_evidence[i] - evidence.item()) < 1e-8


def test_importance_sampling_agrees_if_the_guide_is_good(known: Gaussian) -> None:
    """One number of eight is missing and filled with the column's mean; a wide guide still covers the posterior."""
    _, covariance = known.posterior(known.x)
    encoder = known.vi.program_.module
    gaps = known.x[:30].copy()
    gaps[:, 3] = np.nan
    scaled = known.loadings / known.noise[:, None] ** 2
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "encoder" not in name:
                continue
            weight = (scaled @ covariance).T
            loc = np.concatenate([weight, np.zeros_like(weight)])
            bias = np.concatenate([-weight @ known.mean, np.full(2, 1.0)])
            parameter.copy_(torch.tensor(loc if parameter.dim() == 2 else bias))
    imputed = impute(known.vi, gaps, method="importance", num_samples=4000)
    exact = [known.conditional(row) for row in gaps]
    mean, sd = (np.array(moment) for moment in zip(*exact, strict=True))
    off = np.abs(imputed.mean["x"] - mean)[:, 3] * np.sqrt(imputed.effective) / sd[:, 3]
    assert imputed.effective.min() > 100
    assert off.max() < 4.5


def test_weights_are_tempered_only_if_few_draws_count() -> None:
    generator = torch.Generator().manual_seed(0)
    good = torch.randn(1000, 3, generator=generator, dtype=torch.double)
    poor = 30 * torch.randn(1000, 3, generator=generator, dtype=torch.double)
    together = tempered(torch.cat([good, poor], 1))
    torch.testing.assert_close(together[:, :3], good, rtol=0, atol=0)
    torch.testing.assert_close(
        effective_number(together[:, 3:].softmax(0)), torch.full((3,), 30.0).double(), rtol=1e-3, atol=0
    )
    ratio = together[:, 3:] / poor
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_weighted_quantiles_are_those_of_repeated_draws() -> None:
    random = np.random.default_rng(0)
    draws, counts = random.normal(size=50), random.integers(0, 4, 50)
    repeated = np.sort(np.repeat(draws, counts))
    weights = torch.tensor(counts / counts.sum())
    for share in (0.05, 0.5, 0.95):
        expected = repeated[int(np.ceil(share * len(repeated))) - 1]
        assert weighted_quantile(torch.tensor(draws), weights, share).item() == expected


def test_numbers_that_cannot_be_filled_in_are_refused(known: Gaussian) -> None:
    gap = known.x[:2].copy()
    gap[0, 0] = np.nan
    for options, message in [
        ({"method": "mcmc"}, "unknown"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"missing": {"y": np.ones(2, bool)}}, "mask of 'y'"),
        ({"missing": {"x": np.ones((2, 3), bool)}}, "expected that of the array"),
    ]:
        with pytest.raises(InputError, match=message):
            impute(known.vi, gap, **options)
    x, y = np.eye(4).repeat(5, 0), np.arange(20) % 4
    vi = VariationalInference(CVAE(data_dim=4, num_classes=4, latent_dim=1), max_epochs=1).fit(x, y)
    with pytest.raises(InputError, match="whole numbers"):
        impute(vi, x, y, missing={"y": np.ones(20, bool)})


def test_a_column_that_is_missing_altogether_has_the_models_own_mean(known: Gaussian) -> None:
    gaps = known.x[:50].copy()
    gaps[:, 2] = np.nan
    imputed = impute(known.vi, gaps, num_samples=200)
    assert np.isfinite(imputed.mean["x"]).all()
    exact = np.array([known.conditional(row)[0][2] for row in gaps])
    assert np.corrcoef(imputed.mean["x"][:, 2], exact)[0, 1] > 0.98


def test_column_means_leave_missing_numbers_out() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0], [100.0, 6.0]])
    hole = np.array([[False, False], [False, True], [True, False]])
    np.testing.assert_allclose(column_means(x, hole)[0], [2.0, 4.0])


class Logs(nn.Module):
    """The logarithm of a datum is observed, so that no number can be put back in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(3))

    def model(self, x: torch.Tensor) -> None:
        pyro.module("logs", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("log x", dist.Normal(self.loc + z[..., None], 0.5).to_event(1), obs=x.log())


def test_a_computed_value_is_filled_in_at_its_site() -> None:
    x = np.exp(np.random.default_rng(0).normal(size=(30, 3)))
    vi = VariationalInference(Logs(), guide="per-sample", max_epochs=1, precision="64-true", compile="off").fit(x)
    gaps = x[:4].copy()
    gaps[:, 0] = np.nan
    imputed = impute(vi, gaps, num_samples=2000)
    np.testing.assert_allclose(imputed.mean["log x"][:, 1:], np.log(x[:4, 1:]))
    loc = vi.program.loc.detach().numpy()
    exact = loc[0] + (np.log(x[:4, 1:]) - loc[1:]).sum(1) / (2 + 0.25)  # of two seen numbers with noise 0.5
    sd = np.sqrt(0.25 + 1 / (1 + 2 / 0.25))
    assert (np.abs(imputed.mean["log x"][:, 0] - exact) < 4.5 * sd / np.sqrt(imputed.effective)).all()
    assert imputed.completed == {}
