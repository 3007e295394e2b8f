"""A program that is given standardised data has the densities, draws and means of the data in their own units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.ppca import PPCA
from ppl_vae.program import BoundProgram, Program, annealing_path, generates, path_draws, placed, simulate
from ppl_vae.program import check as check_program
from ppl_vae.program.rescaling import Standard
from tests.helpers.laws import traced

LOCATION = torch.tensor([1000.0, -3.0, 0.0, 0.0], dtype=torch.float64)
SCALE = torch.tensor([20.0, 0.5, 7.0, 1.0], dtype=torch.float64)
X = LOCATION + SCALE * torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SCALINGS = {0: Standard(LOCATION, SCALE)}


def bind(model: Any, **options: Any) -> BoundProgram:
    model.double()
    return Program(model).bind((X,), precision="64-true", **options)


class Plain(FactorAnalysis):
    """A factor analysis of standardised data whose observation is written in one of several ways."""

    def __init__(self, write: str = "vector") -> None:
        torch.manual_seed(0)
        super().__init__(data_dim=4, latent_dim=2)
        self.write = write

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            loc, noise = self.units(*self.decoder(z))
            if self.write == "vector":
                pyro.sample("x", dist.Normal(loc, noise).to_event(1), obs=x)
            elif self.write == "columns":
                for d in (3, 0, 1, 2):
                    pyro.sample(f"x_{d}", dist.Normal(loc[..., d], noise[..., d]), obs=x[:, d])
            elif self.write == "half":
                pyro.sample("x", dist.Normal(loc[..., :2], noise[..., :2]).to_event(1), obs=x[:, :2])
            elif self.write == "Gaussian":
                tril = (noise * torch.ones_like(loc)).diag_embed()
                tril = tril + self.back(0.1 * torch.ones(4, 4, dtype=loc.dtype).tril(-1))
                pyro.sample("x", dist.MultivariateNormal(loc, scale_tril=tril), obs=x)
            elif self.write == "chain":  # what pyro.sample returns goes on
                first = pyro.sample("x_0", dist.Normal(loc[..., :2], noise[..., :2]).to_event(1), obs=x[:, :2])
                more = loc[..., 2:] + self.factor(self.standard(first, slice(0, 2)))
                pyro.sample("x_1", dist.Normal(more, noise[..., 2:]).to_event(1), obs=x[:, 2:])

    def units(self, loc: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return loc, noise

    def back(self, tril: Tensor) -> Tensor:
        return tril

    def factor(self, x: Tensor) -> Tensor:
        return 0.5 * x

    def standard(self, x: Tensor, columns: slice) -> Tensor:
        return x


class ByHand(Plain):
    """The same in the units of the data, by transformed parameters."""

    def units(self, loc: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return LOCATION + SCALE * loc, SCALE * noise

    def back(self, tril: Tensor) -> Tensor:
        return SCALE[:, None] * tril

    def factor(self, x: Tensor) -> Tensor:
        return SCALE[2:] * 0.5 * x

    def standard(self, x: Tensor, columns: slice) -> Tensor:
        return (x - LOCATION[columns]) / SCALE[columns]

    def guide(self, x: Tensor) -> None:
        super().guide(self.standard(x, slice(0, 4)))


def draw(program: BoundProgram, function: Callable[[], Any]) -> Any:
    with program.running(seed=1, training=False):
        return function()


def numbers(program: BoundProgram) -> dict[str, Any]:
    """Return what is computed with a program: densities, draws, means, and data that are simulated."""
    compute = {
        "log weights": lambda: program.log_weights((X,), 3),
        "prior weights": lambda: program.log_prior_weights((X,), 3),
        "objective": lambda: program.weighted_draws((X,), 2)[0],
        "iwae": lambda: path_draws(program, (X,), 2).log_weight,
        "prior": lambda: program.prior((X,), 2)._asdict(),
        "posterior": lambda: program.weighted_posterior((X,), 2)[1]._asdict(),
        "simulated": lambda: simulate(program, (X,)).batch,
        "path": lambda: annealing_path(program, (X,)).log_densities(torch.ones(2, 6, 2, dtype=torch.float64)),
    }
    return {name: draw(program, function) for name, function in compute.items()}


@pytest.mark.parametrize("write", ["vector", "columns", "half", "Gaussian", "chain"])
def test_a_standardised_program_is_the_one_with_transformed_parameters(write: str) -> None:
    program, by_hand = bind(Plain(write), scalings=SCALINGS), bind(ByHand(write))
    torch.testing.assert_close(numbers(program), numbers(by_hand), rtol=1e-9, atol=1e-9)
    assert program.structure[1:] == by_hand.structure[1:]
    assert generates(program)
    sites = {name: torch.zeros(value.shape[1:]) for name, value in program.prior((X,)).observed.items()}
    assert not placed(program, (X,), sites)[0][:, :2].any()


@pytest.mark.parametrize("write", ["vector", "columns"])
def test_a_graph_has_the_same_numbers(write: str) -> None:
    program = bind(Plain(write), scalings=SCALINGS)
    elsewhere = torch.cat([X, X + 1])[6:]  # which does not begin where its memory does

    def log_weights(x: Tensor) -> tuple[Tensor, ...]:
        return (program.log_weights((x,), 2),)

    graph = draw(program, lambda: traced(log_weights, [X]))
    for x in (X, elsewhere):
        torch.testing.assert_close(draw(program, lambda x=x: graph(x)), draw(program, lambda x=x: log_weights(x)))


@pytest.mark.parametrize("kind", [FactorAnalysis, PPCA])
def test_the_exact_evidence_is_that_of_the_factor_analysis_in_its_own_units(kind: type) -> None:
    model = kind(data_dim=4, latent_dim=2)
    program = bind(model, scalings=SCALINGS)
    loc, noise = model.decoder(X.new_zeros(2))
    weight = SCALE[:, None] * model.decoder.linear.weight
    known = dist.LowRankMultivariateNormal(LOCATION + SCALE * loc, weight, (SCALE * noise) ** 2)
    torch.testing.assert_close(program.log_evidence((X,)), known.log_prob(X), rtol=1e-12, atol=1e-12)


def test_large_numbers_lose_no_digits() -> None:
    """In single precision, the standardised number is exact where transformed parameters would be rounded."""
    x = torch.tensor([[2.0**20 + 0.5]])
    scaled = {0: Standard(torch.tensor([2.0**20]), torch.tensor([1.0]))}

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(x.new_full((1,), 0.001), 1.0).to_event(1), obs=x)

    log_weight = Program(model).bind((x,), scalings=scaled).log_weights((x,))
    torch.testing.assert_close(log_weight, dist.Normal(0.001, 1.0).log_prob(torch.tensor([[0.5]])))


def test_what_is_computed_of_the_data_is_refused() -> None:
    class Logarithm(Plain):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(x.new_zeros(4), 1.0).to_event(1), obs=x * 2)

    class Factor(Plain):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.factor("f", -x.square().sum(1))

    for program, words in ((Logarithm(), "what its site 'y' observes"), (Factor(), "its factor 'f'")):
        with pytest.raises(InputError, match=words):
            bind(program, scalings=SCALINGS)


def test_conditions_are_standardised_and_have_no_jacobian() -> None:
    class Regression(nn.Module):
        def model(self, t: Tensor, x: Tensor) -> None:
            slope = pyro.param("slope", torch.ones(4, dtype=torch.float64))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(slope * t[:, None], 1.0).to_event(1), obs=x)

    t = torch.arange(6.0, dtype=torch.float64)
    scalings = {0: Standard(torch.tensor(2.0).double(), torch.tensor(4.0).double())}
    program = Program(Regression()).bind((t, X), precision="64-true", scalings=scalings)
    known = dist.Normal(((t - 2) / 4)[:, None].expand(6, 4), 1.0).to_event(1).log_prob(X)
    torch.testing.assert_close(program.log_weights((t, X))[0], known)


@pytest.mark.parametrize("family", [dist.Normal, dist.LogNormal])
def test_a_positive_column_has_a_location_if_the_model_may_draw_any_number(family: Any) -> None:
    class Own(Plain):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("x", family(x.new_zeros(4), 1.0).to_event(1), obs=x)

    positive = Standard(LOCATION, SCALE, torch.ones(4, dtype=torch.bool))
    program = Program(Own()).bind((X.abs(),), precision="64-true", scalings={0: positive}, guided=False)
    known = dist.Normal(LOCATION, SCALE) if family is dist.Normal else dist.LogNormal(SCALE.log(), 1.0)
    torch.testing.assert_close(program.log_weights((X.abs(),))[0], known.log_prob(X.abs()).sum(1))


def test_a_value_outside_the_support_is_named_in_its_own_units() -> None:
    class Positive(Plain):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Gamma(x.new_ones(4), 1.0).to_event(1), obs=x)

    scaled = {0: Standard(LOCATION, SCALE, torch.ones(4, dtype=torch.bool))}
    with pytest.raises(InputError, match=r"observes -\d.*support of its Gamma"):
        check_program(bind(Positive(), scalings=scaled, guided=False), (X,))
