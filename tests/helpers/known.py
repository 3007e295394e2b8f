"""Fitted programs with known parameters, for which results have a closed form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae import VariationalInference
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded
from tests.helpers import scenarios


class Gaussian(NamedTuple):
    """The Gaussian marginal of a factor analysis, and data from it."""

    vi: VariationalInference
    loadings: np.ndarray
    mean: np.ndarray
    noise: np.ndarray
    x: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        return self.loadings @ self.loadings.T + np.diag(self.noise**2)

    def conditional(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of a row given the numbers that are not NaN, which have deviation 0."""
        seen, hole = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        gain = self.covariance[np.ix_(hole, seen)] @ np.linalg.inv(self.covariance[np.ix_(seen, seen)])
        left = self.covariance[np.ix_(hole, hole)] - gain @ self.covariance[np.ix_(seen, hole)]
        mean, sd = row.copy(), np.zeros(len(row))
        mean[hole] = self.mean[hole] + gain @ (row[seen] - self.mean[seen])
        sd[hole] = np.sqrt(np.diag(left))
        return mean, sd

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return posterior means ``(N, L)`` and the covariance of the latents, given complete data."""
        scaled = self.loadings / self.noise[:, None] ** 2
        covariance = np.linalg.inv(np.eye(self.loadings.shape[1]) + self.loadings.T @ scaled)
        return (x - self.mean) @ scaled @ covariance, covariance


def factor_analysis(data_dim: int = 8, latent_dim: int = 2, num_data: int = 300) -> Gaussian:
    """Return a factor analysis whose encoder has the exact posterior mean and the marginal scale."""
    random = np.random.default_rng(0)
    loadings, mean = random.normal(size=(data_dim, latent_dim)), random.normal(size=data_dim)
    noise = random.uniform(0.3, 0.8, data_dim)
    z, eps = random.normal(size=(num_data, latent_dim)), random.normal(size=(num_data, data_dim))
    x = mean + z @ loadings.T + eps * noise
    program = FactorAnalysis(data_dim=data_dim, latent_dim=latent_dim)
    vi = VariationalInference(program, max_epochs=1, precision="64-true", compile="off").fit(x)
    known = Gaussian(vi, loadings, mean, noise, x)
    with torch.no_grad():
        program.decoder.linear.weight.copy_(torch.tensor(loadings))
        program.decoder.linear.bias.copy_(torch.tensor(mean))
        program.decoder.raw_scale.copy_(torch.tensor(np.log(np.expm1(noise - 1e-2))))
    return known


def small_factor_analysis() -> FactorAnalysis:
    with seeded(2):
        return FactorAnalysis(5, 2).double()


def exact_posterior(program: FactorAnalysis, x: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Mean and precision."""
    with torch.no_grad():
        weight, (origin, noise) = program.decoder.linear.weight, program.decoder(torch.zeros(2).double())
        precision = torch.eye(2).double() + weight.T @ (weight / noise[:, None] ** 2)
        mean = (torch.from_numpy(x) - origin) / noise**2 @ weight @ torch.linalg.inv(precision)
        return mean.numpy(), precision


class Narrow(scenarios.Conjugate):
    """A conjugate program whose guide is far too narrow."""

    log_evidence = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.encoder.bias[1] = -4.0
