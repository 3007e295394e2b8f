"""Per-sample and semi-amortized steps: each gradient against a closed form, the unrolled one against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ppl_vae.inference import (
    Family,
    FamilyName,
    LocalElbo,
    LocalSteps,
    Rows,
    Table,
    make_family,
    per_sample_steps,
    refine,
    semi_amortized,
    semi_amortized_steps,
)
from ppl_vae.inference.adam import EPSILON
from ppl_vae.inference.local import BETAS, cosine
from ppl_vae.inference.semi_amortized import EncoderObjective
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import Batch, BoundProgram, LatentSpace, Program, seeded, without_guide
from tests.helpers.scenarios import PPCA, Conjugate, SharedMean, SummedSwitch, TwoLatents, normal

X = normal(6, 5)
TARGET = normal(3, 2, seed=5)
DRAWS = 20000


def make_ppca(kind: FamilyName = "diagonal") -> tuple[PPCA, BoundProgram, LatentSpace, Family]:
    module = PPCA().double()
    program = Program(module).bind((X,), guided=False)
    return module, program, LatentSpace(program), make_family(kind, 2)


def moments(family: Family, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean ``(B, 2)`` and the covariance ``(B, 2, 2)``."""
    q = family.distribution(lam)
    return q.mean, q.covariance_matrix if hasattr(q, "covariance_matrix") else torch.diag_embed(q.variance)


def gradient_of_loading(module: PPCA, x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return the gradient of the mean ELBO in closed form: the likelihood alone depends on the loading."""
    second = mean[:, :, None] * mean[:, None] + covariance
    terms = x[:, :, None] * mean[:, None] - module.loading.detach() @ second
    return terms.mean(0) / module.noise**2


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Rows, Rows]]:
    """Where each ascent began and ended."""
    calls: list[tuple[Rows, Rows]] = []
    ascend = LocalElbo.ascend

    def spy(local: LocalElbo, batch: Batch, rows: Rows, steps: LocalSteps) -> Rows:
        calls.append((rows, ascend(local, batch, rows, steps)))
        return calls[-1][1]

    monkeypatch.setattr(LocalElbo, "ascend", spy)
    return calls


def test_theta_steps_along_the_elbo_at_the_lambda_that_was_found(seen: list[tuple[Rows, Rows]]) -> None:
    """And lambda, which was found with theta fixed, is a constant there."""
    module, program, space, family = make_ppca("full")
    parameter = program.parameters()["program.loading"]
    before = module.loading.detach().clone()
    batch, sgd = (X, torch.arange(6)), torch.optim.SGD([parameter], lr=1.0)
    local = LocalElbo(space, family)
    with seeded(0):
        (found,) = per_sample_steps(program, [batch], sgd, local, LocalSteps(3, 0.3, DRAWS))
    ((start, rows),) = seen
    assert torch.equal(start.lam, local.at_prior((X,)).lam)
    moved = module.loading.detach() - before
    with torch.no_grad():
        module.loading.copy_(before)
        expected = gradient_of_loading(module, X, *moments(family, rows.lam))
        u = family.distribution(rows.lam).sample((DRAWS,))
        log_weight = space.log_joint((X,), u) - family.distribution(rows.lam).log_prob(u)
    assert (moved - expected).abs().max() < 0.05
    assert (moved - gradient_of_loading(module, X, *moments(family, start.lam))).abs().max() > 0.5
    assert abs(found.elbo - log_weight.mean()) < 5 * (2 / DRAWS / 6) ** 0.5 * log_weight.std(0).max()
    assert found.num_data == 6


def test_a_datum_starts_where_its_last_visit_left_it(seen: list[tuple[Rows, Rows]]) -> None:
    """With the state of its optimiser, whichever batch it is in; without a table it starts at the prior."""
    _, program, space, family = make_ppca()
    adam = torch.optim.Adam(program.parameters().values(), lr=0.05)
    table, local = Table(6, family.width, torch.double), LocalElbo(space, family)
    orders = torch.tensor([[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4], [2, 3, 0, 5, 4, 1]])
    steps = LocalSteps(2, 0.1)
    left = local.at_prior((X,))
    for epoch, order in enumerate(orders, 1):
        batches = [(X[rows], rows) for rows in order.split(2)]
        assert len(list(per_sample_steps(program, batches, adam, local, steps, table=table.epoch(epoch)))) == 3
        after = Rows(*(tensor.clone() for tensor in left))
        for rows, (start, end) in zip(order.split(2), seen[-3:], strict=True):
            assert all(torch.equal(a, b[rows]) for a, b in zip(start, left, strict=True))
            assert (end.taken == 2 * epoch).all()
            for all_of_them, some in zip(after, end, strict=True):
                all_of_them[rows] = some
        left = after
    list(per_sample_steps(program, [(X, torch.arange(6))] * 2, adam, local, steps))
    for start, _ in seen[-2:]:
        assert torch.equal(start.lam, local.at_prior((X,)).lam)
        assert (start.taken == 0).all()


def test_a_parameter_that_has_no_part_stays_and_has_a_state() -> None:
    """A program may register its whole self, and its encoder with it; a model may have no parameter at all."""
    module, x = TwoLatents().double(), normal(4, 4).abs()
    program = Program(module).bind((x,), guided=False)
    local, parameters = LocalElbo(LatentSpace(program), make_family("diagonal", 4)), program.parameters()
    before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    adam, batch = torch.optim.Adam(parameters.values(), lr=0.1), (x, torch.arange(4))
    list(per_sample_steps(program, [batch] * 3, adam, local))
    for name, tensor in parameters.items():
        assert torch.equal(tensor, before[name]) == ("encoder" in name)
        assert adam.state[tensor]["step"] == 3

    conjugate = Program(Conjugate().double()).bind((normal(4),))
    batches, idle = [(normal(4), torch.arange(4))] * 2, torch.zeros(1, requires_grad=True)
    bare, sgd = without_guide(conjugate), torch.optim.SGD([idle], lr=1.0)
    steps = list(per_sample_steps(bare, batches, sgd, LocalElbo(LatentSpace(bare), make_family("full", 1))))
    assert all(torch.isfinite(step.elbo) for step in steps)
    assert idle.item() == 0


def test_global_latents_have_their_share_of_the_objective() -> None:
    """In expectation: the ELBO at lambda less a sixth of KL(q(w) || p(w)), both in closed form."""
    x = normal(6)
    program = Program(SharedMean().double()).bind((x,), num_data=6)
    with torch.no_grad():
        program.global_posterior.loc["w"].fill_(0.4)
        program.global_posterior.log_scale["w"].fill_(-0.5)
    space, family = LatentSpace(program), make_family("diagonal", 1)
    sgd = torch.optim.SGD(program.parameters().values(), lr=0.0)
    table = Table(6, family.width, torch.double)
    local, batch = LocalElbo(space, family), (x, torch.arange(6))
    with seeded(0):
        (found,) = per_sample_steps(program, [batch], sgd, local, LocalSteps(1, 0.1, DRAWS), table=table.epoch(1))
    loc, log_scale = torch.from_numpy(table.after(1))[:, :2].unbind(-1)
    w, z = Normal(torch.tensor(0.4).double(), torch.tensor(-0.5).double().exp()), Normal(loc, log_scale.exp())
    likelihood = Normal(loc, 0.7).log_prob(x) - z.variance / (2 * 0.49)
    prior = Normal(w.mean, 1.0).log_prob(loc) - (z.variance + w.variance) / 2
    share = kl_divergence(w, Normal(torch.tensor(0.0).double(), 3.0)) / 6
    assert abs(found.elbo - ((likelihood + prior + z.entropy()).mean() - share)) < 5 * 2 / DRAWS**0.5


# ----------------------------------------------------------------------------------------- semi-amortized


def factor_analysis() -> tuple[FactorAnalysis, BoundProgram, LocalElbo]:
    with seeded(3):
        module = FactorAnalysis(5, 2).double()
        torch.nn.init.normal_(module.encoder.net[0].weight, std=0.5)  # type: ignore[arg-type]
    program = Program(module).bind((X,))
    return module, program, LocalElbo(LatentSpace(without_guide(program)), make_family("diagonal", 2))


def elbo_of(module: FactorAnalysis, lam: Tensor) -> Tensor:
    """The mean ELBO of factor analysis with diagonal Gaussians, in closed form."""
    loc, log_scale = lam.chunk(2, -1)
    mean, noise = module.decoder(loc)
    expected = Normal(mean, noise).log_prob(X).sum(-1)
    spread = (log_scale.exp().square()[:, None] * module.decoder.linear.weight.square()).sum(-1)
    q, p = Normal(loc, log_scale.exp()), Normal(torch.zeros_like(loc), 1.0)
    return (expected - (spread / (2 * noise**2)).sum(-1) - kl_divergence(q, p).sum(-1)).mean()


def test_initial_moves_the_decoder_at_the_refined_lambda_and_the_encoder_at_its_own(
    seen: list[tuple[Rows, Rows]],
) -> None:
    """Neither has anything of the other's ELBO."""
    module, program, local = factor_analysis()
    parameters = program.parameters()
    before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    sgd = torch.optim.SGD(parameters.values(), lr=1.0)
    with seeded(0):
        (found,) = semi_amortized_steps(program, [(X,)], sgd, local, LocalSteps(5, 0.3, DRAWS))
    moved = {name: tensor.detach() - before[name] for name, tensor in parameters.items()}
    with torch.no_grad():
        for name, tensor in parameters.items():
            tensor.copy_(before[name])
    ((start, end),) = seen
    assert (end.lam - start.lam).abs().max() > 0.3
    encoded = local.at_guide(program, (X,))
    torch.testing.assert_close(start.lam, encoded.detach())
    refined, initial = elbo_of(module, end.lam), elbo_of(module, encoded)
    assert abs(found.elbo - refined) < 0.1
    for name, tensor in parameters.items():
        own, other = (refined, initial) if name.startswith("decoder") else (initial, refined)
        (expected,) = torch.autograd.grad(own, tensor, retain_graph=True)
        assert (moved[name] - expected).norm() < 0.03 * expected.norm() + 0.02, name
        (wrong,) = torch.autograd.grad(other, tensor, retain_graph=True, allow_unused=True)
        assert wrong is None or (moved[name] - wrong).norm() > 0.1 * wrong.norm(), name


@pytest.mark.parametrize("objective", ["initial", "refined"])
def test_a_guide_or_a_model_without_parameters(objective: EncoderObjective) -> None:
    """The parameters that exist are trained."""
    x = normal(5)

    def trained(program: BoundProgram) -> set[str]:
        local = LocalElbo(LatentSpace(without_guide(program)), make_family("diagonal", 1))
        parameters = program.parameters()
        before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
        adam = torch.optim.Adam(parameters.values(), lr=0.1)
        steps = semi_amortized_steps(program, [(x,)] * 2, adam, local, encoder_objective=objective)
        assert all(torch.isfinite(step.elbo) for step in steps)
        return {name for name, tensor in parameters.items() if not torch.equal(tensor, before[name])}

    conjugate = Conjugate().double()
    assert trained(Program(conjugate).bind((x,))) == {"encoder.weight", "encoder.bias"}

    def fixed(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5))

    assert trained(Program(SummedSwitch().double().model, fixed).bind((x,))) == {"means.0"}


def log_joint_of(theta: Tensor) -> Callable[..., Tensor]:
    def log_joint(u: Tensor, data: Batch = ()) -> Tensor:
        return -0.25 * theta * (u - TARGET).pow(4).sum(-1) + torch.sin(u).prod(-1)

    return log_joint


def recursion(
    family: Family, lam: Tensor, theta: Tensor, noise: list[Tensor], divisors: list[Tensor] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """The steps of ``refine`` written out, and what Adam divides by, which can be given."""
    mean = square = torch.zeros_like(lam)
    used = []
    for step, eps in enumerate(noise):
        at = lam.detach().requires_grad_()
        u, log_q = family.draw(at, eps)
        (gradient,) = torch.autograd.grad((log_joint_of(theta.detach())(u) - log_q).mean(0).sum(), at)
        mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
        square = BETAS[1] * square + (1 - BETAS[1]) * gradient**2
        used.append((square / (1 - BETAS[1] ** (step + 1))).sqrt() + EPSILON)
        divisor = used[-1] if divisors is None else divisors[step]
        rate = 0.1 * cosine(step, len(noise)) * family.pace.double()
        lam = lam + rate * mean / (1 - BETAS[0] ** (step + 1)) / divisor
    return lam.detach(), used


@pytest.mark.parametrize("kind", ["diagonal", "full", "flow"])
def test_unrolled_is_refine_and_has_the_gradient_of_differences(
    kind: FamilyName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the start and in theta, Adam's divisors held where they are."""
    family, num_steps = make_family(kind, 2), 4
    lam = family.start(normal(3, 2, seed=1), (0.3 * normal(3, 2, seed=2)).exp())
    lam = lam + 0.1 * normal(3, family.width, seed=3)
    theta, noise = torch.tensor(0.7).double(), [normal(2, 1, 2, seed=10 + t) for t in range(num_steps)]

    def again(function: Callable[[], Any]) -> Any:
        left = iter(noise)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn", lambda *_, **__: next(left))
            return function()

    local = LocalSteps(num_steps, 0.1, 2)
    start, at = lam.clone().requires_grad_(), theta.clone().requires_grad_()
    found = again(lambda: semi_amortized.unrolled(log_joint_of(at), family, start, local))
    refined = again(lambda: refine(log_joint_of(theta), family, Rows.at(lam), steps=local))
    torch.testing.assert_close(found.detach(), refined.lam, rtol=0, atol=1e-12)

    direction = normal(3, family.width, seed=7)
    gradients = torch.autograd.grad((found * direction).sum(), [start, at])
    end, divisors = recursion(family, lam, theta, noise)
    torch.testing.assert_close(end, found.detach(), rtol=0, atol=1e-12)
    step = 1e-6

    def difference(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
        ends = [recursion(family, *point, noise, divisors)[0] for point in (one, other)]
        return (((ends[0] - ends[1]) * direction).sum() / (2 * step)).item()

    towards = normal(3, family.width, seed=8)
    along = difference((lam + step * towards, theta), (lam - step * towards, theta))
    assert (gradients[0] * towards).sum().item() == pytest.approx(along, rel=1e-4)
    assert gradients[1].item() == pytest.approx(difference((lam, theta + step), (lam, theta - step)), rel=1e-4)
