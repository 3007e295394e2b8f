"""Test that a factor counts for each datum inside the data plate, and once outside of it."""

from __future__ import annotations

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError, InputWarning
from ppl_vae.program import BoundProgram, Program, check
from tests.helpers.modules import in_double
from tests.helpers.scenarios import normal


class Weighed(nn.Module):
    """A linear model with a factor that weighs a latent, or the weights of the decoder."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.weights, self.encoder = nn.Parameter(torch.randn(4, 2)), nn.Linear(4, 4)

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        if self.where == "outside":
            pyro.factor("prior", -0.5 * self.weights.square().sum())
        if self.where == "in another plate":
            with pyro.plate("numbers", 4):
                pyro.factor("prior", -0.5 * self.weights.square().sum(1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            if self.where == "inside":
                pyro.factor("energy", -0.5 * z[..., 0] ** 2)
            pyro.sample("x", dist.Normal(z @ self.weights.T, 0.5).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        loc, scale = self.encoder(x).chunk(2, -1)
        if self.where == "guide":
            pyro.factor("prior", 0.5 * self.weights.square().sum(), has_rsample=True)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


OUTSIDE = ["outside", "in another plate", "guide"]


def checked(where: str, x: Tensor) -> BoundProgram:
    program = Program(in_double(Weighed, where=where))
    if where == "inside":
        return check(program, (x,))
    with pytest.warns(InputWarning, match=r"the factor 'prior' of Weighed lies outside the data plate: it counts once"):
        return check(program, (x,))


def gaussian(weights: Tensor, precision: Tensor, x: Tensor) -> Tensor:
    covariance = weights @ torch.diag(1 / precision) @ weights.T + 0.25 * torch.eye(4, dtype=torch.double)
    return dist.MultivariateNormal(torch.zeros(4, dtype=torch.double), covariance).log_prob(x)


def test_inside_it_weighs_every_datum() -> None:
    x = normal(5, 4)
    program = checked("inside", x)
    precision = torch.tensor([2.0, 1.0], dtype=torch.double)  # N(0, 1) exp(-z^2 / 2) is N(0, 1/2) times 2^(-1/2)
    with program.running(seed=0), torch.no_grad():
        weights = program.log_prior_weights((x,), 100_000)
        exact = gaussian(program.parameters()["program.weights"], precision, x) - 0.5 * torch.tensor(2.0).log()
    relative = (weights - exact).exp()
    error = 4 * relative.std(0) / 100_000**0.5  # four standard errors
    assert ((relative.mean(0) - 1).abs() < error).all()
    assert (error < 0.2).all()
    with program.running(seed=0), torch.no_grad():
        total = program.weighted_draws((x,)).log_weight.sum()
    with program.running(seed=0), torch.no_grad():
        assert total.item() == pytest.approx(-Trace_ELBO().loss(program.model, program.guide, x), rel=1e-10)


@pytest.mark.parametrize("where", OUTSIDE)
def test_outside_it_counts_once_in_training_and_not_in_evidence(where: str) -> None:
    x = normal(5, 4)
    program = checked(where, x)
    assert program.structure.observed == ("x",)
    theta = program.parameters()["program.weights"]
    with program.running(seed=0):
        draws = program.weighted_draws((x,))
        mine = draws.log_weight.sum() + 5 * draws.shared
    with program.running(seed=0):
        loss = Trace_ELBO().differentiable_loss(program.module.model.model, program.module.model.guide, x)
    assert mine.item() == pytest.approx(-loss.item(), rel=1e-10)
    slopes = [torch.autograd.grad(value, theta)[0] for value in (mine, -loss)]
    torch.testing.assert_close(*slopes)
    with program.running(seed=1), torch.no_grad():
        weights = program.log_prior_weights((x,), 10)
    plain = Program(in_double(Weighed, where="nowhere")).bind((x,))
    with plain.running(seed=1), torch.no_grad():
        torch.testing.assert_close(weights, plain.log_prior_weights((x,), 10))


@pytest.mark.parametrize("guide", ["amortized", "per-sample", "semi-amortized"])
def test_a_fit_shrinks_the_weights(guide: str) -> None:
    x, sizes = normal(40, 4).float().numpy(), {}
    for where in ("outside", "nowhere"):
        torch.manual_seed(0)
        program = Weighed(where)
        vi = VariationalInference(program, guide=guide, max_epochs=10, learning_rate=0.05, patience=None, compile="off")
        vi.set_params(local_steps=2, inference_steps=5, num_samples=10, validation_fraction=0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            vi.fit(x)
        sizes[where] = program.weights.detach().square().sum().item()
    assert sizes["outside"] < sizes["nowhere"]


def test_a_bound_on_each_datum_refuses_it() -> None:
    vi = VariationalInference(Weighed("outside"), max_epochs=1, compile="off", bound="iwae", num_particles=2)
    with pytest.warns(InputWarning), pytest.raises(InputError, match=r"factor 'prior' of Weighed lies outside"):
        vi.fit(normal(20, 4).float().numpy())
