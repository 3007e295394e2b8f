"""Power and level of the checks of optimisation: training, lambda and encoder that are stopped early or overfitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.check import CheckSettings, check_fit
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded
from tests.helpers.calibrated import THREE_ERRORS, GaussianFactors

LOADINGS = np.random.default_rng(0).normal(size=(2, 8))


def factors(seed: int, count: int) -> np.ndarray:
    random = np.random.default_rng([seed, 1])
    x = 3 * random.normal(size=(count, 2)) @ LOADINGS + random.normal(size=(count, 8))
    return x.astype("float32")


def fails(vi: VariationalInference, check: str, test: np.ndarray, train: np.ndarray, num_data: int = 100) -> bool:
    settings = CheckSettings(num_data=num_data, num_samples=10)
    page = check_fit(vi.fitted, (test,), (train,), history=vi.history_, settings=settings, only=[check])
    assert all(verdict.status != "not judged" for verdict in page.verdicts[check])
    return not page.holds


def fitted(seed: int, x: np.ndarray, **options: Any) -> VariationalInference:
    """Return a fit of factor analysis."""
    with seeded(seed):
        program = FactorAnalysis(data_dim=8, latent_dim=2)
    return VariationalInference(program, compile="off", seed=seed, **options).fit(x)


def training(seed: int, max_epochs: int) -> bool:
    """Return True if the check of a training of that length fails."""
    x = factors(seed, 200)
    vi = fitted(seed, x, max_epochs=max_epochs, stop="never", batch_size=50, learning_rate=0.05)
    return fails(vi, "training", x, x)


def lambdas(seed: int, steps: int) -> bool:
    """Return True if the check of lambda after that number of steps fails."""
    x = factors(seed, 40)
    vi = fitted(seed, x, guide="per-sample", max_epochs=1, local_steps=1, inference_steps=steps)
    return fails(vi, "lambdas", x, x, 20)


class LearnedEncoder(nn.Module):
    """Many numbers that depend on two latents, with known parameters and a large encoder, which is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(40, 128), nn.ReLU(), nn.Linear(128, 4))
        self.register_buffer("loadings", torch.randn(2, 40))

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.loadings, 2.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("program", self)
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def overfitted(seed: int) -> bool:
    """Return True if the check of an encoder that was fitted to 100 data for long fails."""
    with seeded(seed):
        program = LearnedEncoder()
        z, noise = torch.randn(200, 2), torch.randn(200, 40)
    x = (z @ program.loadings + 2 * noise).numpy()
    options = {"stop": "never", "batch_size": 50, "learning_rate": 0.003, "compile": "off", "seed": seed}
    vi = VariationalInference(program, max_epochs=150, validation_fraction=0.0, **options)  # type: ignore[arg-type]
    return fails(vi.fit(x[:100]), "encoder", x[100:], x[:100])


def exact(seed: int) -> bool:
    """Return True if the check of an encoder that is the posterior fails."""
    program = GaussianFactors()
    random = np.random.default_rng(seed)
    z, noise = random.normal(size=(200, 2)), random.normal(size=(200, 4))
    x = z @ program.loadings.numpy().T + 0.5 * noise
    vi = VariationalInference(program, precision="64-true", compile="off", seed=seed)
    vi.attach({"x": x}, train=True)
    return fails(vi, "encoder", x[100:], x[:100])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        pytest.param(lambda seed: training(seed, 10), lambda seed: training(seed, 100), id="training at a tenth"),
        pytest.param(lambda seed: lambdas(seed, 20), lambda seed: lambdas(seed, 500), id="lambda after 20 steps"),
        pytest.param(overfitted, exact, id="an encoder overfitted to 100 data"),
    ],
)
def test_optimisation_that_went_wrong_is_found(wrong: Callable[[int], bool], right: Callable[[int], bool]) -> None:
    """What is wrong is found in nine of ten repetitions; what is right is rejected at most at the level."""
    assert np.mean([wrong(seed) for seed in range(40)]) > 0.9
    assert np.mean([right(seed) for seed in range(200)]) < 0.05 + THREE_ERRORS
