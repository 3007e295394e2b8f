"""Test which numbers of each observed site were seen, and what may be missing."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program import BoundProgram, Program, check_observations, seeded, with_missing
from ppl_vae.program.observed_parts import ObservedParts
from tests.helpers.scenarios import holes, normal


class Observes(nn.Module):
    """A program that observes a function of its arguments; the mean of z depends on a condition w."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        self.how = how

    def model(self, x: Tensor, w: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(w, 1.0))
            for name, value in self.how(x).items():
                loc = z.reshape(len(x), *[1] * (value.dim() - 1)).expand(value.shape)
                pyro.sample(name, dist.Normal(loc, 1.0).to_event(value.dim() - 1), obs=value)

    def guide(self, x: Tensor, w: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(w, 1.0))


HOWS = {
    "as it is": (lambda x: {"x": x}, lambda m: (m,)),
    "reshaped": (lambda x: {"x": x.reshape(len(x), 2, 2)}, lambda m: (m.reshape(len(m), 2, 2),)),
    "transformed": (lambda x: {"x": x.log()}, lambda m: (m,)),
    "in two": (lambda x: {"a": x[:, 0], "b": x[:, 1:]}, lambda m: (m[:, 0], m[:, 1:])),
    "differences": (lambda x: {"x": x[:, 1:] - x[:, :-1]}, lambda m: (m[:, 1:] & m[:, :-1],)),
    "as classes": (lambda x: {"x": x.long(), "y": (x[:, 0] > 1).to(x)}, lambda m: (m, m[:, 0])),
    "beside a constant": (
        lambda x: {"x": torch.cat([torch.ones_like(x[:, :1]), x.flip(-1)], -1)},
        lambda m: (torch.cat([torch.ones_like(m[:, :1]), m.flip(-1)], -1),),
    ),
}


@pytest.mark.parametrize("rows", [6, 1])
@pytest.mark.parametrize("name", HOWS)
def test_the_numbers_of_each_site_that_were_seen(name: str, rows: int) -> None:
    how, expected = HOWS[name]
    x, seen, w = normal(6, 4).exp()[-rows:], holes(6, 4)[-rows:], normal(6)[-rows:]
    got = parts_of(Program(Observes(how)).bind((x, w)))
    assert [may.tolist() for may in got.allowed] == [[True] * 4, False]
    for mine, theirs in zip(got.seen((seen, torch.ones(rows, dtype=torch.bool))).values(), expected(seen), strict=True):
        assert torch.equal(mine, theirs)


def parts_of(program: BoundProgram) -> ObservedParts:
    parts = with_missing(program).parts
    assert parts is not None
    return parts


def test_a_factor_has_no_numbers() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.factor("weight", -z.square())
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))

    x = normal(4)
    seen = torch.arange(4) != 1
    half = with_missing(Program(model, guide).bind((x,)))
    assert list(parts_of(half).index) == ["x"]
    with seeded(1):
        weights, draws = half.weighted_posterior((x, seen), 2)
    z = draws.latents["z"]
    torch.testing.assert_close(weights, -z.square() + dist.Normal(z, 1.0).log_prob(x) * seen)


def test_a_part_of_an_argument_that_is_a_condition_may_not_be_missing() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x[:, 0], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 1])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, 0], 1.0))

    (may,) = parts_of(Program(model, guide).bind((normal(6, 3),))).allowed
    assert may.tolist() == [False, True, False]  # nothing uses the last number


def test_a_model_that_fails_on_nan_is_reported_in_one_line() -> None:
    class Looks(nn.Module):
        """Look a table up by the observed values."""

        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.arange(3).double()[x.long()], 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x, 1.0))

    x = torch.tensor([0.0, 1.0, 2.0]).double()
    with pytest.raises(InputError, match="numbers cannot be missing in data of Looks, whose model computes") as error:
        with_missing(Program(Looks()).bind((x,)))
    assert "\n" not in str(error.value)


def test_what_a_model_computes_with_may_not_be_missing() -> None:
    """Each step reads the one before from its argument, so that a filled-in value would count as seen."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x_0", dist.Normal(z, 1.0), obs=x[:, 0])
            for t in (1, 2):
                pyro.sample(f"x_{t}", dist.Normal(0.9 * x[:, t - 1] + z, 1.0), obs=x[:, t])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))

    (may,) = parts_of(Program(model, guide).bind((normal(4, 3),))).allowed
    assert may.tolist() == [False, False, True]


WHOLE_ONLY = {
    "MixtureSameFamily": dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2).double()), dist.Normal(normal(2, 3, seed=1), 1.0).to_event(1)
    ),
    "Dirichlet": dist.Dirichlet(torch.tensor([2.0, 1.0, 3.0]).double()),
    "Multinomial": dist.Multinomial(6, torch.tensor([0.5, 0.2, 0.3]).double(), validate_args=False),
}


@pytest.mark.parametrize("name", WHOLE_ONLY)
def test_a_part_of_an_event_whose_numbers_depend_on_each_other_is_refused(name: str) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", WHOLE_ONLY[name], obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))

    with seeded(1):
        x = WHOLE_ONLY[name].sample((4,))
    half = with_missing(Program(model, guide).bind((x,)))
    whole, part = torch.ones(2, 4, 3, dtype=torch.bool)
    whole[1], part[2, 0] = False, False
    check_observations(half, (x, whole))
    with pytest.raises(InputError, match=f"row 9 of what the site 'x' of model observes, a {name}, .* as a whole only"):
        check_observations(half, (x, part), 7)
