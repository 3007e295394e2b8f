"""The objective equals ``pyro.infer.Trace_ELBO`` on the same draws, in value and in every gradient."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from pyro.infer import Trace_ELBO
from torch import Tensor

from ppl_vae.inference import elbo
from ppl_vae.inference.objectives import DecayingAverage, leave_one_out
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program, WeightedDraws, seeded
from tests.helpers import scenarios
from tests.helpers.laws import by_pyro
from tests.helpers.scenarios import bits, normal

PROGRAMS = {
    "vae": (lambda: VAE(data_dim=8, latent_dim=3, hidden=(5,)), (bits(6, 8),), 1),
    "factor_analysis": (lambda: FactorAnalysis(data_dim=4, latent_dim=2), (normal(6, 4),), 1),
    "pyro_example": (scenarios.PyroExampleVAE, (bits(6, 1, 8, 8),), 1),
    "two_latents": (scenarios.TwoLatents, (normal(6, 4).abs(),), 1),
    "inner_plate": (scenarios.InnerPlate, (normal(6, 4),), 2),
    "switch, by the score function": (scenarios.Switch, (normal(6),), 1),
}


@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_pyro(name: str, num_particles: int) -> None:
    make, batch, nesting = PROGRAMS[name]
    with seeded(0):
        module = make().double().eval()
    program = Program(module).bind(batch)
    parameters = program.parameters()
    with program.running(seed=1):
        draws = program.weighted_draws(batch, num_particles, tempered=True)
    value = elbo(draws).mean()
    gradients = torch.autograd.grad(value, list(parameters.values()), materialize_grads=True, allow_unused=True)
    expected = by_pyro(program, batch, nesting=nesting, num_particles=num_particles)
    assert value.item() == pytest.approx(expected[0].item(), rel=1e-10)
    for (parameter_name, gradient), got in zip(expected[1].items(), gradients, strict=True):
        torch.testing.assert_close(got, gradient, rtol=1e-8, atol=1e-10, msg=parameter_name)
        assert gradient.any()


class Unpathed(VAE):
    """A VAE whose guide's site Pyro knows to have no path."""

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", NonreparameterizedNormal(*self.encoder(x)).to_event(1))


@pytest.mark.parametrize("num_particles", [1, 3])
def test_the_score_function_of_all_sites_equals_pyro(num_particles: int) -> None:
    """A program that is told not to reparameterise, and one that cannot, through Pyro."""
    x = bits(6, 8)
    with seeded(0):
        ours = VAE(data_dim=8, latent_dim=3, hidden=(5,)).double()
    with seeded(0):
        theirs = Unpathed(data_dim=8, latent_dim=3, hidden=(5,)).double()
    program = Program(ours).bind((x,))
    parameters = program.parameters()
    with seeded(1):
        draws = program.weighted_draws((x,), num_particles, tempered=True, reparameterised=False)
    loss = -elbo(draws).mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    reference = Trace_ELBO(num_particles, max_plate_nesting=1, vectorize_particles=num_particles > 1)
    with seeded(1), pyro.get_param_store().scope():
        total = reference.loss_and_grads(theirs.model, theirs.guide, x)
    assert loss.item() == pytest.approx(total / 6, rel=1e-10)
    for parameter, gradient in zip(Program(theirs).bind((x,)).parameters().values(), gradients, strict=True):
        torch.testing.assert_close(gradient, parameter.grad / 6, rtol=1e-8, atol=1e-10)


def test_draws_without_a_path_are_constants_and_all_of_log_q_is_score() -> None:
    x = normal(6, 4).abs()
    program = Program(scenarios.TwoLatents().double()).bind((x,))
    with seeded(1):
        along = program.weighted_draws((x,), 3)
    with seeded(1):
        scored = program.weighted_draws((x,), 3, reparameterised=False)
    assert along.score is None
    assert scored.score is not None
    torch.testing.assert_close(scored.log_weight, along.log_weight)
    encoder = [p for name, p in program.parameters().items() if "encoder" in name]
    found = torch.autograd.grad(scored.log_weight.sum(), encoder, allow_unused=True, retain_graph=True)
    assert all(gradient is None or not bool(gradient.any()) for gradient in found)
    assert all(bool(gradient.any()) for gradient in torch.autograd.grad(scored.score.sum(), encoder))


def test_a_baseline_moves_the_gradient_and_not_the_value() -> None:
    score = torch.tensor([[0.5], [2.0]], requires_grad=True)
    log_weight, baseline = torch.tensor([[3.0], [7.0]]), torch.tensor([[1.0], [-1.0]])
    value = elbo(WeightedDraws(log_weight, score), baseline)
    assert value.tolist() == [5.0]
    (gradient,) = torch.autograd.grad(value.sum(), score)
    assert gradient.tolist() == [[(3 - 1) / 2], [(7 + 1) / 2]]


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    log_weight = normal(5, 3).requires_grad_()
    got = leave_one_out(log_weight)
    assert not got.requires_grad
    for k in range(5):
        others = [j for j in range(5) if j != k]
        torch.testing.assert_close(got[k], log_weight.detach()[others].mean(0))


def test_a_decaying_average_passes_over_what_is_not_finite() -> None:
    average = DecayingAverage(torch.tensor([1.0, -torch.inf, torch.nan]), decay=0.5)
    assert average.value.tolist() == [1.0, 0.0, 0.0]
    average.update(torch.tensor([torch.nan, 4.0, -torch.inf]))
    assert average.value.tolist() == [1.0, 2.0, 0.0]
    average.update(torch.tensor([3.0, 4.0, 8.0]))
    assert average.value.tolist() == [2.0, 3.0, 4.0]


def test_the_score_function_gradient_is_unbiased() -> None:
    """d/dp E[f(c)] for c ~ Bernoulli(p) is f(1) - f(0): here with log weights that depend on c alone."""
    torch.manual_seed(0)
    logit = torch.tensor(0.3, dtype=torch.double, requires_grad=True)
    p = torch.sigmoid(logit)
    c = torch.bernoulli(p.detach().expand(200_000, 1))
    score = torch.where(c == 1, p, 1 - p).log()
    values = torch.where(c == 1, 2.0, -1.0).double()
    (gradient,) = torch.autograd.grad(elbo(WeightedDraws(values, score)).sum(), logit)
    expected = (2.0 - -1.0) * (p * (1 - p)).item()
    # The summand f(c) * (c - p) has a standard deviation of less than 1.
    assert abs(gradient.item() - expected) < 4 / 200_000**0.5
