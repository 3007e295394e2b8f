"""Programs whose parameters and posteriors are known, and fits of them that nothing was trained for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.check import CheckedFit, CheckSettings
from ppl_vae.check.subject import choose_data
from ppl_vae.models.hmm import HMM
from ppl_vae.models.mixture import Mixture
from ppl_vae.program import seeded


class KnownProgram(nn.Module):
    """A program with one parameter, which it does not use, so that it can be fitted."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))


class GaussianFactors(KnownProgram):
    """Factor analysis with its exact posterior as guide, or one of another width and place."""

    def __init__(self, width: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.width, self.shift = width, shift
        loadings = torch.tensor([[1.0, 0.3], [-0.5, 1.0], [0.8, -0.6], [0.2, 0.9]], dtype=torch.double)
        precision = torch.eye(2, dtype=torch.double) + loadings.T @ loadings / 0.25
        self.loadings, self.covariance = loadings, torch.linalg.inv(precision)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.loadings.to(x).T, 0.5).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        covariance = self.covariance.to(x)
        mean = x @ self.loadings.to(x) @ covariance / 0.25 + self.shift * covariance.diagonal().sqrt()
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(mean, self.width**2 * covariance))


class GammaPoisson(KnownProgram):
    """Counts with a rate of their own for each datum, and the exact posterior."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(x.new_tensor(3.0), 1.0))
            pyro.sample("x", dist.Poisson(rate[..., None]).expand((*rate.shape, 3)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("rate", dist.Gamma(3.0 + x.sum(-1), x.new_tensor(4.0)))


class GaussianCounts(GammaPoisson):
    """The same with Gaussian noise of the right variance on the counts."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(x.new_tensor(3.0), 1.0))
            pyro.sample(
                "x", dist.Normal(rate[..., None], rate[..., None].sqrt()).expand((*rate.shape, 3)).to_event(1), obs=x
            )


class EightSchools(KnownProgram):
    """A datum is the effects in eight schools; the scale between schools is one of three, and the posterior exact.

    Source of the model: Gelman et al., Bayesian Data Analysis (2013), section 5.5.
    """

    errors = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.double)
    scales = torch.tensor([0.5, 6.0, 20.0], dtype=torch.double)

    def model(self, y: Tensor) -> None:
        with pyro.plate("data", len(y)):
            level = pyro.sample("level", dist.Categorical(logits=y.new_zeros(3)))
            mu = pyro.sample("mu", dist.Normal(y.new_tensor(0.0), 5.0))
            tau = self.scales.to(y)[level][..., None]
            theta = pyro.sample("theta", dist.Normal(mu[..., None], tau).expand((*tau.shape[:-1], 8)).to_event(1))
            pyro.sample("y", dist.Normal(theta, self.errors.to(y)).to_event(1), obs=y)

    def guide(self, y: Tensor) -> None:
        prior = 25 * torch.ones(8, 8, dtype=torch.double)
        marginal = torch.stack([prior + (self.errors**2 + tau**2).diag() for tau in self.scales]).to(y)
        logits = dist.MultivariateNormal(y.new_zeros(8), marginal).log_prob(y[:, None])
        with pyro.plate("data", len(y)):
            level = pyro.sample("level", dist.Categorical(logits=logits))
            noise = self.errors.to(y) ** 2 + self.scales.to(y)[level][..., None] ** 2
            variance = 1 / (1 / 25 + (1 / noise).sum(-1))
            mu = pyro.sample("mu", dist.Normal(variance * (y / noise).sum(-1), variance.sqrt()))
            tau = self.scales.to(y)[level][..., None]
            own = 1 / (1 / tau**2 + 1 / self.errors.to(y) ** 2)
            mean = own * (mu[..., None] / tau**2 + y / self.errors.to(y) ** 2)
            pyro.sample("theta", dist.Normal(mean, own.sqrt()).to_event(1))


def known_mixture(num_components: int = 3) -> Mixture:
    """Return a mixture of well separated Gaussians."""
    mixture = Mixture(data_dim=2, num_components=num_components)
    with torch.no_grad():
        mixture.loc.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])[:num_components])
    return mixture


def known_hmm() -> HMM:
    with seeded(0):
        return HMM(features=1, num_states=3, likelihood="gaussian")


KNOWN: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "factor analysis": (GaussianFactors, (4,)),
    "gamma-Poisson": (GammaPoisson, (3,)),
    "eight schools": (EightSchools, (8,)),
    "mixture": (known_mixture, (2,)),
    "hidden Markov model": (known_hmm, (5,)),
}
"""Programs whose posterior is known, and the shape of a datum."""


def drawn_from(name: str, count: int, seed: int) -> np.ndarray:
    """Return data of one of these programs, drawn without it."""
    random = np.random.default_rng([seed, 7])
    if name == "factor analysis":
        return random.normal(size=(count, 2)) @ GaussianFactors().loadings.numpy().T + random.normal(0, 0.5, (count, 4))
    if name == "gamma-Poisson":
        return counts_of(random.gamma(3.0, 1.0, count), seed=seed)
    if name == "eight schools":
        tau = EightSchools.scales.numpy()[random.integers(3, size=count), None]
        theta = random.normal(0, 5, (count, 1)) + tau * random.normal(size=(count, 8))
        return theta + EightSchools.errors.numpy() * random.normal(size=(count, 8))
    if name == "mixture":
        centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])[random.integers(3, size=count)]
        return centres + (np.log(2) + 0.01) * random.normal(size=(count, 2))
    hmm, states = known_hmm(), random.integers(3, size=(count, 5))  # all transitions are equally probable
    emitted = hmm.likelihood(hmm.emission)
    mean, scale = (
        np.broadcast_to(part.detach().numpy().reshape(-1), 3)[states] for part in (emitted.mean, emitted.stddev)
    )
    return mean + scale * random.normal(size=(count, 5))


def checked(program: Any, *arrays: np.ndarray, level: float = 0.05, **settings: Any) -> CheckedFit:
    """Return a fit of a program that is as it is, with test data."""
    vi = VariationalInference(program, precision="64-true", compile="off")
    vi.attach(dict(zip(vi.argument_names, arrays, strict=False)), train=True)
    chosen = CheckSettings(num_data=len(arrays[0]), **settings)
    test, nothing = (choose_data(vi.fitted, given, chosen) for given in (arrays, ()))
    return CheckedFit(vi.fitted, chosen, test, nothing, level=level)


def counts_of(rate: np.ndarray, zeros: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return three counts for each rate, a share of which is replaced by zeros."""
    random = np.random.default_rng(seed)
    x = random.poisson(rate[:, None], (len(rate), 3)).astype(float)
    return np.where(random.uniform(size=x.shape) < zeros, 0.0, x)


def three_errors(count: int, level: float = 0.05) -> float:
    """Return three standard errors of the share of repetitions that a test at this level rejects."""
    return 3 * math.sqrt(level * (1 - level) / count)


THREE_ERRORS = three_errors(200)
