"""Test the evidence of programs with latents that all data share: every number is named, and is what its name says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from scipy.special import betaln, gammaln, logsumexp, polygamma, psi
from scipy.stats import binom, multivariate_normal

from ppl_vae import VariationalInference
from ppl_vae.evaluation.comparison import compare_fits, comparison_table, measure
from ppl_vae.evaluation.evaluation import evidence_table
from ppl_vae.report.tables import at_the_end_of_fit
from ppl_vae.runs.posterior import import_arviz, write_posterior
from ppl_vae.uses import outliers
from tests.helpers.scenarios import SharedMean, normal

HITS = np.array([18, 17, 16, 15, 14, 14, 13, 12, 11, 11, 10, 10, 10, 10, 10, 9, 8, 7], "float64")
TRIALS = np.full(18, 45.0)


def batting(n: torch.Tensor, h: torch.Tensor) -> None:
    """Hits of 18 players who share one chance: the evidence is beta-binomial."""
    p = pyro.sample("p", dist.Uniform(n.new_zeros(()), n.new_ones(())))
    with pyro.plate("players", len(n)):
        pyro.sample("obs", dist.Binomial(n, p), obs=h)


def fitted(program: Any, data: Any, loc: float, scale: float) -> VariationalInference:
    """Return a program whose shared latent has this Gaussian posterior, in unconstrained space."""
    options = {"max_epochs": 1, "validation_fraction": 0.0, "learning_rate": 1e-9, "precision": "64-true"}
    vi = VariationalInference(program, compile="off", **options).fit(data)
    posterior = vi.program_.global_posterior
    assert posterior is not None
    with torch.no_grad():
        for parameters, value in ((posterior.loc, loc), (posterior.log_scale, math.log(scale))):
            next(iter(parameters.values())).fill_(value)
    return vi


@pytest.fixture(scope="module")
def players() -> VariationalInference:
    """The Gaussian with the moments of the exact posterior, a Beta, on the scale of the logit."""
    a, b = HITS.sum() + 1, (TRIALS - HITS).sum() + 1
    return fitted(batting, {"n": TRIALS, "h": HITS}, psi(a) - psi(b), (polygamma(1, a) + polygamma(1, b)) ** 0.5)


def test_the_joint_bound_is_below_the_exact_joint_evidence(players: VariationalInference) -> None:
    """The exact evidence per datum is -2.700; the ELBO without the divergence of q(p), -2.55, is no bound on it."""
    exact = (gammaln(46) - gammaln(HITS + 1) - gammaln(46 - HITS)).sum() + betaln(HITS.sum() + 1, 810 - HITS.sum() + 1)
    exact /= 18
    assert exact == pytest.approx(-2.700, abs=1e-3)
    evaluation = players.evaluate({"n": TRIALS, "h": HITS}, num_samples=2000)
    rows = evaluation.rows
    assert {name: row.of for name, row in rows.items()} == {
        "elbo": "predictive", "elbo_joint": "joint", "iwae": "predictive"
    }  # fmt: skip
    joint = rows["elbo_joint"]
    assert joint.log_evidence == pytest.approx(exact, abs=5 * joint.mcse + 1e-4)  # the posterior is nearly a Gaussian
    assert joint.log_evidence < exact + 3 * joint.mcse
    assert joint.mcse < 0.01
    assert rows["elbo"].log_evidence > exact + 0.1


def test_predictive_rows_are_the_density_given_the_fit(players: VariationalInference) -> None:
    """log E p(h | p) over the fitted posterior of p, by quadrature."""
    posterior = players.program_.global_posterior
    assert posterior is not None
    loc, scale = posterior.loc["p"].item(), posterior.log_scale["p"].exp().item()
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    p = 1 / (1 + np.exp(-(loc + scale * nodes)))
    expected = logsumexp(binom.logpmf(HITS[:, None], 45, p), b=weights / weights.sum(), axis=1)
    evidence = players.evidence({"n": TRIALS, "h": HITS}, num_samples=2000)
    assert np.abs(evidence.log_evidence.numpy() - expected).max() < 5 * evidence.mcse.max().item()
    row = players.evaluate({"n": TRIALS, "h": HITS}, num_samples=2000).rows["iwae"]
    assert row.log_evidence == pytest.approx(expected.mean(), abs=4 * row.mcse)


def test_tables_files_and_reports_name_what_is_reported(players: VariationalInference) -> None:
    evaluation = players.evaluate({"n": TRIALS, "h": HITS}, num_samples=50)
    numbers = json.loads(json.dumps(evaluation.numbers()))
    labels = ["elbo, predictive given the fit", "elbo, joint", "iwae, predictive given the fit, 50 draws"]
    assert [cells[0] for cells in evidence_table(numbers, "train").cells()] == labels
    assert numbers["shared"] == ["p"]
    assert {row["of"] for row in numbers["estimators"].values()} == {"predictive", "joint"}
    assert "all data share p: predictive rows are of log E p(x | p) over its posterior" in evaluation.table("train")
    summary = json.loads(json.dumps({"test": evaluation.score()}))
    assert (summary["test"]["of"], "elbo_joint" in summary["test"]) == ("predictive", True)
    assert [cells[0] for cells in at_the_end_of_fit(summary).cells()] == [labels[0], labels[2]]
    assert outliers(players, {"n": TRIALS, "h": HITS}, num_samples=5).estimator == "iwae, predictive given the fit"
    fits = {name: measure(players.fitted, {"n": TRIALS, "h": HITS}, num_samples=50) for name in ("a", "b")}
    assert "log evidence by iwae, predictive given the fit, 50 draws" in comparison_table(compare_fits(fits), "train")


@pytest.mark.parametrize("half", [False, True])
def test_the_joint_bound_is_exact_for_the_exact_posterior(half: bool) -> None:
    """x ~ N(w, 1.49), w ~ N(0, 9)."""
    x = normal(20).numpy() + 1.5
    variance = 1 / (1 / 9 + 20 / 1.49)
    vi = fitted(SharedMean(local=False).double(), x, variance * x.sum() / 1.49, variance**0.5)
    exact = multivariate_normal.logpdf(x, np.zeros(20), 1.49 * np.eye(20) + 9 * np.ones((20, 20))) / 20
    row = vi.evaluate(x, num_samples=1000).rows["elbo_joint"]
    if half:  # still a lower bound on their own joint evidence
        exact = multivariate_normal.logpdf(x[:10], np.zeros(10), 1.49 * np.eye(10) + 9 * np.ones((10, 10))) / 10
        row = vi.evaluate(x[:10], num_samples=1000).rows["elbo_joint"]
        assert row.log_evidence < exact + 4 * row.mcse
    else:
        assert row.log_evidence == pytest.approx(exact, abs=5 * row.mcse)
        assert row.mcse < 0.05


def test_the_posterior_of_shared_latents_is_among_the_draws_and_goes_with_them(tmp_path: Path) -> None:
    """Draw k of the mean of every datum is that of draw k of w, in all batches, and the moments are those of q(w)."""
    x = normal(20).numpy() + 1.5
    vi = fitted(SharedMean(local=False).double(), x, 1.4, 0.25)
    draws = vi.posterior(np.tile(x, 30), num_samples=400)  # several batches
    w = draws.shared["w"]
    assert w.shape == (400,)
    np.testing.assert_allclose(draws.means["x"], np.repeat(w[:, None], 600, 1))
    assert w.mean() == pytest.approx(1.4, abs=5 * 0.25 / 20)
    assert w.std() == pytest.approx(0.25, rel=0.2)
    write_posterior(
        tmp_path / "posterior.nc", draws.latents, draws.observed, draws.data, np.arange(600), shared=draws.shared
    )
    saved = import_arviz().from_netcdf(tmp_path / "posterior.nc").posterior
    assert dict(saved.sizes) == {"chain": 1, "draw": 400}
    np.testing.assert_array_equal(saved["w"].values[0], w)


def test_draws_of_weights_go_with_those_of_the_data_if_each_takes_a_run() -> None:
    """The mean of y is x w for every draw of w, which the guide samples."""

    def model(x: torch.Tensor, y: torch.Tensor) -> None:
        w = pyro.sample("w", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    x, y = normal(12, 3).numpy(), normal(12).numpy()
    options = {"max_epochs": 1, "validation_fraction": 0.0, "precision": "64-true", "compile": "off"}
    assert fitted(SharedMean(local=False).double(), y, 0.0, 1.0).posterior(y, num_samples=1).shared["w"].shape == (1,)
    for program in ((model, AutoNormal(model)), model):
        draws = VariationalInference(program, **options).fit(x, y).posterior(x, y, num_samples=7)
        assert draws.shared["w"].shape == (7, 3)
        np.testing.assert_allclose(draws.means["y"], draws.shared["w"] @ x.T)
