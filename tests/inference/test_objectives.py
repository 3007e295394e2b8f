"""The objective equals ``pyro.infer.Trace_ELBO`` on the same draws, in value and in every gradient."""

from __future__ import annotations

import pyro
import pytest
import scenarios
import torch
from pyro.infer import Trace_ELBO
from scenarios import bits, normal

from ppl_vae.inference import elbo
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program, WeightedDraws, seeded

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
    program = Program(module)
    parameters = program.parameters(batch)
    with seeded(1), program.scope():
        draws = program.weighted_draws(batch, num_particles, tempered=True)
    loss = -elbo(draws).mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)

    reference = Trace_ELBO(num_particles, max_plate_nesting=nesting, vectorize_particles=num_particles > 1)
    with seeded(1), pyro.get_param_store().scope():
        total = reference.loss_and_grads(module.model, module.guide, *batch)
    assert loss.item() == pytest.approx(total / 6, rel=1e-10)
    compared = 0
    for (parameter_name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad / 6
        got = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10, msg=parameter_name)
        compared += int(bool((expected != 0).any()))
    assert compared == len(parameters)


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
