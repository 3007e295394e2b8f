"""Steps in lambda until it settles: against closed forms, every datum on its own, and what has not settled is named."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from ppl_vae.inference.families import Diagonal, FamilyName, make_family
from ppl_vae.inference.local import LocalSteps, LogJoint, Rows
from ppl_vae.inference.settling import BLOCK, FEWEST, LARGEST_ERROR, MOST_STEPS, Settling, settle
from ppl_vae.program import Batch, seeded
from tests.helpers.scenarios import normal

MEANS = torch.tensor([0.0, 3.0, -20.0, 0.5, 1.0, 2.0]).double()
SCALES = torch.tensor([1.0, 0.5, 0.1, 0.02, 3.0, 1.0]).double()
SHAPE = torch.tensor([[1.0, 0.6], [0.6, 1.0]]).double()
"""The correlation of the two numbers of each datum."""


def posterior(rows: Tensor) -> MultivariateNormal:
    means = MEANS[rows, None].expand(-1, 2)
    return MultivariateNormal(means, SCALES[rows, None, None] ** 2 * SHAPE)


def log_joint(u: Tensor, data: Batch) -> Tensor:
    return posterior(data[0]).log_prob(u)


def settled(
    rows: Tensor, kind: FamilyName = "full", density: LogJoint = log_joint, seed: int = 1, limit: int = MOST_STEPS
) -> tuple[Tensor, Settling]:
    family = make_family(kind, 2)
    start = Rows.at(family.start(torch.zeros(len(rows), 2).double(), torch.ones(len(rows), 2).double()))
    with seeded(seed):
        end, settling = settle(density, family, start, (rows,), LocalSteps(limit, 0.3))
    return end.lam, settling


@pytest.mark.parametrize("kind", ["full", pytest.param("diagonal", marks=pytest.mark.slow)])
def test_posteriors_of_all_sizes_settle_near_the_best_of_their_kind(kind: FamilyName) -> None:
    """From the prior N(0, 1), to means up to 200 standard deviations away, and scales from 0.02 to 3."""
    rows = torch.arange(len(MEANS))
    lam, settling = settled(rows, kind)
    exact, q = posterior(rows), make_family(kind, 2).distribution(lam)
    covariance = q.covariance_matrix if kind == "full" else torch.diag_embed(q.variance)
    best = 0.0 if kind == "full" else -0.5 * math.log(1 - 0.6**2)
    assert settling.settled.all()
    assert (kl_divergence(MultivariateNormal(q.mean, covariance), exact) < best + 0.02).all()
    assert (settling.error <= LARGEST_ERROR).all()
    assert (settling.steps >= 2 * FEWEST * BLOCK).all()
    assert (settling.steps % BLOCK == 0).all()


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let windows have a fifth of their length, for tests that ask for no accuracy."""
    monkeypatch.setattr("ppl_vae.inference.settling.BLOCK", 5)


@pytest.mark.usefixtures("short_blocks")
def test_the_result_for_a_datum_depends_on_no_other() -> None:
    rows = torch.tensor([0, 1, 4, 5])
    together, how = settled(rows)
    assert how.steps.unique().numel() > 1
    lam, its_own = settled(rows[[1]])
    torch.testing.assert_close(lam[0], together[1], rtol=1e-7, atol=1e-7)
    assert its_own.steps[0] == how.steps[1]
    torch.testing.assert_close(its_own.ess[0], how.ess[1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_error_is_that_of_other_draws() -> None:
    """Of a posterior that is no Gaussian, whose gradient has noise at the optimum."""

    def logistic(u: Tensor, data: Batch) -> Tensor:
        return (2 * u - 4 * torch.nn.functional.softplus(u) - 0.5 * u.square()).sum(-1)

    found = [settled(torch.tensor([0]), "diagonal", logistic, seed) for seed in range(24)]
    locations = torch.stack([lam[0, :2] / lam[0, 2:].exp() for lam, _ in found])
    errors = torch.stack([how.error[0] for _, how in found])
    assert all(how.settled.all() for _, how in found)
    spread = locations.std(0).mean()  # of 24 by 2, known to a seventh; the error is the largest of two
    assert 0.5 < errors.square().mean().sqrt() / spread < 2.5


@pytest.mark.usefixtures("short_blocks")
def test_data_that_have_not_settled_at_the_limit_are_marked() -> None:
    _, few = settled(torch.arange(6), limit=50)
    assert not few.settled.any()
    assert (few.steps == 50).all()

    def drifting(u: Tensor, data: Batch) -> Tensor:  # the third datum has no posterior: it runs off for ever
        return torch.where(data[0] == 2, 0.1 * u.sum(-1), log_joint(u, data))

    _, how = settled(torch.tensor([0, 2]), density=drifting, limit=500)
    assert how.settled.tolist() == [True, False]
    assert how.steps[1] == 500


@pytest.mark.usefixtures("short_blocks")
def test_a_gradient_that_is_not_finite_settles_nothing() -> None:
    def broken(u: Tensor, data: Batch) -> Tensor:
        return log_joint(u, data) + torch.where(data[0] == 1, math.nan, 0.0) * u[..., 0]

    lam, how = settled(torch.tensor([0, 1]), density=broken, limit=300)
    assert how.settled.tolist() == [True, False]
    assert how.steps[1] == 0
    assert (lam[1] == 0).all()


@pytest.mark.usefixtures("short_blocks")
def test_the_score_function_settles_too() -> None:
    def wide(u: Tensor, data: Batch) -> Tensor:
        return Normal(2.0, 1.5).log_prob(u).sum(-1)

    family, steps = Diagonal(1), LocalSteps(MOST_STEPS, 0.1, 16, "score-function")
    with seeded(3):
        end, how = settle(wide, family, Rows.at(torch.zeros(2, 2).double()), (normal(2),), steps)
    assert how.settled.all()
    torch.testing.assert_close(end.lam[0], torch.tensor([2.0, math.log(1.5)]).double(), atol=0.15, rtol=0)
