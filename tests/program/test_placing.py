"""Test that other data are put in place of what a program observes, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.program import Batch, BoundProgram, Program, observed_arguments, placed, seeded
from tests.helpers import scenarios
from tests.helpers.gallery import GALLERY
from tests.helpers.scenarios import bits, make_double, normal


def make_program(observes: Callable[[Tensor], Tensor]) -> Program:
    """Return a program that observes the result of a function of its argument."""

    def model(x: Tensor, w: Tensor) -> None:
        value = observes(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(w, 1.0))
            loc = torch.zeros(value.shape).double()
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(value.dim() - 1), obs=value)

    def guide(x: Tensor, w: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(w, 1.0))

    return Program(model, guide)


def place(program: BoundProgram, batch: Batch, **values: Tensor) -> Batch:
    """Call ``placed``, and check that the given arrays do not change."""
    before = [tensor.clone() for tensor in batch]
    actual = placed(program, batch, values)
    assert all(torch.equal(a, b) for a, b in zip(before, batch, strict=True))
    assert [(t.shape, t.dtype) for t in actual] == [(t.shape, t.dtype) for t in batch]
    return actual


PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "all": lambda x: x,
    "flattened": lambda x: x.flatten(1),
    "a row": lambda x: x[:, 1],
    "a column": lambda x: x[..., 2],
    "turned": lambda x: x.transpose(1, 2),
}


@pytest.mark.parametrize("rows", [5, 1])
@pytest.mark.parametrize("name", PARTS)
def test_values_are_written_to_the_observed_arguments(name: str, rows: int) -> None:
    part = PARTS[name]
    x, w = normal(5, 2, 3)[:rows], normal(5)[:rows]
    program = make_program(part).bind((x, w))
    value = normal(*part(x).shape, seed=9)
    expected = x.clone()
    if name == "flattened":
        expected = value.reshape(rows, 2, 3)
    else:
        part(expected).copy_(value)
    actual, condition = place(program, (x, w), x=value)
    assert torch.equal(actual, expected)
    assert torch.equal(condition, w)
    assert observed_arguments(program) == (True, False)


def test_an_array_in_any_order_of_memory_can_be_written() -> None:
    x, w = normal(3, 2, 5).permute(2, 1, 0), normal(5)
    program = make_program(lambda x: x.reshape(len(x), -1)).bind((x, w))
    value = normal(5, 6, seed=9)
    assert torch.equal(place(program, (x, w), x=value)[0], value.reshape(5, 2, 3))
    one = normal(1).expand(5)  # and of one number that stands for all
    conjugate = Program(make_double(scenarios.Conjugate)).bind((one,))
    assert torch.equal(place(conjugate, (one,), x=normal(5, seed=9))[0], normal(5, seed=9))


@pytest.mark.parametrize(
    "observes", [Tensor.log, lambda x: x[:, :1].expand(x.shape), lambda x: x[:, [0, 1]], lambda x: x.double() + 0]
)
def test_a_computed_observation_is_refused_in_one_line(observes: Callable[[Tensor], Tensor]) -> None:
    x, w = normal(5, 2).exp(), normal(5)
    with pytest.raises(
        InputError, match="what the site 'x' of model observes is computed from the model's arg"
    ) as error:
        placed(make_program(observes).bind((x, w)), (x, w), {"x": x})
    assert "\n" not in str(error.value)


def test_masked_numbers_do_not_change() -> None:
    x, lengths = torch.full((6, 5), -99.0).double(), torch.tensor([5, 1, 2, 5, 3, 4])
    program = Program(make_double(scenarios.Sequences)).bind((x, lengths))
    value = normal(6, 5)
    actual, same = place(program, (x, lengths), **{f"x_{t}": value[:, t] for t in range(5)})
    assert torch.equal(actual, torch.where(torch.arange(5) < lengths[:, None], value, x))
    assert torch.equal(same, lengths)
    assert observed_arguments(program) == (True, False)


def test_masked_numbers_do_not_change_in_events_and_plates() -> None:
    case = GALLERY["deep_markov_model"]  # steps are a plate, the notes of one are an event
    x, lengths = case.batch
    value = normal(*x.shape)
    heard = torch.arange(x.shape[1]) < lengths[:, None]
    actual, _ = place(Program(make_double(case.make)).bind(case.batch), case.batch, x=value)
    assert torch.equal(actual, torch.where(heard[..., None], value, x))


def test_values_of_some_sites_only() -> None:
    x, n = torch.tensor([[4.0, 2.0, 2.0], [1.0, 1.0, 6.0]]).double(), torch.tensor([3.0, 0.0]).double()
    program = Program(make_double(scenarios.Proportions)).bind((x, n))
    assert torch.equal(place(program, (x, n), n=n + 4)[1], n + 4)
    assert torch.equal(place(program, (x, n), n=n + 4)[0], x)
    assert torch.equal(place(program, (x, n))[0], x)
    assert observed_arguments(program) == (True, True)


def test_the_program_observes_the_placed_values() -> None:
    for name in ("vae", "conv_vae", "hmm", "mixture", "factor_analysis", "cvae", "deep_markov_model"):
        batch = GALLERY[name].batch
        program = Program(make_double(GALLERY[name].make)).bind(batch)
        with seeded(2):
            draws = program.prior(batch)
        actual = placed(program, batch, {site: value[0] for site, value in draws.observed.items()})
        heard = torch.ones(21, 1, dtype=torch.bool)
        if name in ("hmm", "deep_markov_model"):
            heard = torch.arange(3) < batch[1][:, None]
        for site, data in program.prior(actual).data.items():
            at = heard[:, int(site[2:])] if site.startswith("x_") else heard
            at = at.reshape(*at.shape, *[1] * (data.dim() - at.dim())).expand(data.shape)
            assert torch.equal(data[at], draws.observed[site][0][at])


def test_conditions_are_the_arguments_that_no_site_observes() -> None:
    assert observed_arguments(Program(make_double(GALLERY["cvae"].make)).bind(GALLERY["cvae"].batch)) == (True, False)
    case = GALLERY["semi_supervised_vae"]
    assert observed_arguments(Program(make_double(case.make)).bind(case.batch)) == (True, True)
    assert observed_arguments(Program(make_double(scenarios.PyroExampleVAE)).bind((bits(6, 1, 8, 8),))) == (True,)
