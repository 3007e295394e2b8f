"""Local inference: against closed forms and grids, and every datum on its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from ppl_vae.inference.families import Diagonal, Family, FamilyName, make_family
from ppl_vae.inference.local import BETAS, CALM, WINDOW, LocalSteps, LogJoint, Rows, cosine, refine
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import Batch, LatentSpace, Program, seeded, simulate
from tests.helpers import scenarios
from tests.helpers.scenarios import bits, normal

FAMILIES: tuple[FamilyName, ...] = ("diagonal", "full", "flow")


def cold(space: LatentSpace, family: Family, batch: Batch) -> Rows:
    with torch.no_grad():
        return Rows.at(family.start(*space.start(batch)))


def refined_rows(space: LatentSpace, family: Family, batch: Batch, start: Rows | None = None, **how: Any) -> Rows:
    with seeded(1):
        start = start or cold(space, family, batch)
        return refine(lambda u, data: space.log_joint(data, u), family, start, batch, LocalSteps(**how))


# ------------------------------------------------------------------------------------------ closed forms


@pytest.fixture(scope="module")
def factors() -> tuple[LatentSpace, Tensor, MultivariateNormal]:
    """Factor analysis with five factors, twenty data drawn from it, and their posteriors."""
    with seeded(0), torch.no_grad():
        module = FactorAnalysis(data_dim=12, latent_dim=5, min_noise=0.0).double()
        module.decoder.raw_scale.copy_(torch.linspace(0.3, 0.6, 12).double().expm1().log())
        module.decoder.linear.weight.copy_(torch.randn(12, 5).double())
        like = (torch.zeros(20, 12).double(),)
        (x,) = simulate(Program(module).bind(like, guided=False), like).batch
        loading, (offset, noise) = module.decoder.linear.weight, module.decoder(torch.zeros(5).double())
        precision = torch.eye(5).double() + loading.T @ (loading / noise[:, None] ** 2)
        mean = (x - offset) / noise**2 @ loading @ torch.linalg.inv(precision)
    return (
        LatentSpace(Program(module).bind((x,), guided=False)),
        x,
        MultivariateNormal(mean, precision_matrix=precision.expand(20, 5, 5)),
    )


@pytest.mark.parametrize("num_particles", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_full_covariance_reaches_the_exact_posterior(factors: Any, num_particles: int) -> None:
    """Its ELBO is the evidence: log p(x) - KL(q || p). From the prior, in 1000 steps; to 1 percent with four draws."""
    space, x, posterior = factors
    family = make_family("full", 5)
    rows = refined_rows(space, family, (x,), num_steps=1000, learning_rate=0.2, num_particles=num_particles)
    q = family.distribution(rows.lam)
    assert (kl_divergence(q, posterior) < 0.005).all()
    if num_particles == 4:
        scale = posterior.variance.sqrt()
        assert ((q.mean - posterior.mean).abs() < 0.01 * scale).all()
        correlation = (q.covariance_matrix - posterior.covariance_matrix) / scale[..., None] / scale[..., None, :]
        assert correlation.abs().max() < 0.01


def test_a_diagonal_covariance_reaches_the_best_of_its_kind(factors: Any) -> None:
    """Its mean is the posterior's, its precisions are the diagonal of the posterior's (Bishop, section 10.1.2)."""
    space, x, posterior = factors
    family = make_family("diagonal", 5)
    rows = refined_rows(space, family, (x,), num_steps=400, learning_rate=0.2, num_particles=4)
    q, precision = family.distribution(rows.lam), posterior.precision_matrix
    best = 0.5 * (precision.diagonal(dim1=-2, dim2=-1).log().sum(-1) - torch.logdet(precision))
    gap = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), posterior) - best
    assert (best > 0.1).all()
    assert ((gap > -1e-9) & (gap < 0.02)).all()


def test_a_flow_goes_beyond_the_gaussian_that_it_starts_as() -> None:
    """Towards a posterior in the shape of a banana, u_2 about u_1 squared, whose log evidence is zero."""

    def banana(u: Tensor, data: Batch) -> Tensor:
        bend = u[..., 1] - 0.5 * u[..., 0].square()
        return -0.5 * u[..., 0].square() - 0.5 * (bend / 0.3).square() - math.log(2 * math.pi * 0.3)

    elbos = {}
    for kind in ("full", "flow"):
        family = make_family(kind, 2)
        with seeded(2):
            start = Rows.at(family.start(torch.zeros(1, 2).double(), torch.ones(1, 2).double()))
            rows = refine(banana, family, start, steps=LocalSteps(num_steps=200, learning_rate=0.2, num_particles=8))
        u, log_q = family.draw(rows.lam, normal(20000, 1, 2))
        elbos[kind] = (banana(u, ()) - log_q).mean()
    assert -0.6 < elbos["full"] < elbos["flow"] - 0.1 < -0.1


# ------------------------------------------------------------------------------------------ grids


def counts(program: scenarios.Counts, x: Tensor, z: Tensor) -> Tensor:
    likelihood = torch.distributions.Poisson(program.rate(z[..., None])).log_prob(x).sum(-1)
    return likelihood - 0.5 * (z.square() + math.log(2 * math.pi))


def pixels(program: scenarios.PyroExampleVAE, x: Tensor, z: Tensor) -> Tensor:
    likelihood = torch.distributions.Bernoulli(logits=program.decoder(z[..., None])).log_prob(x).sum(-1)
    return likelihood - 0.5 * (z.square() + math.log(2 * math.pi))


GRIDS: dict[str, tuple[Callable[[], Any], Tensor, Callable[..., Tensor]]] = {
    "counts": (lambda: scenarios.Counts(1), torch.tensor([[0.0, 2, 1], [3, 0, 0], [1, 1, 4]]).double(), counts),
    "pixels": (lambda: scenarios.PyroExampleVAE(1, 8, 12), bits(3, 12), pixels),
}


@pytest.mark.parametrize("name", ["counts", pytest.param("pixels", marks=pytest.mark.slow)])
def test_one_latent_reaches_the_optimum_of_a_grid(name: str) -> None:
    """L(q*), by quadrature at lambda, against the best of 121 means by 81 scales."""
    make, x, log_p = GRIDS[name]
    with seeded(3):
        module = make().double()
        for parameter in module.parameters():  # so that there is something to see
            parameter.data.mul_(2.0)
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(60))

    def elbo(row: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        log_joint = log_p(module, row, loc[..., None] + log_scale.exp()[..., None] * nodes)
        expected = (log_joint * weights).sum(-1) / (2 * math.pi) ** 0.5
        return expected + log_scale + 0.5 * math.log(2 * math.pi * math.e)

    space = LatentSpace(Program(module).bind((x,), guided=False))
    rows = refined_rows(space, Diagonal(1), (x,), num_steps=400, learning_rate=0.2, num_particles=8)
    grid = torch.cartesian_prod(torch.linspace(-3, 3, 121), torch.linspace(-3, 1, 81)).double()
    for row, lam in zip(x, rows.lam, strict=True):
        with torch.no_grad():
            best = elbo(row, grid[:, 0], grid[:, 1]).max()
            reached = elbo(row, lam[0], lam[1])
        assert best - 0.003 < reached < best + 0.003


# ------------------------------------------------------------------------------------------ data on their own


def mostly_warm(family: Family, posterior: MultivariateNormal) -> Tensor:
    """Three of four data start where their posterior is, the others at the prior: some converge before others."""
    warm = (torch.arange(20) % 4 > 0)[:, None]
    loc, scale = torch.where(warm, posterior.mean, 0.0), torch.where(warm, posterior.variance.sqrt(), 1.0)
    return family.start(loc, scale)


@pytest.mark.parametrize(("kind", "num_steps"), [("diagonal", 100), ("full", 150), ("flow", 20)])
def test_the_answer_for_a_datum_depends_on_no_other(factors: Any, kind: FamilyName, num_steps: int) -> None:
    """Nor on their order, nor on who has converged, and is then left out of what is computed."""
    _, _, posterior = factors
    family, mean, precision = make_family(kind, 5), posterior.mean, posterior.precision_matrix[0]
    start = mostly_warm(family, posterior)

    def infer(data: Tensor) -> Rows:
        def log_joint(u: Tensor, data: Batch) -> Tensor:
            off = u - mean[data[0]]
            return -0.5 * torch.einsum("kbi,ij,kbj->kb", off, precision, off)

        with seeded(1):
            rows = Rows.at(start[data])
            return refine(
                log_joint, family, rows, (data,), LocalSteps(num_steps=num_steps, learning_rate=0.2, tolerance=2.0)
            )

    together = infer(torch.arange(20))
    assert kind != "full" or num_steps / 2 < together.taken.min() < together.taken.max()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    for some in (order, torch.tensor([3]), torch.tensor([2, 6])):
        for part, whole in zip(infer(some), together, strict=True):
            torch.testing.assert_close(part, whole[some], rtol=1e-8, atol=1e-8)


def test_nor_does_it_where_a_program_is_asked(factors: Any) -> None:
    space, x, posterior = factors
    family = make_family("full", 5)
    start = mostly_warm(family, posterior)
    how: dict[str, Any] = {"num_steps": 80, "learning_rate": 0.2, "tolerance": 5.0}
    together = refined_rows(space, family, (x,), Rows.at(start), **how)
    assert together.taken.unique().numel() > 1
    for row in (0, 7):
        alone = refined_rows(space, family, (x[row : row + 1],), Rows.at(start[row : row + 1]), **how)
        torch.testing.assert_close(alone.joined()[0], together.joined()[row], rtol=1e-8, atol=1e-8)


NUMBERS = (torch.arange(4),)


def quadratic(u: Tensor, data: Batch) -> Tensor:
    """A posterior N(mean, 1) for each of four data, which are their numbers."""
    means = torch.tensor([0.0, 0.0, -3.0, 20.0]).double()
    return -0.5 * (u[..., 0] - means[data[0]]).square()


def near() -> Rows:
    """The first two data are there already, where the gradient of the path is zero."""
    lam = torch.tensor([[0.0, 0.0], [0.0, 0.0], [2.0, 0.5], [0.0, 0.0]]).double()
    return Rows.at(lam)


def refined(rows: Rows, log_joint: LogJoint = quadratic, **how: Any) -> Rows:
    with seeded(4):
        return refine(
            log_joint, Diagonal(1), rows, NUMBERS, LocalSteps(**{"num_steps": 300, "learning_rate": 0.1, **how})
        )


def test_data_that_have_converged_do_not_move_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a datum is after as many steps as it took, it is after all of them."""
    monkeypatch.setattr("ppl_vae.inference.local.cosine", lambda step, num_steps: 0.96**step)
    rows = refined(near(), learning_rate=0.5)
    taken = rows.taken[:, 0].int().tolist()
    assert taken[:2] == [CALM * WINDOW, CALM * WINDOW]
    assert CALM * WINDOW < taken[2] < 300
    assert taken[2] % WINDOW == 0
    for row in range(4):
        assert torch.equal(rows.joined()[row], refined(near(), learning_rate=0.5, num_steps=taken[row]).joined()[row])
    assert ((rows.lam[:3] - torch.tensor([[0.0, 0], [0, 0], [-3, 0]])).abs() < 0.1).all()


def test_the_number_of_steps_is_what_was_taken_and_no_more() -> None:
    """All that is asked of the density, too: where half have converged, only the others are computed."""
    sizes = []

    def counted(u: Tensor, data: Batch) -> Tensor:
        sizes.append(u.shape[1])
        return quadratic(u, data)

    rows = refined(near(), counted)
    assert sizes[: CALM * WINDOW] == [4] * CALM * WINDOW
    assert len(sizes) == rows.taken.max()
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


@pytest.mark.parametrize("tolerance", [1e-3, 0.05])
def test_leaving_out_what_has_converged_changes_nothing(monkeypatch: pytest.MonkeyPatch, tolerance: float) -> None:
    expected = refined(near(), tolerance=tolerance)
    monkeypatch.setattr("ppl_vae.inference.local.Moving.only", lambda self, going: self)
    for part, whole in zip(refined(near(), tolerance=tolerance), expected, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-12, atol=1e-12)


def test_without_a_tolerance_all_steps_are_taken() -> None:
    assert (refined(near(), tolerance=0.0, num_steps=120).taken == 120).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_its_datum_where_it_is(bad: float) -> None:
    def broken(u: Tensor, data: Batch) -> Tensor:
        return quadratic(u, data) + torch.where(data[0] == 2, bad, 0.0) * u[..., 0]

    rows, expected = refined(near(), broken), refined(near())
    assert torch.equal(rows.lam[2], near().lam[2])
    assert rows.taken[2] == 0
    assert torch.equal(rows.mean[2], torch.zeros(2).double())
    others = torch.tensor([0, 1, 3])
    for part, whole in zip(rows, expected, strict=True):
        torch.testing.assert_close(part[others], whole[others], rtol=1e-12, atol=1e-12)


def test_a_gradient_that_is_not_finite_once_costs_a_step() -> None:
    calls = []

    def broken(u: Tensor, data: Batch) -> Tensor:
        calls.append(1)
        return quadratic(u, data) * (math.nan if len(calls) == 5 else 1.0)

    rows = refined(near(), broken, num_steps=40)
    assert (rows.taken == 39).all()
    assert torch.isfinite(rows.joined()).all()


# ------------------------------------------------------------------------------------------ rows


def test_rows_are_one_tensor_and_back() -> None:
    rows = refined(near(), num_steps=30)
    joined = rows.joined()
    assert joined.shape == (4, 7)
    for part, whole in zip(Rows.split(joined), rows, strict=True):
        assert torch.equal(part, whole)
    some = torch.tensor([2, 0])
    assert torch.equal(Rows.split(joined[some]).lam, rows.lam[some])


def test_resumed_it_goes_on_with_its_moments() -> None:
    """With a constant rate, and without noise, ten steps and ten more are twenty; from zero moments they are not."""

    def still(u: Tensor, data: Batch) -> Tensor:  # pays no heed to the noise
        return -0.5 * (u.mean(0, keepdim=True)[..., 0] - 3.0).square().expand(u.shape[:2])

    class Point:
        size, width, pace = 1, 1, torch.ones(1)

        def draw(self, lam: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
            u = lam.expand(len(noise), *lam.shape)
            return u, torch.zeros_like(u[..., 0])

    def steps(rows: Rows, num_steps: int, learning_rate: float) -> Rows:
        return refine(still, Point(), rows, steps=LocalSteps(num_steps, learning_rate))  # type: ignore[arg-type]

    rows = one = Rows.at(torch.zeros(2, 1).double())
    fresh = rows
    for _ in range(20):
        one = steps(one, 1, 0.1)  # a schedule of a single step has the whole rate
        fresh = steps(Rows.at(fresh.lam), 1, 0.1)
    assert (one.taken == 20).all()
    lam, optimizer = torch.zeros(1, dtype=torch.double, requires_grad=True), None
    optimizer = torch.optim.Adam([lam], lr=0.1, betas=BETAS)
    for _ in range(20):
        optimizer.zero_grad()
        (0.5 * (lam - 3.0).square().sum()).backward()
        optimizer.step()
    torch.testing.assert_close(one.lam[:, 0], lam.detach().expand(2), rtol=1e-7, atol=1e-7)
    assert (fresh.lam - one.lam).abs().min() > 0.01


def test_the_rows_that_it_is_given_are_left_as_they_were() -> None:
    rows = near()
    before = rows.joined().clone()
    refined(rows)
    assert torch.equal(rows.joined(), before)


def test_no_steps_change_nothing() -> None:
    assert torch.equal(refined(near(), num_steps=0).joined(), near().joined())


def test_a_pace_is_a_share_of_the_rate() -> None:
    """The first step of Adam is as long as its rate, whatever the gradient."""

    class Slow(Diagonal):
        def __init__(self) -> None:
            super().__init__(1)
            self.pace = torch.tensor([1.0, 0.25])

    with seeded(5):
        rows = refine(quadratic, Slow(), near(), NUMBERS, LocalSteps(num_steps=1, learning_rate=0.2))
    step = (rows.lam - near().lam)[2:].abs()
    torch.testing.assert_close(step, torch.tensor([0.2, 0.05]).double().expand(2, 2), rtol=1e-6, atol=1e-6)


def test_the_same_seed_gives_the_same_numbers_and_the_generator_moves_by_one_draw() -> None:
    with seeded(6):
        first = refine(quadratic, Diagonal(1), near(), NUMBERS, LocalSteps(num_steps=30))
        after = torch.rand(1)
    with seeded(6):
        again = refine(quadratic, Diagonal(1), near(), NUMBERS, LocalSteps(num_steps=30))
        torch.rand(1)
    with seeded(6):
        refine(quadratic, Diagonal(1), near(), NUMBERS, LocalSteps(num_steps=3, num_particles=7))
        assert torch.rand(1) == after
    assert torch.equal(first.joined(), again.joined())
    with seeded(7):
        assert not torch.equal(refine(quadratic, Diagonal(1), near(), NUMBERS, LocalSteps(num_steps=30)).lam, first.lam)


def test_the_schedule_falls_with_a_cosine() -> None:
    rates = [cosine(step, 200) for step in range(201)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1.0
    assert min(rates) == 0.01
    assert abs(rates[50] - (1 + 0.5**0.5) / 2) < 1e-12


def test_nobody_elses_parameters_get_a_gradient(factors: Any) -> None:
    space, x, _ = factors
    refined_rows(space, make_family("full", 5), (x,), num_steps=3)
    assert all(parameter.grad is None for parameter in space.program.module.parameters())


class MaskedRates(nn.Module):
    """Counts in a loop, each with a rate of its own; those past a datum's length are masked."""

    def model(self, x: Tensor, lengths: Tensor) -> None:
        with pyro.plate("data", len(x)):
            for t in range(3):
                with pyro.poutine.mask(mask=t < lengths):
                    rate = pyro.sample(f"rate_{t}", dist.Gamma(x.new_tensor(2.0), 0.5))
                    pyro.sample(f"x_{t}", dist.Poisson(rate), obs=x[:, t])


@pytest.mark.parametrize("kind", ["diagonal", "full", pytest.param("flow", marks=pytest.mark.slow)])
def test_constrained_latents_and_masks(kind: FamilyName) -> None:
    """The conjugate posterior of a Gamma rate, in unconstrained space; what is masked is a Gaussian about zero."""
    x, lengths = torch.tensor([[9.0, 4.0, 1.0], [2.0, 30.0, 0.0]]).double(), torch.tensor([3, 1])
    space = LatentSpace(Program(MaskedRates()).bind((x, lengths)))
    family = make_family(kind, 3)
    rows = refined_rows(space, family, (x, lengths), num_steps=200, learning_rate=0.2, num_particles=4)
    with seeded(8), torch.no_grad():
        u = family.distribution(rows.lam).sample((20000,))
    shape = 2.0 + x  # of a Gamma with rate 1.5; the mean of its log is digamma(shape) - log(1.5)
    mean, scale = torch.digamma(shape) - math.log(1.5), torch.polygamma(1, shape).sqrt()
    there = torch.arange(3) < lengths[:, None]
    mean, scale = torch.where(there, mean, 0.0), torch.where(there, scale, 1.0)
    assert ((u.mean(0) - mean).abs() < 0.15 * scale).all()
    assert ((u.std(0) / scale - 1).abs() < 0.15).all()
