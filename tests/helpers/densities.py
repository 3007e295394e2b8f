"""Problems with a known evidence: draws of a start density, both log densities, and an exact posterior draw."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Poisson

from ppl_vae.program import seeded


def double(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.double)


def log_normal(u: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """Return a log density summed over the last dimension, faster than the class of torch, which checks arguments."""
    scale = torch.as_tensor(scale, dtype=u.dtype)
    return (-(((u - loc) / scale) ** 2) / 2 - scale.log() - math.log(2 * math.pi) / 2).sum(-1)


class LinearGaussian:
    """z ~ N(0, I), x | z ~ N(W z, 0.5^2 I): factor analysis, from the prior or from a Gaussian near the posterior.

    ``repeat`` makes every datum the first one: repetitions of one problem.
    """

    def __init__(
        self, num_data: int, dim: int = 2, *, start: str = "prior", repeat: bool = False, loading: float = 1.0
    ) -> None:
        with seeded(10 + dim):
            weights = loading * torch.randn(dim + 2, dim, dtype=torch.double)
            self.latents = torch.randn(num_data, dim, dtype=torch.double)
            x = self.latents @ weights.T + 0.5 * torch.randn(num_data, dim + 2, dtype=torch.double)
        if repeat:
            x = x[:1].expand(num_data, -1)
        self.x, self.weights = x, weights
        marginal = weights @ weights.T + 0.25 * torch.eye(dim + 2, dtype=torch.double)
        self.log_evidence = MultivariateNormal(x.new_zeros(dim + 2), marginal).log_prob(x)
        precision = torch.eye(dim, dtype=torch.double) + weights.T @ weights / 0.25
        mean = torch.linalg.solve(precision, weights.T @ x.T / 0.25).T
        self.loc, self.scale = torch.zeros_like(mean), torch.ones_like(mean)
        if start == "guide":
            self.loc, self.scale = mean + 0.1, 1.3 * precision.diagonal().rsqrt().expand_as(mean)

    def draw(self, num_chains: int) -> Tensor:
        return self.loc + self.scale * torch.randn(num_chains, *self.loc.shape, dtype=torch.double)

    def log_densities(self, u: Tensor) -> tuple[Tensor, Tensor]:
        log_target = log_normal(u, 0.0, 1.0) + log_normal(self.x, u @ self.weights.T, 0.5)
        return log_normal(u, self.loc, self.scale), log_target


class Bimodal:
    """A path from N(0, 3^2) to e^-1.2 times a mixture of two Gaussians."""

    log_evidence = double(-1.2)

    def __init__(self, num_data: int) -> None:
        self.num_data = num_data
        with seeded(3):
            left = torch.rand(num_data, 1) < 0.3
            noise = torch.randn(num_data, 1, dtype=torch.double)
            self.latents = torch.where(left, -2 + 0.5 * noise, 3 + 0.7 * noise)

    def draw(self, num_chains: int) -> Tensor:
        return 3 * torch.randn(num_chains, self.num_data, 1, dtype=torch.double)

    def log_densities(self, u: Tensor) -> tuple[Tensor, Tensor]:
        left, right = math.log(0.3) + log_normal(u, -2.0, 0.5), math.log(0.7) + log_normal(u, 3.0, 0.7)
        return log_normal(u, 0.0, 3.0), torch.logaddexp(left, right) - 1.2


class Counts:
    """z ~ N(0, 1), x | z ~ Poisson(e^(1 + z)): with the evidence by Gauss-Hermite quadrature."""

    def __init__(self, num_data: int) -> None:
        with seeded(4):
            self.latents = torch.randn(num_data, 1, dtype=torch.double)
            self.x = torch.poisson((1 + self.latents).exp())
        nodes, weights = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(150))
        log_likelihood = Poisson((1 + nodes).exp()).log_prob(self.x)
        self.log_evidence = (log_likelihood + (weights / math.sqrt(2 * math.pi)).log()).logsumexp(-1)

    def draw(self, num_chains: int) -> Tensor:
        return torch.randn(num_chains, *self.latents.shape, dtype=torch.double)

    def log_densities(self, u: Tensor) -> tuple[Tensor, Tensor]:
        log_prior = log_normal(u, 0.0, 1.0)
        return log_prior, log_prior + (self.x * (1 + u) - (1 + u).exp() - (self.x + 1).lgamma()).sum(-1)


def standard_error(draws: Tensor) -> float:
    return draws.std().item() / len(draws) ** 0.5


class LinearChain:
    """z_t ~ N(0.9 z_(t-1), 0.5^2), x_t ~ N(z_t, 0.6^2), z_0 = 0, one number a step; its evidence by the Kalman filter.

    ``repeat`` makes every datum the first one.
    """

    decay, noise, error = 0.9, 0.5, 0.6

    def __init__(self, num_data: int, num_steps: int, repeat: int = 1) -> None:
        z, steps = torch.zeros(num_data, dtype=torch.double), []
        with seeded(num_steps):
            for _ in range(num_steps):
                z = self.decay * z + self.noise * torch.randn_like(z)
                steps.append(z + self.error * torch.randn_like(z))
        self.x = torch.stack(steps, 1).repeat(repeat, 1)
        self.lengths = torch.full((num_data * repeat,), num_steps)

    @property
    def log_evidence(self) -> Tensor:
        """The log density of x, one step after the other."""
        mean, variance = torch.zeros_like(self.x[:, 0]), 0.0
        total = torch.zeros_like(mean)
        for x in self.x.unbind(1):
            mean, variance = self.decay * mean, self.decay**2 * variance + self.noise**2
            spread = variance + self.error**2
            total = total + log_normal((x - mean)[:, None], 0.0, spread**0.5)
            gain = variance / spread
            mean, variance = mean + gain * (x - mean), (1 - gain) * variance
        return total

    def proposal(self, before: Tensor, step: int) -> tuple[Tensor, float]:
        """Return mean and deviation of z_t given z_(t-1) and x_t, with a deviation that is wider by a half."""
        precision = self.noise**-2 + self.error**-2
        loc = (self.decay * before / self.noise**2 + self.x[:, step, None] / self.error**2) / precision
        return loc, 1.5 * precision**-0.5
