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
from ppl_vae.check import CheckedData, CheckSettings
from ppl_vae.check.encoder import gains, judge_gains, local_elbo
from ppl_vae.check.lambdas import ACCEPTED, take_further_steps
from ppl_vae.check.subject import choose_data
from ppl_vae.inference.per_datum import LambdaMethod
from ppl_vae.inference.plateau import convergence_of
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded
from tests.helpers.calibrated import THREE_ERRORS, GaussianFactors

LOADINGS = np.random.default_rng(0).normal(size=(2, 8))


def factors(seed: int, count: int) -> np.ndarray:
    random = np.random.default_rng([seed, 1])
    x = 3 * random.normal(size=(count, 2)) @ LOADINGS + random.normal(size=(count, 8))
    return x.astype("float32")


def fitted(seed: int, x: np.ndarray, **options: Any) -> VariationalInference:
    """Return a fit of factor analysis."""
    with seeded(seed):
        program = FactorAnalysis(data_dim=8, latent_dim=2)
    return VariationalInference(program, compile="off", seed=seed, **options).fit(x)


def data_of(vi: VariationalInference, x: np.ndarray, **settings: Any) -> CheckedData:
    """Return data as a check gets them."""
    return choose_data(vi.fitted, (x,), CheckSettings(num_data=len(x), num_samples=10, **settings))


def training(seed: int, max_epochs: int) -> list[bool]:
    """Return True if the check of a training of that length fails."""
    options: dict[str, Any] = {"stop": "never", "batch_size": 60, "learning_rate": 0.1}
    vi = fitted(seed, factors(seed, 200), max_epochs=max_epochs, **options)
    convergence = convergence_of(vi.history_)
    assert convergence.is_known
    return [not convergence.has_converged]


def lambdas(seed: int, steps: int) -> list[bool]:
    """Return True for each twenty of two hundred data if the check of their lambda after that number of steps fails."""
    x = factors(seed, 200)
    vi = fitted(seed, x, guide="per-sample", max_epochs=1, local_steps=1)
    method = vi.fitted.inference
    assert isinstance(method, LambdaMethod)
    taken = take_further_steps(data_of(vi, x, inference_steps=steps, seed=seed), method.local, len(x))
    return (taken.improved.reshape(10, 20).mean(1) > ACCEPTED).tolist()


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


def overfitted(seed: int) -> list[bool]:
    """Return True if the check of an encoder that was fitted to 100 data for long fails."""
    with seeded(seed):
        program = LearnedEncoder()
        z, noise = torch.randn(200, 2), torch.randn(200, 40)
    x = (z @ program.loadings + 2 * noise).numpy()
    options: dict[str, Any] = {"stop": "never", "batch_size": 50, "learning_rate": 0.003, "compile": "off"}
    vi = VariationalInference(program, max_epochs=150, validation_fraction=0.0, seed=seed, **options).fit(x[:100])
    return encoders(vi, x[100:], x[:100], 1)


def exact(seed: int) -> list[bool]:
    """Return True for each of ten sets of data if the check of an encoder that is the posterior fails."""
    program = GaussianFactors()
    random = np.random.default_rng(seed)
    z, noise = random.normal(size=(1000, 2)), random.normal(size=(1000, 4))
    x = z @ program.loadings.numpy().T + 0.5 * noise
    vi = VariationalInference(program, precision="64-true", compile="off", seed=seed)
    vi.attach({"x": x}, train=True)
    return encoders(vi, x[500:], x[:500], 10)


def encoders(vi: VariationalInference, test: np.ndarray, train: np.ndarray, count: int) -> list[bool]:
    """Return True for each of some parts of the data if the check of the encoder fails."""
    local = local_elbo(vi.fitted)
    parts = [gains(local, data_of(vi, x, seed=seed), len(x)).chunk(count) for seed, x in enumerate((test, train))]
    return [judge_gains(*pair).status == "fails" for pair in zip(*parts, strict=True)]


def repeat(function: Callable[[int], list[bool]], count: int) -> float:
    """Return the share of repetitions that fail; a call makes one or several of them."""
    failing: list[bool] = []
    seed = 0
    while len(failing) < count:
        failing += function(seed)
        seed += 1
    print(f"{sum(failing)} of {len(failing)} repetitions fail")
    return float(np.mean(failing))


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda seed: training(seed, 5), id="training at a tenth"),
        pytest.param(lambda seed: lambdas(seed, 20), id="lambda after 20 steps"),
        pytest.param(overfitted, id="an encoder overfitted to 100 data"),
    ],
)
def test_optimisation_that_went_wrong_is_found(wrong: Callable[[int], list[bool]]) -> None:
    assert repeat(wrong, 40) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "right",
    [
        pytest.param(lambda seed: training(seed, 50), id="training to its end"),
        pytest.param(lambda seed: lambdas(seed, 500), id="lambda after 500 steps"),
        pytest.param(exact, id="an encoder that is the posterior"),
    ],
)
def test_optimisation_that_went_well_is_rejected_at_most_at_the_level(right: Callable[[int], list[bool]]) -> None:
    assert repeat(right, 200) < 0.05 + THREE_ERRORS
