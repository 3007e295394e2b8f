"""Every estimator of the ELBO's gradient is unbiased, against exact gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.inference import AmortizedOptions, amortized, amortized_steps, elbo, local
from ppl_vae.inference.families import Diagonal, Family, Full, make_family
from ppl_vae.inference.local import LocalSteps, Rows, refine
from ppl_vae.inference.objectives import DECAY, leave_one_out
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import Batch, BoundProgram, LatentSpace, Program, WeightedDraws, seeded, with_lambda
from tests.helpers import scenarios
from tests.helpers.scenarios import normal

SIGMAS = 5
"""Standard errors that a mean may be off: each test compares fewer than 100 numbers, at odds below 1e-4 together."""
ESTIMATORS = [
    ("reparam", "none"),
    ("score-function", "none"),
    ("score-function", "leave-one-out"),
    ("score-function", "decaying-average"),
]


class Recorder(torch.optim.SGD):
    """Moves nothing, and keeps the gradients."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        super().__init__(parameters.values(), lr=0.0)
        self.parameters, self.seen = parameters, []

    def step(self, closure=None):
        self.seen.append({name: -p.grad.clone() for name, p in self.parameters.items()})


def assert_mean(draws: Tensor, expected: Tensor, what: str = "") -> None:
    """The mean of independent estimates ``(R, ...)`` is the expected one, to Monte Carlo error."""
    error = draws.std(0) / len(draws) ** 0.5
    off = (draws.mean(0) - expected).abs() / (error + 1e-12)
    assert off.max() < SIGMAS, f"{what}: {off.max():.1f} standard errors"


def recorded(program: BoundProgram, batch: tuple[Tensor, ...], steps: int, **options) -> dict[str, Tensor]:
    """Gradients of so many steps at the same parameters, each ``(R, ...)``."""
    recorder = Recorder(program.parameters())
    with program.running(seed=3, training=True):
        for _ in amortized_steps(program, [batch] * steps, recorder, AmortizedOptions(**options)):
            pass
    return {name: torch.stack([seen[name] for seen in recorder.seen]) for name in recorder.seen[0]}


def exact_elbo(model: FactorAnalysis, x: Tensor, loc: Tensor, factor: Tensor) -> Tensor:
    """The ELBO ``(B,)`` of factor analysis for q = N(loc, factor factor^T)."""
    weight, (mean, noise) = model.decoder.linear.weight, model.decoder(loc)
    covariance = factor @ factor.mT
    scaled = weight / noise[..., 0, :, None] if noise.dim() > 1 else weight / noise[:, None]
    likelihood = dist.Normal(mean, noise).log_prob(x).sum(-1)
    likelihood = likelihood - 0.5 * (scaled.mT @ scaled * covariance).sum((-1, -2))
    divergence = torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(loc, scale_tril=factor),
        torch.distributions.MultivariateNormal(torch.zeros_like(loc), torch.eye(loc.shape[-1], dtype=loc.dtype)),
    )
    return likelihood - divergence


def factor_analysis() -> FactorAnalysis:
    with seeded(0):
        return FactorAnalysis(data_dim=4, latent_dim=2).double().eval()


def test_the_exact_elbo_is_the_evidence_at_the_posterior() -> None:
    model, x = factor_analysis(), normal(3, 4)
    mean, noise = model.decoder(x.new_zeros(2))
    scaled = model.decoder.linear.weight / noise[:, None]
    covariance = torch.linalg.inv(torch.eye(2, dtype=torch.double) + scaled.mT @ scaled)
    loc = (x - mean) / noise @ scaled @ covariance
    got = exact_elbo(model, x, loc, torch.linalg.cholesky(covariance).expand(3, 2, 2))
    torch.testing.assert_close(got, model.log_evidence(x))


@pytest.mark.parametrize(("gradient", "baseline"), ESTIMATORS)
def test_amortized_gradients_are_unbiased(gradient: str, baseline: str) -> None:
    model, x = factor_analysis(), normal(3, 4)
    program = Program(model).bind((x,))
    loc, scale = model.encoder(x)
    parameters = program.parameters()
    expected = torch.autograd.grad(exact_elbo(model, x, loc, torch.diag_embed(scale)).mean(), list(parameters.values()))
    got = recorded(program, (x,), 150, num_particles=8, gradient=gradient, baseline=baseline)
    for (name, exact), draws in zip(zip(parameters, expected, strict=True), got.values(), strict=True):
        assert exact.abs().max() > 0
        assert_mean(draws, exact, name)


class Coin(nn.Module):
    """A Bernoulli latent that the guide samples, and no other."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([-1.0, 1.5]))
        self.encoder = nn.Linear(1, 1)

    def model(self, x: Tensor) -> None:
        pyro.module("means", nn.ParameterList([self.means]))
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Bernoulli(x.new_tensor(0.4)))
            pyro.sample("x", dist.Normal(self.means[c.long()], 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Bernoulli(logits=self.encoder(x[..., None])[..., 0]))


@pytest.mark.parametrize(
    ("gradient", "num_particles", "baseline"),
    [
        ("reparam", 1, "none"),
        ("reparam", 1, "decaying-average"),
        ("reparam", 4, "leave-one-out"),
        ("score-function", 4, "leave-one-out"),
    ],
)
def test_gradients_of_discrete_sites_are_unbiased(gradient: str, num_particles: int, baseline: str) -> None:
    with seeded(1):
        model = Coin().double()
    x = normal(5)
    program = Program(model).bind((x,))
    parameters = program.parameters()
    c, q = torch.tensor([[0.0], [1.0]], dtype=torch.double), dist.Bernoulli(logits=model.encoder(x[:, None])[:, 0])
    log_joint = dist.Bernoulli(x.new_tensor(0.4)).log_prob(c) + dist.Normal(model.means[:, None], 1.0).log_prob(x)
    exact = (q.log_prob(c).exp() * (log_joint - q.log_prob(c))).sum(0).mean()
    expected = torch.autograd.grad(exact, list(parameters.values()))
    got = recorded(program, (x,), 200, num_particles=num_particles, gradient=gradient, baseline=baseline)
    for (name, answer), draws in zip(zip(parameters, expected, strict=True), got.values(), strict=True):
        assert_mean(draws, answer, name)


def test_by_default_one_particle_of_a_discrete_site_has_no_baseline() -> None:
    with seeded(0):
        module = scenarios.Switch().double()
    x = normal(6)
    program = Program(module).bind((x,))
    (got,) = zip(*recorded(program, (x,), 1).values(), strict=True)
    parameters = program.parameters()
    with program.running(seed=3, training=True):
        draws = program.weighted_draws((x,), 1, tempered=True)
    assert draws.score is not None
    expected = torch.autograd.grad(elbo(draws).mean(), list(parameters.values()))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("where", [amortized, local], ids=["amortized", "local"])
def test_a_decaying_average_has_the_steps_before_and_not_this_one(where: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(draws: WeightedDraws, baseline: Tensor) -> Tensor:
        signal = draws.log_weight.detach()
        seen.append((signal.mean() if where is amortized else signal.mean(0), baseline.clone()))
        return elbo(draws, baseline)

    monkeypatch.setattr(where, "elbo", spy)
    options = {"gradient": "score-function", "baseline": "decaying-average", "num_particles": 2}
    if where is amortized:
        recorded(Program(factor_analysis()).bind((normal(3, 4),)), (normal(3, 4),), 6, **options)
    else:
        with seeded(0):
            refine(
                quadratic, Diagonal(2), Rows.at(torch.zeros(5, 4).double()), NUMBERS, LocalSteps(num_steps=6, **options)
            )
    assert len(seen) == 6
    assert (seen[0][0] != seen[0][1]).all()  # it begins with draws of its own
    for (signal, before), (_, after) in pairwise(seen):
        torch.testing.assert_close(after, DECAY * before + (1 - DECAY) * signal)


# ------------------------------------------------------------------------------------------ derived guides


def of_lambda(program: BoundProgram, batch: tuple[Tensor, ...], lam: Tensor, wrt: list[Tensor]) -> list[Tensor]:
    """Gradients by the score function with leave-one-out, ``(R, ...)`` each."""
    gradients = []
    with seeded(5):
        for _ in range(40):
            draws = program.weighted_draws((*batch, lam), 200, reparameterised=False)
            assert draws.score is not None
            objective = elbo(draws, leave_one_out(draws.log_weight)).sum()
            gradients.append(torch.autograd.grad(objective, wrt))
    return [torch.stack(parts) for parts in zip(*gradients, strict=True)]


@pytest.mark.parametrize("family", [Diagonal(2), Full(2)], ids=["diagonal", "full"])
def test_the_score_function_of_a_derived_guide_is_unbiased(family: Family) -> None:
    """Each latent a site of its own; and point masses, given one auxiliary site."""
    model, x = factor_analysis(), normal(3, 4)
    space = LatentSpace(Program(model).bind((x,), guided=False))
    lam = (0.3 * normal(3, family.width) - 0.2).requires_grad_()
    program = with_lambda(space, family.distribution, lam.detach())
    factor = family.factor(lam) if isinstance(family, Full) else torch.diag_embed(lam[:, 2:].exp())
    weight = model.decoder.linear.weight
    exact = exact_elbo(model, x, lam[:, :2], factor).sum()
    expected = torch.autograd.grad(exact, [lam, weight])
    for name, draws, answer in zip(
        ("lambda", "theta"), of_lambda(program, (x,), lam, [lam, weight]), expected, strict=True
    ):
        assert_mean(draws, answer, name)


@pytest.mark.parametrize("family", ["diagonal", "full", "flow"])
def test_the_score_function_where_the_support_has_a_parameter(family: str) -> None:
    """The point masses lie at T(u), and T depends on theta: they have a gradient of their own, by the path.

    The exact gradient is that of a quadrature over the standard normal noise.
    """
    log_bound = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.double))

    def model(x: Tensor) -> None:
        bound = pyro.param("log_bound", log_bound).exp()
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Uniform(x.new_zeros(()), bound))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    x, chosen = torch.tensor([0.3, 1.1], dtype=torch.double), make_family(family, 1)
    space = LatentSpace(Program(model).bind((x,)))
    program = with_lambda(space, chosen.distribution, torch.zeros(2, chosen.width, dtype=torch.double))
    bound = program.parameters()["log_bound"]
    lam = chosen.start(torch.tensor([[0.2], [-0.4]]), torch.tensor([[0.7], [0.5]])).double().requires_grad_()
    grid = torch.linspace(-8, 8, 8001, dtype=torch.double)
    noise = grid[:, None, None].expand(-1, 2, 1)
    u, _ = chosen.draw(lam, noise)
    log_weight = space.log_joint((x,), u) - chosen.distribution(lam).log_prob(u)
    exact = ((-0.5 * grid.square()).softmax(0)[:, None] * log_weight).sum()
    expected = torch.autograd.grad(exact, [lam, bound])
    for name, draws, answer in zip(
        ("lambda", "theta"), of_lambda(program, (x,), lam, [lam, bound]), expected, strict=True
    ):
        assert_mean(draws, answer, name)


# ------------------------------------------------------------------------------------------ per datum


NUMBERS = (torch.arange(5),)


def quadratic(u: Tensor, data: Batch) -> Tensor:
    """log p(x, u) of five data, which are their numbers: posteriors N(m_i, s_i^2), and an evidence far from zero."""
    loc, scale = torch.linspace(-2, 2, 5).double()[data[0]], torch.linspace(0.3, 1.5, 5).double()[data[0]]
    return (-0.5 * ((u - loc[:, None]) / scale[:, None]).square()).sum(-1) - 50.0


@pytest.mark.parametrize(("gradient", "baseline"), ESTIMATORS[2:])
@pytest.mark.parametrize("family", ["diagonal", "full"])
def test_refine_ascends_by_the_score_function(family: str, gradient: str, baseline: str) -> None:
    chosen = make_family(family, 2)
    rows = Rows.at(chosen.start(torch.zeros(5, 2), torch.ones(5, 2)).double())
    options = {"num_steps": 300, "num_particles": 8, "gradient": gradient, "baseline": baseline}
    with seeded(0):
        lam = refine(quadratic, chosen, rows, NUMBERS, LocalSteps(**options)).lam
        u = chosen.distribution(lam).sample((4000,))
    log_weight = quadratic(u, NUMBERS) - chosen.distribution(lam).log_prob(u)
    # The bound falls short of the evidence by the divergence, which is what the last, small steps' noise leaves.
    exact = 2 * torch.linspace(0.3, 1.5, 5).double().log() + math.log(2 * math.pi) - 50.0
    assert (exact - log_weight.mean(0)).max() < 0.1
    assert (exact - log_weight.mean(0)).min() > -SIGMAS * (log_weight.std(0) / 4000**0.5).max()


@pytest.mark.parametrize("baseline", ["none", "leave-one-out", "decaying-average"])
def test_a_datum_is_refined_as_if_it_were_alone(baseline: str) -> None:
    family = Diagonal(2)
    rows = Rows.at(family.start(torch.zeros(5, 2), torch.ones(5, 2)).double())
    options = {"num_steps": 120, "num_particles": 4, "gradient": "score-function", "baseline": baseline}
    with seeded(0):
        together = refine(quadratic, family, rows, NUMBERS, LocalSteps(tolerance=0.5, **options))
    assert (
        baseline == "none" or len(together.taken.unique()) > 1
    )  # some have stopped before others, and the average with them
    for i in range(5):
        with seeded(0):
            one = Rows(*(t[i : i + 1] for t in rows))
            alone = refine(quadratic, family, one, (torch.tensor([i]),), LocalSteps(tolerance=0.5, **options))
        torch.testing.assert_close(alone.lam, together.lam[i : i + 1])


@pytest.mark.parametrize("baseline", ["none", "leave-one-out", "decaying-average"])
def test_a_datum_without_a_finite_signal_does_not_move(baseline: str) -> None:
    family = Diagonal(2)
    rows = Rows.at(family.start(torch.zeros(5, 2), torch.ones(5, 2)).double())

    def log_joint(u: Tensor, data: Batch) -> Tensor:
        return quadratic(u, data) + torch.tensor([0.0, -math.inf, 0.0, math.nan, 0.0])

    options = {"num_steps": 20, "num_particles": 4, "gradient": "score-function", "baseline": baseline}
    with seeded(0):
        got = refine(log_joint, family, rows, NUMBERS, LocalSteps(**options))
    with seeded(0):
        without = refine(quadratic, family, rows, NUMBERS, LocalSteps(**options))
    torch.testing.assert_close(got.lam[[1, 3]], rows.lam[[1, 3]])
    torch.testing.assert_close(got.lam[[0, 2, 4]], without.lam[[0, 2, 4]])


# ------------------------------------------------------------------------------------------ bad input


def test_bad_input() -> None:
    x, family = normal(3, 4), Diagonal(2)
    program = Program(factor_analysis()).bind((x,))
    adam = torch.optim.Adam(program.parameters().values())
    rows = Rows.at(torch.zeros(5, 4).double())
    one = {"num_particles": 1, "gradient": "score-function"}
    faults: list[tuple[Callable[[], object], str]] = [
        (lambda: list(amortized_steps(program, [(x,)], adam, AmortizedOptions(**one))), "two draws or more"),
        (lambda: refine(quadratic, family, rows, steps=LocalSteps(num_steps=1, **one)), "two draws or more"),
        (lambda: leave_one_out(torch.zeros(1, 3)), "two draws or more"),
        (
            lambda: list(amortized_steps(program, [(x,)], adam, AmortizedOptions(gradient="score"))),
            "did you mean 'score-function'",
        ),
        (
            lambda: refine(quadratic, family, rows, steps=LocalSteps(num_steps=1, baseline="zero")),
            "baseline='zero' is unknown",
        ),
    ]
    for call, match in faults:
        with pytest.raises(InputError, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)
