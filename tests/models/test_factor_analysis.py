"""Factor analysis with the parameters of scikit-learn: closed form and importance sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis as SklearnFactorAnalysis

from ppl_vae.evidence import iwae, weigh
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import Program, seeded


class TestFactorAnalysis:
    @pytest.fixture
    def fitted(self) -> tuple[FactorAnalysis, np.ndarray, np.ndarray]:
        """Return a program with the parameters that scikit-learn fits, and its log evidence by scikit-learn."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 12)) + rng.normal(size=(200, 12)) * rng.uniform(0.3, 1, 12)
        sklearn = SklearnFactorAnalysis(n_components=3, tol=1e-8).fit(x)
        program = FactorAnalysis(data_dim=12, latent_dim=3, min_noise=0.0).double()
        loading = torch.from_numpy(sklearn.components_.T.copy())
        noise = torch.from_numpy(sklearn.noise_variance_)
        precision = torch.eye(3, dtype=torch.double) + loading.T @ (loading / noise[:, None])
        gain = torch.linalg.solve(precision, loading.T / noise)
        mean = torch.from_numpy(sklearn.mean_)
        with torch.no_grad():
            program.decoder.linear.weight.copy_(loading)
            program.decoder.linear.bias.copy_(mean)
            program.decoder.raw_scale.copy_((noise.sqrt().exp() - 1).log())  # the inverse of softplus
            # The exact posterior mean; the scale is a little wide, which importance weights forgive.
            linear = program.encoder.net[0]
            linear.weight.zero_()
            linear.weight[:3] = gain
            linear.bias[:3] = -gain @ mean
            linear.bias[3:] = 1.1 * torch.linalg.inv(precision).diagonal().sqrt().expm1().log()
        return program, x, sklearn.score_samples(x)

    def test_closed_form_equals_scikit_learn(self, fitted: tuple[FactorAnalysis, np.ndarray, np.ndarray]) -> None:
        program, x, expected = fitted
        with torch.no_grad():
            evidence = program.log_evidence(torch.from_numpy(x))
        np.testing.assert_allclose(evidence.numpy(), expected, atol=1e-6, rtol=0)

    def test_importance_sampling_agrees(self, fitted: tuple[FactorAnalysis, np.ndarray, np.ndarray]) -> None:
        program, x, expected = fitted
        batch = (torch.from_numpy(x),)
        run = Program(program).bind(batch)
        with seeded(0):
            estimate = iwae(weigh(lambda k: run.log_weights(batch, k), 5000, 500))
        error = estimate.log_evidence.numpy() - expected
        standardised = np.abs(error) / estimate.mcse.numpy()
        assert (standardised < 3).mean() >= 0.98  # 0.9973 is expected of 200 data
        mean_error = np.sqrt((estimate.mcse.numpy() ** 2).sum()) / 200
        assert abs(error.mean()) < 3 * mean_error
        assert abs(error.mean()) < 0.02
        assert estimate.mcse.max() < 0.05
