"""Fits to data with missing numbers, against closed forms and expectation maximisation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import InputError, VariationalInference
from ppl_vae.data import NamedArrays, StoredRows, StreamedBatches
from ppl_vae.estimator import load, load_data
from ppl_vae.evaluation.measure_gap import GapSettings, measure_gap
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.not_miwae import NotMIWAE
from ppl_vae.models.ppca import PPCA
from ppl_vae.models.vae import VAE
from ppl_vae.program import seeded
from ppl_vae.uses import embed, impute, outliers
from tests.helpers.missing import maximise_expectation, seen_log_prob
from tests.helpers.runs import run_without_figures

pytestmark = pytest.mark.filterwarnings("ignore:.*rows of the training data:ppl_vae.errors.InputWarning")

RANDOM = np.random.default_rng(0)
LOADINGS, NOISE = np.array([[1.0], [-0.8], [0.5], [1.2]]), np.array([0.5, 0.6, 0.6, 0.7])
WHOLE = 1 + RANDOM.normal(size=(150, 1)) @ LOADINGS.T + NOISE * RANDOM.normal(size=(150, 4))
X = np.where(RANDOM.random(WHOLE.shape) < 0.3, np.nan, WHOLE)
X[7] = np.nan


@pytest.fixture(autouse=True)
def _one_seed() -> Iterator[None]:
    """Draw the first weights of every program from the same generator, whatever ran before."""
    with seeded(0):
        yield


class ExactGuide(FactorAnalysis):
    """A factor analysis whose guide is its posterior, given what was seen."""

    def guide(self, x: Tensor, x_mask: Tensor) -> None:  # type: ignore[override]
        weight, (mean, noise) = self.decoder.linear.weight, self.decoder(x.new_zeros(self.latent_dim))
        seen = x_mask / noise**2
        precision = torch.eye(self.latent_dim).to(x) + torch.einsum("nd,di,dj->nij", seen, weight, weight)
        loc = torch.linalg.solve(precision, torch.einsum("nd,nd,di->ni", seen, x - mean, weight)[..., None])[..., 0]
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(loc, precision_matrix=precision))


def gaussian_of(vi: VariationalInference) -> tuple[np.ndarray, np.ndarray]:
    decoder = vi.program.decoder
    with torch.no_grad():
        mean, noise = decoder(torch.zeros(1).double())
        return mean.numpy(), (decoder.linear.weight @ decoder.linear.weight.T + noise.square().diag()).numpy()


def exact(vi: VariationalInference, x: np.ndarray = X) -> np.ndarray:
    return np.array([seen_log_prob(*gaussian_of(vi), row) for row in x])


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({}, 1e-5), pytest.param({"bound": "iwae", "num_particles": 2}, 2e-3, marks=pytest.mark.slow)],
)
def test_a_fit_with_the_exact_posterior_finds_the_parameters_of_em(options: dict[str, Any], tolerance: float) -> None:
    """The weights of its draws are the evidence, so that training climbs the likelihood of the seen numbers itself.

    The gradient of the ELBO has no noise at the maximum; that of the importance-weighted bound keeps some.
    """
    vi = VariationalInference(
        ExactGuide(4, 1), max_epochs=300, batch_size=150, learning_rate=0.1, validation_fraction=0.0,
        precision="64-true", compile="off", num_samples=2, patience=None, **options,
    )  # fmt: skip
    vi.fit(X)
    mean, covariance = maximise_expectation(X, 1)
    highest = np.mean([seen_log_prob(mean, covariance, row) for row in X])
    np.testing.assert_allclose(exact(vi).mean(), highest, atol=tolerance)
    fitted_mean, fitted = gaussian_of(vi)
    np.testing.assert_allclose(fitted_mean, mean, atol=tolerance**0.5)
    np.testing.assert_allclose(fitted, covariance, atol=2 * tolerance**0.5)
    np.testing.assert_allclose(vi.score_samples(X), exact(vi), atol=1e-9)
    assert vi.score_samples(X)[7] == 0


@pytest.mark.parametrize("guide", ["amortized", "derived"])
def test_a_fit_to_rows_on_disk_is_that_to_rows_in_memory(guide: str) -> None:
    rows = StoredRows(NamedArrays({"x": X}))
    fits = []
    for data in (X, rows):
        with seeded(0):
            vi = make_fit(guide, max_epochs=2, num_samples=5, validation_fraction=0.0)
        fits.append(vi.fit(data))
    held, stored = fits
    np.testing.assert_allclose(stored.score_samples(rows), held.score_samples(X), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(stored.score_samples(X), stored.score_samples(rows))
    streamed = list(StreamedBatches(stored.fitted.checked((rows,)), ["x", "x_mask"], 7, buffer_bytes=900).in_order())
    np.testing.assert_array_equal(torch.cat([mask for _, mask in streamed]), ~np.isnan(X))
    assert all(bool(torch.isfinite(x).all()) for x, _ in streamed)


METHODS = {
    "amortized": {"guide": "amortized"},
    "derived": {"guide": "amortized", "family": "full"},
    "per-sample": {"guide": "per-sample", "family": "full", "local_steps": 5, "inference_steps": 150},
    "semi-amortized": {"guide": "semi-amortized", "family": "full", "local_steps": 5, "inference_steps": 150},
}


def make_fit(name: str, **options: Any) -> VariationalInference:
    program: Any = FactorAnalysis(4, 1).double()
    if name == "derived":
        program = without_guide(program)
    options = (
        METHODS[name] | {"max_epochs": 12, "precision": "64-true", "compile": "off", "num_samples": 2000} | options
    )
    return VariationalInference(program, **options)


def without_guide(program: nn.Module) -> nn.Module:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.inner = program.decoder, program

        def model(self, x: Tensor) -> None:
            self.inner.model(x)

    return Bare()


@pytest.mark.parametrize(
    "name", ["amortized", pytest.param("derived", marks=pytest.mark.slow), "per-sample", "semi-amortized"]
)
def test_every_method_has_the_evidence_of_what_was_seen(name: str) -> None:
    vi = make_fit(name).fit(X[:40], validation=X[40:60])
    rows, truth = X[60:80], exact(vi, X[60:80])
    evaluation = vi.evaluate(rows, estimators=("prior", "iwae", "ais"), num_temperatures=30, num_chains=32)
    for estimate in evaluation.evidence.values():
        error, sure = np.abs(estimate.log_evidence.numpy() - truth), ~estimate.doubtful.numpy()
        assert sure.any()
        assert (error < 5 * estimate.mcse.numpy() + 0.1)[sure].all()
    assert evaluation.numbers_per_datum == (~np.isnan(rows)).mean() * 4
    np.testing.assert_array_equal(outliers(vi, rows, estimator="iwae").log_evidence, vi.score_samples(rows))
    assert np.isfinite(embed(vi, rows).mean).all()
    assert vi.reconstruct(rows).shape == rows.shape
    np.testing.assert_array_equal(np.isnan(vi.observed(rows)["x"]), np.isnan(rows))
    filled = impute(vi, rows, num_samples=200)
    np.testing.assert_allclose(filled.log_evidence, truth, atol=0.1)
    np.testing.assert_array_equal(filled.completed["x"][~np.isnan(rows)], rows[~np.isnan(rows)])
    simulated = vi.evaluate(rows, estimators=("bdmc",), num_simulated=5, num_temperatures=5, num_chains=4)
    assert np.isfinite(simulated.rows["bdmc"].log_evidence)


@pytest.mark.parametrize("make", [FactorAnalysis, PPCA])
def test_the_exact_evidence_is_that_of_what_was_seen(make: Any) -> None:
    vi = VariationalInference(make(4, 1), max_epochs=2, precision="64-true", compile="off").fit(X)
    np.testing.assert_allclose(vi.evidence(X, estimator="exact").log_evidence, exact(vi), rtol=1e-12)
    gap = measure_gap(vi.fitted, vi.fitted.checked((X[:10],)), GapSettings("full", 200, num_samples=100))
    assert gap.by == "exact"
    assert abs(gap.gaps("full")["approximation"][0]) < 0.02


def test_data_without_holes_have_the_numbers_that_they_had() -> None:
    """A fit with masks that hide nothing has the numbers of one without masks, but for the encoder's own arguments."""
    scores = []
    for hole in (False, True):
        valid = WHOLE[100:120].copy()
        if hole:
            valid[0, 0] = np.nan
        vi = VariationalInference(FactorAnalysis, max_epochs=3, patience=None, precision="64-true", compile="off")
        vi.set_params(program=lambda: FactorAnalysis(4, 1))
        vi.fit(WHOLE[:100], validation=valid)
        scores.append(vi.score_samples(WHOLE[120:]))
        assert vi.arguments_ == (("x", "x_mask") if hole else ("x",))
    np.testing.assert_allclose(*scores, rtol=1e-10)


def test_further_holes_are_drawn_in_training() -> None:
    options = {"extra_missing": 0.5, "max_epochs": 4, "precision": "64-true", "compile": "off"}
    fits = [VariationalInference(lambda: VAE(4, 1, (8,), likelihood="gaussian"), **options).fit(WHOLE) for _ in "ab"]
    plain = VariationalInference(lambda: VAE(4, 1, (8,), likelihood="gaussian"), **(options | {"extra_missing": 0.0}))
    scores = [vi.score_samples(WHOLE) for vi in (*fits, plain.fit(WHOLE))]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).all()
    assert np.isfinite(fits[0].score_samples(X)).all()
    with pytest.raises(InputError, match="column 0 of 'x' is missing in row 2, and in the fit no number of 'x' was"):
        plain.score_samples(np.where(np.arange(12).reshape(3, 4) == 8, np.nan, 1.0))


class Conditioned(nn.Module):
    """A program with a real condition."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))

    def model(self, x: Tensor, w: Tensor) -> None:
        pyro.module("own", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.slope * w, 1.0))
            pyro.sample("x", dist.Normal(z[..., None], 1.0).expand([*z.shape, 4]).to_event(1), obs=x)


def test_a_condition_with_holes_is_refused_in_one_line() -> None:
    w = np.arange(150.0)
    w[3] = np.nan
    with pytest.raises(InputError, match="the training data: 'w' is missing in row 3, and the model needs it") as error:
        VariationalInference(Conditioned(), max_epochs=1, validation_fraction=0.0, compile="off").fit(X, w)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_model_of_the_missingness_is_nearer_to_the_mean_of_a_censored_variable() -> None:
    """What is above the mean is missing; the mean over seeds is nearer to the truth than EM by three of its errors.

    The solution of EM is the best one of all models for which the numbers are missing at random.
    """
    random = np.random.default_rng(1)
    whole = 1 + random.normal(size=(600, 1)) + 0.4 * random.normal(size=(600, 4))
    seen, truth = whole.copy(), whole[:, 0].mean()
    seen[whole[:, 0] > 1, 0] = np.nan
    mean, _ = maximise_expectation(seen, 1, steps=60)
    options = {"bound": "iwae", "num_particles": 5, "max_epochs": 300, "batch_size": 200, "learning_rate": 0.03}
    found = []
    for seed in range(4):
        with seeded(seed):
            program = NotMIWAE(4, 1, ())
        vi = VariationalInference(program, seed=seed, patience=None, compile="off", **options).fit(seen)
        found.append(vi.prior(4000).observed["x"][:, 0].mean())
    error = np.hypot(np.std(found, ddof=1) / 2, np.std(whole[:, 0]) / (4 * 4000) ** 0.5)
    assert abs(np.mean(found) - truth) + 3 * error < abs(mean[0] - truth)


@pytest.mark.slow
def test_a_run_of_a_table_with_holes_is_loaded_evaluated_and_resumed(tmp_path: Path) -> None:
    rows = [",".join("NA" if np.isnan(v) else f"{v:.6f}" for v in row) for row in X]
    (table := tmp_path / "table.csv").write_text("a,b,c,d\n" + "\n".join(rows) + "\n")
    likelihood = ["--model", "vae", "--model.latent_dim", "2", "--model.likelihood", "gaussian", "--compile", "off"]
    for run, epochs in (("whole", "4"), ("parts", "2")):
        given = ["fit", "--data", str(table), *likelihood, "--output", str(tmp_path / run), "--max_epochs", epochs]
        given += ["--schedule", "constant", "--extra_missing", "0.2", "--num_samples", "50"]
        assert run_without_figures("fit", given[1:]) == 0
    assert run_without_figures("fit", ["--resume", "--output", str(tmp_path / "parts"), "--max_epochs", "4"]) == 0
    fits = [load(tmp_path / run) for run in ("whole", "parts")]
    test = load_data(tmp_path / "whole").test
    assert np.isnan(test["x"]).any()
    np.testing.assert_array_equal(*(vi.score_samples(test) for vi in fits))
    whole = str(tmp_path / "whole")
    assert run_without_figures("evaluate", [whole, "--num_samples", "50"]) == 0
    assert run_without_figures("impute", [whole, "--data", str(table), "--num_samples", "30"]) == 0
