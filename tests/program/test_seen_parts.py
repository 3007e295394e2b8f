"""Test which numbers of each observed site were seen, and what cannot be missing."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program import Batch, BoundProgram, Program, seeded, seen_parts, with_missing
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
}


@pytest.mark.parametrize("rows", [6, 1])
@pytest.mark.parametrize("name", HOWS)
def test_the_numbers_of_each_site_that_were_seen(name: str, rows: int) -> None:
    how, expected = HOWS[name]
    x, seen, w = normal(6, 4).exp()[-rows:], holes(6, 4)[-rows:], normal(6)[-rows:]
    program = Program(Observes(how)).bind((x, w))
    got = seen_parts(program, (torch.where(seen, x, torch.nan), w))
    assert len(got) == len(expected(seen))
    for mine, theirs in zip(got, expected(seen), strict=True):
        assert torch.equal(mine, theirs)
    assert all(each.all() for each in seen_parts(program, (x, w)))


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
    program = Program(model, guide).bind((x,))
    (seen,) = seen_parts(program, (torch.where(torch.arange(4) == 1, torch.nan, x),))
    assert seen.tolist() == [True, False, True, True]
    half = with_missing(program)
    with seeded(1):
        weights, draws = half.weighted_posterior((x, seen), 2)
    z = draws.latents["z"]
    torch.testing.assert_close(weights, -z.square() + dist.Normal(z, 1.0).log_prob(x) * seen)


def assert_refused(program: BoundProgram, batch: Batch, match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        seen_parts(program, batch)
    assert "\n" not in str(error.value)


def test_a_missing_condition_is_refused_in_one_line() -> None:
    x, w = normal(6, 4), normal(6)
    program = Program(Observes(lambda x: {"x": x})).bind((x, w))
    w[2] = torch.nan
    assert_refused(program, (x, w), "missing in row 2 that no site of Observes observes: it is a condition")


def test_a_missing_condition_is_refused_beside_a_missing_observation() -> None:
    x, w = normal(6, 4), normal(6)
    program = Program(Observes(lambda x: {"x": x})).bind((x, w))
    x[2, 0], w[2] = torch.nan, torch.nan
    assert_refused(program, (x, w), "missing in row 2 that no site of Observes observes: it is a condition")


def test_a_part_of_an_argument_that_is_a_condition_is_refused_beside_one_that_is_observed() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x[:, 0], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 1])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, 0], 1.0))

    x = normal(6, 2)
    program = Program(model, guide).bind((x,))
    assert_refused(program, (torch.where(torch.arange(12).reshape(6, 2) == 6, torch.nan, x),), "row 3 that no site")
    assert_refused(program, (torch.where(torch.arange(12).reshape(6, 2) >= 10, torch.nan, x),), "row 5 that no site")


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
    program = Program(Looks()).bind((x,))
    assert_refused(
        program, (torch.tensor([0.0, torch.nan, 2.0]).double(),), "missing numbers cannot be filled in by Looks"
    )


def test_a_model_that_computes_with_what_it_observes_is_refused() -> None:
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

    x = normal(4, 3)
    program = Program(model, guide).bind((x,))
    last, within = x.clone(), x.clone()
    last[1, 2], within[1, 1] = torch.nan, torch.nan
    assert not seen_parts(program, (last,))[2][1]
    assert_refused(
        program, (within,), "missing numbers cannot be filled in by model, whose model computes with the data"
    )


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
    program = Program(model, guide).bind((x,))
    whole, part = x.clone(), x.clone()
    whole[1], part[2, 0] = torch.nan, torch.nan
    (seen,) = seen_parts(program, (whole,))
    assert seen.all(1).tolist() == seen.any(1).tolist() == [True, False, True, True]
    assert_refused(program, (part,), f"site 'x' of model is a {name}, whose numbers depend .* as a whole only")
