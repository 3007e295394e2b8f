"""Files for ArviZ: its own statistics read them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from scipy.stats import norm

from ppl_vae import VariationalInference
from ppl_vae.evaluation.conditional import conditional_log_likelihood
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded
from ppl_vae.runs.posterior import CONDITIONAL, write_posterior
from tests.helpers.arviz_versions import arviz, leave_one_out

X = np.random.default_rng(0).normal(size=(30, 3)).astype("float32")


def test_the_log_likelihood_is_that_of_the_draws_and_loo_takes_it(tmp_path: Path) -> None:
    """Against normal densities by scipy; ``arviz.loo`` reads the file."""
    with seeded(0):
        program = FactorAnalysis(data_dim=3, latent_dim=1)
    vi = VariationalInference(program, max_epochs=1).fit(X, verbose=False)
    draws = vi.posterior(X, num_samples=500)
    log_p = conditional_log_likelihood(vi.fitted, draws, X)
    assert log_p is not None
    scale = vi.program_.model_sites()["x"]["fn"].stddev[0].detach().numpy()
    np.testing.assert_allclose(log_p, norm(draws.means["x"], scale).logpdf(X).sum(-1), rtol=1e-4, atol=1e-4)
    path = tmp_path / "posterior.nc"
    write_posterior(path, draws.latents, draws.observed, draws.data, np.arange(30), log_likelihood=log_p)
    saved = arviz.from_netcdf(path)
    assert saved.log_likelihood[CONDITIONAL].dims == ("chain", "draw", "datum")
    assert "optimistic" in saved.attrs["log_likelihood"]
    np.testing.assert_array_equal(saved.log_likelihood[CONDITIONAL].values[0], log_p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights with heavy tails, for the latents have seen their datum
        estimate = leave_one_out(saved)
    assert estimate < log_p.mean(0).sum()  # leaving a datum out cannot make it more likely
