"""Test the marginal and conditional distributions of sites whose numbers are partly seen."""

from __future__ import annotations

import itertools
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_vae.program import seeded
from ppl_vae.program.missing import PartlyObserved
from tests.helpers.scenarios import normal

DIM = 3
PATTERNS = torch.tensor(list(itertools.product([False, True], repeat=DIM)))
MANY = 20000


def gaussian(name: str, *batch: int) -> Any:
    loc = normal(*batch, DIM, seed=1)
    if name == "full":
        tril = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.5, 0.9, 1.2]]).double()
        return dist.MultivariateNormal(loc, scale_tril=tril)
    factor = torch.tensor([[1.0, 0.2], [0.5, -0.8], [-0.3, 0.9]]).double()
    return dist.LowRankMultivariateNormal(loc, factor, torch.tensor([0.3, 0.5, 0.2]).double())


ONE_BY_ONE = {
    "normal": (lambda p: dist.Normal(p, 0.5 + p.exp()), normal(DIM, seed=2)),
    "bernoulli": (lambda p: dist.Bernoulli(logits=p), torch.tensor([1.0, 0.0, 1.0]).double()),
    "poisson": (lambda p: dist.Poisson(p.exp()), torch.tensor([4.0, 0.0, 1.0]).double()),
    "categorical": (lambda p: dist.Categorical(logits=p[..., None] * torch.arange(4)), torch.tensor([3.0, 0.0, 2.0])),
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_the_density_of_independent_numbers_counts_the_seen_ones(name: str) -> None:
    make, value = ONE_BY_ONE[name]
    base = make(normal(len(PATTERNS), DIM, seed=3))
    partly = PartlyObserved(base.to_event(1), value, PATTERNS)
    expected = torch.stack([row[seen].sum() for row, seen in zip(base.log_prob(value), PATTERNS, strict=True)])
    torch.testing.assert_close(partly.log_prob(value.expand(len(PATTERNS), DIM)), expected, rtol=1e-12, atol=1e-12)
    with seeded(0):
        draws = partly.sample((500,))
    with seeded(0):
        others = base.to_event(1).sample((500,))
    assert draws.shape == (500, len(PATTERNS), DIM)
    assert torch.equal(draws, torch.where(PATTERNS, value.to(others.dtype), others))


def test_a_single_number_is_an_event_of_no_dimension() -> None:
    seen, value = torch.tensor([True, False]), normal(2)
    partly = PartlyObserved(dist.Normal(normal(4, 2, seed=1), 2.0), value, seen)
    expected = torch.stack([dist.Normal(normal(4, 2, seed=1), 2.0).log_prob(value)[:, 0], torch.zeros(4).double()], 1)
    torch.testing.assert_close(partly.log_prob(value), expected)
    assert torch.equal(partly.mean[:, 0], value[0].expand(4))
    assert torch.equal(partly.mean[:, 1], normal(4, 2, seed=1)[:, 1])


@pytest.mark.parametrize("name", ["full", "low rank"])
@pytest.mark.parametrize("draws", [(), (4,)])
def test_the_density_of_a_gaussian_is_its_marginal_density(name: str, draws: tuple[int, ...]) -> None:
    base = gaussian(name, *draws, len(PATTERNS))
    value = normal(len(PATTERNS), DIM, seed=4)
    got = PartlyObserved(base, value, PATTERNS).log_prob(value)
    assert got.shape == (*draws, len(PATTERNS))
    for row, seen in enumerate(PATTERNS):
        expected = torch.zeros(draws).double()
        if seen.any():
            covariance = base.covariance_matrix[..., row, :, :][..., seen, :][..., seen]
            part = torch.distributions.MultivariateNormal(base.loc[..., row, :][..., seen], covariance)
            expected = part.log_prob(value[row, seen])
        torch.testing.assert_close(got[..., row], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["full", "low rank"])
def test_draws_of_a_gaussian_are_conditional(name: str) -> None:
    base, value = gaussian(name, len(PATTERNS)), normal(len(PATTERNS), DIM, seed=4)
    partly = PartlyObserved(base, value, PATTERNS)
    with seeded(0):
        draws = partly.sample((MANY,))
    mean = partly.mean
    for row, seen in enumerate(PATTERNS):
        covariance, loc = base.covariance_matrix[row], base.loc[row]
        assert torch.equal(draws[:, row, seen], value[row, seen].expand(MANY, -1))
        assert torch.equal(mean[row, seen], value[row, seen])
        if seen.all():
            continue
        gain = torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, ~seen]).T
        center = loc[~seen] + gain @ (value[row, seen] - loc[seen])
        spread = covariance[~seen][:, ~seen] - gain @ covariance[seen][:, ~seen]
        torch.testing.assert_close(mean[row, ~seen], center, rtol=1e-12, atol=1e-12)
        off = draws[:, row, ~seen] - center
        variance = spread.diag()
        # 4.5 standard errors of means, and of second moments of Gaussians
        assert (off.mean(0).abs() < 4.5 * (variance / MANY).sqrt()).all()
        error = ((variance[:, None] * variance + spread**2) / MANY).sqrt()
        assert ((off.T @ off / MANY - spread).abs() < 4.5 * error).all()


def test_expanding_does_not_change_the_density() -> None:
    value = normal(len(PATTERNS), DIM, seed=4)
    for base in (gaussian("full", len(PATTERNS)), dist.Normal(value - 1, 2.0).to_event(1)):
        partly = PartlyObserved(base, value, PATTERNS)
        more = partly.expand((5, len(PATTERNS)))
        assert more.batch_shape == (5, len(PATTERNS))
        assert more.event_shape == (DIM,)
        torch.testing.assert_close(more.log_prob(value), partly.log_prob(value).expand(5, -1))
        torch.testing.assert_close(more.mean, partly.mean.expand(5, -1, -1))
        assert more.sample().shape == (5, len(PATTERNS), DIM)


def whole_only(x: Tensor) -> dict[str, Any]:
    """Return distributions whose numbers depend on each other, with values of each."""
    concentration = torch.tensor([2.0, 1.0, 3.0]).double()
    components = dist.Normal(normal(2, DIM, seed=1), 1.0).to_event(1)
    return {
        "mixture": (dist.MixtureSameFamily(dist.Categorical(torch.ones(2).double()), components), x),
        "dirichlet": (dist.Dirichlet(concentration), x.softmax(-1)),
        "multinomial": (
            dist.Multinomial(6, concentration / 6, validate_args=False),
            torch.tensor([1.0, 2.0, 3.0]).double().expand(x.shape),
        ),
    }


@pytest.mark.parametrize("name", ["mixture", "dirichlet", "multinomial"])
def test_other_events_are_seen_whole_or_not_at_all(name: str) -> None:
    base, value = whole_only(normal(2, DIM))[name]
    partly = PartlyObserved(base.expand((2,)), value, torch.tensor([[True] * DIM, [False] * DIM]))
    assert torch.equal(partly.log_prob(value), torch.stack([base.log_prob(value)[0], torch.zeros(()).double()]))
    with seeded(0):
        draws = partly.sample((50,))
    assert torch.equal(draws[:, 0], value[0].expand(50, -1))
    assert (draws[:, 1] != value[1]).any(-1).double().mean() > 0.5
