"""Test latents as coordinates: a located point is predicted from again, and moving one has the right effect."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program import Batch, Coordinates, LatentPoint, Program, names_of, seeded
from tests.helpers import scenarios
from tests.helpers.gallery import GALLERY
from tests.helpers.scenarios import make_double, normal


class Hot(nn.Module):
    """A one-hot class that the guide leaves out, beside a vector and a positive number."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(x.new_tensor([0.1, 0.2, 0.3, 0.4])))
            s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.5))
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            mean = (c * c.new_tensor([1.0, 2.0, 3.0, 4.0])).sum(-1) + 10 * z[..., 0] - z[..., 1]
            pyro.sample("x", dist.Normal(mean, s), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("s", dist.LogNormal(x.new_zeros(()), 0.5))
            pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))


class InPlate(nn.Module):
    """A class and a level for each of three numbers of a datum, beside one that they share."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            high = pyro.sample("high", dist.Bernoulli(x.new_tensor(0.3)))
            with pyro.plate("values", 3, dim=-1):
                c = pyro.sample("c", dist.Categorical(x.new_tensor([0.2, 0.3, 0.5])))
                z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
                pyro.sample("x", dist.Normal(c + 10 * high + 100 * z, 0.5), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2), pyro.plate("values", 3, dim=-1):
            pyro.sample("z", dist.Normal(x, 1.0))


CASES: dict[str, tuple[Any, Batch]] = {
    name: (case.make, case.batch) for name, case in GALLERY.items() if name not in ("autoencoder", "normal")
} | {
    "softmax": (scenarios.SoftmaxDecoder, (normal(21, 3),)),
    "images": (scenarios.Images, (normal(21, 1, 4, 4),)),
    "inner_plate": (scenarios.InnerPlate, (normal(21, 4),)),
    "two_latents": (scenarios.TwoLatents, (normal(21, 4).abs(),)),
    "switch": (scenarios.Switch, (normal(21),)),
    "sequences": (scenarios.Sequences, (normal(21, 5), 1 + torch.arange(21) % 5)),
    "states": (scenarios.HMM, (normal(21, 6), 1 + torch.arange(21) % 6)),
    "in_plate": (InPlate, (normal(21, 3),)),
}


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("rows", [21, 1])
@pytest.mark.parametrize("name", CASES)
def test_a_located_point_predicts_the_same_as_its_latents(name: str, rows: int, num_samples: int) -> None:
    make, batch = CASES[name]
    program = Program(make_double(make)).bind(batch)
    batch = tuple(tensor[:rows] for tensor in batch)
    with seeded(2):
        draws = program.posterior(batch, num_samples)
        coordinates = Coordinates(program)
        point = coordinates.locate(batch, draws.latents)
        actual = coordinates.predict(batch, point)
    assert point.u.shape == (num_samples, rows, coordinates.continuous)
    assert point.choices.shape == (num_samples, rows, len(coordinates.values))
    assert len(coordinates.names) == len(set(coordinates.names)) == coordinates.continuous + len(coordinates.values)
    for kind, others in (("means", actual.means), ("latents", actual.latents)):
        for site, value in getattr(draws, kind).items():
            at = compared_data(name, site, batch)
            torch.testing.assert_close(others[site][:, at].to(value.dtype), value[:, at], rtol=1e-9, atol=1e-9)


def compared_data(name: str, site: str, batch: Batch) -> Tensor:
    """Return which data of a site to compare, ``(B,)`` or ``(B, T)``: past the end of a sequence any will do."""
    if name not in ("sequences", "states", "hmm", "deep_markov_model"):
        return torch.ones(len(batch[0]), dtype=torch.bool)
    step = torch.arange(batch[0].shape[1]) if site in ("x", "z") else int(site.split("_")[1])
    return step < batch[1].reshape(-1, *[1] * (site in ("x", "z")))


def test_a_one_hot_latent_is_one_choice() -> None:
    x = normal(6)
    program = Program(Hot()).bind((x,))
    with seeded(2):
        draws = program.prior((x,), 5)
        coordinates = Coordinates(program)
        point = coordinates.locate((x,), draws.latents)
        actual = coordinates.predict((x,), point)
    assert torch.equal(point.choices[..., 0], draws.latents["c"].argmax(-1))
    assert torch.equal(actual.latents["c"], draws.latents["c"])
    torch.testing.assert_close(actual.means["x"], draws.means["x"])


def test_posterior_draws_of_a_one_hot_latent_are_located() -> None:
    x = normal(6)
    program = Program(Hot()).bind((x,))
    with seeded(2):
        draws = program.posterior((x,), 5)
    coordinates = Coordinates(program)
    actual = coordinates.predict((x,), coordinates.locate((x,), draws.latents))
    torch.testing.assert_close(actual.means["x"], draws.means["x"])


def test_names_and_values() -> None:
    coordinates = Coordinates(Program(Hot()).bind((normal(5),)))
    assert coordinates.names == ("s", "z[0]", "z[1]", "c")
    assert coordinates.continuous == 3
    assert len(coordinates.values) == 1
    assert torch.equal(coordinates.values[0], torch.eye(4).double())
    coordinates = Coordinates(Program(InPlate()).bind((normal(5, 3),)))
    assert coordinates.names == ("z[0]", "z[1]", "z[2]", "high", "c[0]", "c[1]", "c[2]")
    assert [values.tolist() for values in coordinates.values] == [[0, 1]] + 3 * [[0, 1, 2]]
    coordinates = Coordinates(Program(make_double(scenarios.Mixture)).bind((normal(5, 2),)))
    assert (coordinates.names, coordinates.continuous) == (("c",), 0)
    assert names_of("z", torch.Size([2, 2])) == ["z[0, 0]", "z[0, 1]", "z[1, 0]", "z[1, 1]"]
    assert names_of("z", torch.Size([0])) == []


def test_each_coordinate_moves_the_number_that_it_names() -> None:
    x = normal(2)
    program = Program(Hot()).bind((x,))
    coordinates = Coordinates(program)
    u = torch.tensor([[[0.3, 0.0, 0.0], [0.3, 2.0, 5.0]]]).double().expand(4, 2, 3)
    choices = torch.tensor([0, 1, 2, 3])[:, None, None].expand(4, 2, 1)
    actual = coordinates.predict((x,), LatentPoint(u, choices))
    expected = torch.arange(1.0, 5).double()[:, None] + torch.tensor([0.0, 15.0]).double()
    torch.testing.assert_close(actual.means["x"], expected)
    torch.testing.assert_close(actual.latents["s"], torch.tensor(0.3).double().exp().expand(4, 2))
    assert torch.equal(actual.latents["c"][:, 0], torch.eye(4).double())


def test_coordinates_in_plates() -> None:
    x = normal(2, 3)
    program = Program(InPlate()).bind((x,))
    coordinates = Coordinates(program)
    u = torch.arange(6.0).double().reshape(1, 2, 3)
    choices = torch.tensor([[[1, 0, 1, 2], [0, 2, 2, 1]]])
    actual = coordinates.predict((x,), LatentPoint(u, choices))
    expected = torch.tensor([[10.0, 111.0, 212.0], [302.0, 402.0, 501.0]]).double()
    torch.testing.assert_close(actual.means["x"][0], expected)
    located = coordinates.locate((x,), actual.latents)
    torch.testing.assert_close(located.u, u)
    assert torch.equal(located.choices, choices)


def test_the_prior_in_unconstrained_space() -> None:
    loc, scale = Coordinates(Program(Hot()).bind((normal(5),))).prior((normal(5),))
    torch.testing.assert_close(loc, torch.zeros(5, 3).double())
    torch.testing.assert_close(scale, torch.tensor([0.5, 1.0, 1.0]).double().expand(5, 3))
    batch = (normal(5, 4),)
    loc, scale = Coordinates(Program(make_double(scenarios.InnerPlate)).bind(batch)).prior(batch)  # z after level
    torch.testing.assert_close(scale, torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5]).double().expand(5, 5))
    batch = (normal(5, 2),)
    loc, scale = Coordinates(Program(make_double(scenarios.Mixture)).bind(batch)).prior(batch)
    assert loc.shape == scale.shape == (5, 0)


@pytest.mark.parametrize("name", ["normal", "autoencoder"])
def test_without_latents_there_is_nothing_to_move(name: str) -> None:
    program = Program(make_double(GALLERY[name].make)).bind(GALLERY[name].batch)
    with pytest.raises(InputError, match="has no latents: there is nothing to move") as error:
        Coordinates(program)
    assert "\n" not in str(error.value)


def test_a_latent_that_can_be_neither_moved_nor_listed_is_refused() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            n = pyro.sample("n", dist.Poisson(x.new_tensor(3.0)))
            pyro.sample("x", dist.Normal(n, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("n", dist.Poisson(x.new_tensor(3.0)))

    with pytest.raises(InputError, match=r"latent 'n' of model is discrete .* look at its draws") as error:
        Coordinates(Program(model, guide).bind((normal(4),)))
    assert "\n" not in str(error.value)
