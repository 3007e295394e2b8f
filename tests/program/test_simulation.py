"""Test the joint distribution of simulated data and their latents against closed forms."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program import Batch, Program, Simulation, seeded, simulate
from tests.helpers import scenarios
from tests.helpers.scenarios import normal

MANY = 20000


def simulate_from_seed(module: Any, *batch: Tensor) -> Simulation:
    """Simulate from a fixed seed, and check that the given data do not change."""
    before = [tensor.clone() for tensor in batch]
    with seeded(3):
        simulation = simulate(Program(module).bind(batch), batch)
    assert all(torch.equal(a, b) for a, b in zip(before, batch, strict=True))
    assert [tensor.shape for tensor in simulation.batch] == [tensor.shape for tensor in batch]
    assert [tensor.dtype for tensor in simulation.batch] == [tensor.dtype for tensor in batch]
    assert all(draws.shape[:2] == (1, len(batch[0])) for draws in simulation.latents.values())
    return simulation


def has_covariance(values: Tensor, expected: Tensor) -> bool:
    """Check the second moments of Gaussian values ``(N, D)`` of mean zero, within 4.5 standard errors."""
    moments = values.T @ values / len(values)
    variance = expected.diag() * expected.diag()[:, None] + expected**2
    second = ((moments - expected).abs() < 4.5 * (variance / len(values)).sqrt()).all()
    return bool(second and (values.mean(0).abs() < 4.5 * (expected.diag() / len(values)).sqrt()).all())


def test_data_and_latents_are_drawn_jointly() -> None:
    with seeded(0):
        module = scenarios.PPCA().double()
    simulation = simulate_from_seed(module, normal(MANY, 5))
    (x,), z = simulation.batch, simulation.latents["z"][0]
    loading = module.loading.detach()
    of_x = loading @ loading.T + 0.36 * torch.eye(5).double()
    expected = torch.cat([torch.cat([torch.eye(2).double(), loading.T], 1), torch.cat([loading, of_x], 1)])
    assert has_covariance(torch.cat([z, x], 1), expected)


def test_sequences_keep_their_lengths_and_what_pads_them() -> None:
    lengths = torch.arange(5).repeat(MANY // 5) + 1
    given = torch.full((MANY, 5), -99.0).double()
    simulation = simulate_from_seed(scenarios.Sequences().double(), given, lengths)
    x, same = simulation.batch
    assert torch.equal(same, lengths)
    past = torch.arange(5) >= lengths[:, None]
    assert (x[past] == -99).all()
    assert (x[~past] != -99).all()
    steps = torch.arange(1.0, 6.0).double()
    covariance = torch.minimum(steps, steps[:, None])
    for n in range(1, 6):
        rows = lengths == n
        z = torch.stack([simulation.latents[f"z_{t}"][0, rows] for t in range(n)], 1)
        assert has_covariance(x[rows, :n], covariance[:n, :n] + 0.25 * torch.eye(n).double())
        assert has_covariance(x[rows, :n] - z, 0.25 * torch.eye(n).double())


def test_data_in_plates_within_a_datum_are_simulated() -> None:
    simulation = simulate_from_seed(scenarios.InnerPlate().double(), normal(MANY, 4))
    (x,), z, level = simulation.batch, simulation.latents["z"][0], simulation.latents["level"][0]
    assert has_covariance(x, torch.ones(4, 4).double() + 0.5 * torch.eye(4).double())
    assert has_covariance(torch.cat([x - z, z - level[:, None]], 1), 0.25 * torch.eye(8).double())


def test_discrete_latents_are_simulated() -> None:
    with seeded(0):
        module = scenarios.HMM().double()
    simulation = simulate_from_seed(module, normal(MANY, 2), torch.full((MANY,), 2))
    first, second = (simulation.latents[f"state_{t}"][0] for t in range(2))
    joint = torch.stack(
        [torch.stack([((first == i) & (second == j)).double().mean() for j in range(3)]) for i in range(3)]
    )
    expected = module.first[:, None] * module.step
    assert ((joint - expected).abs() < 4.5 * (expected * (1 - expected) / MANY).sqrt()).all()
    noise = simulation.batch[0] - module.means.detach()[torch.stack([first, second], 1)]
    assert has_covariance(noise, 0.49 * torch.eye(2).double())


@pytest.mark.parametrize("dtype", [torch.double, torch.float, torch.long])
def test_counts_of_any_type(dtype: torch.dtype) -> None:
    class Counts(nn.Module):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                rate = pyro.sample("rate", dist.Gamma(torch.tensor(2.0), torch.tensor(0.5)))
                pyro.sample("x", dist.Poisson(rate), obs=x)

    simulation = simulate_from_seed(Counts(), torch.ones(MANY).to(dtype))
    x, rate = simulation.batch[0].double(), simulation.latents["rate"][0]
    assert abs(x.mean() - 4) < 4.5 * (12 / MANY) ** 0.5  # negative binomial of mean 4 and variance 12
    residual = x - rate
    assert abs(residual.mean()) < 4.5 * (4 / MANY) ** 0.5
    assert torch.equal(x, x.round())


@pytest.mark.parametrize("cls", [scenarios.PyroExampleVAE, scenarios.Images])
def test_an_observation_can_be_a_view_of_an_argument(cls: type[nn.Module]) -> None:
    """The images are flattened; the draws have the density of the model."""
    given = normal(7, 1, 8, 8) if cls is scenarios.PyroExampleVAE else normal(7, 1, 4, 4)
    with seeded(0):
        module = cls().double()
    simulation = simulate_from_seed(module, given.transpose(2, 3))  # not contiguous: flattening it would copy
    (x,) = simulation.batch
    assert not torch.equal(x, given)
    name = next(iter(simulation.latents))
    with torch.no_grad(), Program(module).bind((given,)).running():
        z = simulation.latents[name][0]
        mean = module.decoder(z)
        if cls is scenarios.PyroExampleVAE:
            assert set(x.unique().tolist()) == {0.0, 1.0}
            error = (x.flatten(1) - mean.sigmoid()) / (mean.sigmoid() * (1 - mean.sigmoid())).sqrt()
        else:
            error = (x - mean) / 0.5
    assert abs(error.mean()) < 4.5 / error.numel() ** 0.5
    assert abs(error.square().mean() - 1) < 4.5 * (2 / error.numel()) ** 0.5


class Labelled(nn.Module):
    """A program conditioned on y and on the part of x that is not observed."""

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(3.0 * y, 1.0))
            pyro.sample("x", dist.Normal(z + x[:, 1], 0.5), obs=x[:, 0])


def test_conditions_do_not_change() -> None:
    given, y = normal(MANY, 2), torch.arange(MANY).remainder(2).double()
    x, labels = simulate_from_seed(Labelled(), given, y).batch
    assert torch.equal(labels, y)
    assert torch.equal(x[:, 1], given[:, 1])
    assert has_covariance((x[:, 0] - x[:, 1] - 3 * y)[:, None], torch.tensor([[1.25]]).double())


class Walk(nn.Module):
    """A program whose observations depend on earlier ones: on the draws, or on the given data."""

    def __init__(self, on: str) -> None:
        super().__init__()
        self.on = on

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            last = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            for t in range(3):
                drawn = pyro.sample(f"x_{t}", dist.Normal(last, 0.5), obs=x[:, t])
                last = {"drawn": drawn, "data": x[:, t], "computed": 0.9 * x[:, t]}[self.on]


def test_observations_can_depend_on_earlier_draws() -> None:
    (x,) = simulate_from_seed(Walk("drawn"), normal(MANY, 3)).batch
    steps = torch.arange(3).double()
    assert has_covariance(x, 1.25 + 0.25 * torch.minimum(steps, steps[:, None]))


class Depends(nn.Module):
    """A program whose prior depends directly on the observed data."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)


class Observes(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def model(self, x: Tensor) -> None:
        obs = {"computed": 2 * x, "repeated": x[:, None].expand(-1, 3), "narrow": x[:, None], "twice": x, "factor": x}[
            self.what
        ]
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            if self.what in ("repeated", "narrow"):
                pyro.sample("x", dist.Normal(z[..., None].expand(*z.shape, 3), 0.5).to_event(1), obs=obs)
            else:
                pyro.sample("x", dist.Normal(z, 0.5), obs=obs)
            if self.what == "twice":
                pyro.sample("again", dist.Normal(z, 0.5), obs=x)
            if self.what == "factor":
                pyro.factor("f", -z.square())


@pytest.mark.parametrize(
    ("module", "batch", "message"),
    [
        (Walk("data"), (normal(5, 3),), "model computes with the data that it observes; let it go on with what pyro"),
        (Walk("computed"), (normal(5, 3),), "model computes with the data that it observes"),
        (Depends(), (normal(5),), "model computes with the data that it observes"),
        (Observes("twice"), (normal(5),), "model computes with the data that it observes"),
        (Observes("computed"), (normal(5),), "what the site 'x' observes is computed from the model's arguments"),
        (Observes("repeated"), (normal(5),), "what the site 'x' observes is computed from the model's arguments"),
        (Observes("narrow"), (normal(5),), "what the site 'x' observes is computed from the model's arguments"),
        (Observes("factor"), (normal(5),), "its factor 'f' weighs what is drawn"),
    ],
)
def test_a_program_that_cannot_be_simulated_is_reported(module: nn.Module, batch: Batch, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        simulate(Program(module).bind(batch), batch)
    assert "\n" not in str(raised.value)


class Missing(nn.Module):
    """A program that masks missing values, which are NaN."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            for t in range(2):
                with poutine.mask(mask=~x[:, t].isnan()):
                    pyro.sample(f"x_{t}", dist.Normal(z, 0.5), obs=x[:, t])


def test_missing_values_stay_missing() -> None:
    given = normal(MANY, 2)
    given[::3, 1] = torch.nan
    with pyro.validation_enabled(False), seeded(3):
        (x,) = simulate(Program(Missing()).bind((given,)), (given,)).batch
    assert torch.equal(x.isnan(), given.isnan())
    complete = ~x.isnan().any(1)
    assert has_covariance(x[complete], torch.tensor([[1.25, 1.0], [1.0, 1.25]]).double())
    assert has_covariance(x[~complete, :1], torch.tensor([[1.25]]).double())


def test_simulation_leaves_no_trace_and_follows_the_seed() -> None:
    batch = (normal(6, 4),)
    with seeded(0):
        program = Program(scenarios.TwoLatents().double()).bind(batch)
    runs = []
    for _ in range(2):
        with seeded(8):
            runs.append(simulate(program, batch))
        assert len(pyro.get_param_store()) == 0
    torch.testing.assert_close(runs[0].batch, runs[1].batch, rtol=0, atol=0)
    torch.testing.assert_close(runs[0].latents, runs[1].latents, rtol=0, atol=0)
    assert not runs[0].batch[0].requires_grad
