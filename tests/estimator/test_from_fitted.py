"""Programs that plain SVI has trained are evaluated as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

from ppl_vae import InputError, VariationalInference, load
from ppl_vae.program import seeded

X = torch.randn(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1.5**0.5


@pytest.fixture(autouse=True)
def _clean_store() -> Iterator[None]:
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def model(x: Tensor) -> None:
    noise = pyro.param("noise", x.new_tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, noise), obs=x)


def guide(x: Tensor) -> None:
    weight = pyro.param("weight", x.new_tensor(0.1))
    scale = pyro.param("scale", x.new_tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(weight * x, scale))


def train(steps: int = 30) -> float:
    """Train the pair by plain SVI, and return the fitted noise."""
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    with seeded(0):
        for _ in range(steps):
            svi.step(X)
    return pyro.param("noise").item()


def test_values_of_the_parameter_store_are_those_of_the_evidence() -> None:
    noise = train()
    assert abs(noise - 1.0) > 0.05  # else the initial value would do as well
    vi = VariationalInference.from_fitted((model, guide), X, precision="64-true", compile="off")
    exact = dist.Normal(0.0, (1 + noise**2) ** 0.5).log_prob(X)
    evidence = vi.evidence(X, num_samples=4000)
    assert ((evidence.log_evidence - exact).abs() < 5 * evidence.mcse).all()
    assert evidence.mcse.max() < 0.1
    np.testing.assert_allclose(vi.transform(X)[:, 0], pyro.param("weight").item() * X, atol=1e-12)
    before = pyro.param("noise").item()
    vi.set_params(max_epochs=1).fit(X.numpy())  # goes on from there, in a store of its own
    assert pyro.param("noise").item() == before


def test_modules_that_svi_has_trained_hold_their_own_values(tmp_path: Path) -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def model(self, x: Tensor) -> None:
            pyro.module("decoder", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
                pyro.sample("x", dist.Normal(z + self.shift, 1.0), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal((x - self.shift) / 2, 0.5**0.5))

    program = Decoder()
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(3):
        svi.step(X + 2)
    shift = program.shift.item()
    assert shift != 0
    pyro.clear_param_store()
    vi = VariationalInference.from_fitted(program, X)
    exact = dist.Normal(shift, 2**0.5).log_prob(X)
    np.testing.assert_allclose(vi.score_samples(X), exact, atol=1e-10)  # the guide is the posterior
    vi.save(tmp_path / "fit.safetensors")
    other = load(tmp_path / "fit.safetensors", program=Decoder())
    np.testing.assert_array_equal(other.score_samples(X), vi.score_samples(X))


@pytest.mark.parametrize("case", ["no store", "no guide", "no data", "another shape"])
def test_what_was_not_trained_is_refused(case: str) -> None:
    arrays = () if case == "no data" else (X,)
    if case != "no store":
        train(1)
    if case == "another shape":
        pyro.get_param_store()["noise"] = torch.ones(2, dtype=torch.float64)
    parts = (model,) if case == "no guide" else (model, guide)
    text = {
        "no store": "'noise' of model has not been trained",
        "no guide": "of model has not been trained",
        "no data": "needs data",
        "another shape": "has shape \\(2,\\)",
    }[case]
    with pytest.raises(InputError, match=text):
        VariationalInference.from_fitted(parts, *arrays, precision="64-true")


def test_a_model_alone_has_lambda_for_every_datum() -> None:
    noise = train()
    vi = VariationalInference.from_fitted((model,), X, guide="per-sample", precision="64-true", num_samples=2000)
    evidence = vi.evidence(X[:20])
    exact = dist.Normal(0.0, (1 + noise**2) ** 0.5).log_prob(X[:20])
    assert ((evidence.log_evidence - exact).abs() < 5 * evidence.mcse + 1e-6).all()
