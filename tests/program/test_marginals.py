"""Test posteriors of summed-out latents against Bayes' rule and the forward-backward algorithm."""

from __future__ import annotations

import itertools
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.program import Batch, Program, marginals, seeded, with_missing
from tests.helpers import scenarios
from tests.helpers.gallery import GALLERY
from tests.helpers.scenarios import make_double, normal


@pytest.mark.parametrize("rows", [20, 1])
def test_marginals_of_a_mixture_are_the_responsibilities(rows: int) -> None:
    module, x = make_double(scenarios.Mixture), normal(rows, 2)
    actual = marginals(Program(module).bind((x,)), (x,))
    terms = dist.Normal(module.means, module.scales[:, None]).to_event(1).log_prob(x[:, None]) + module.weights.log()
    assert list(actual) == ["c"]
    torch.testing.assert_close(actual["c"], terms.softmax(-1).detach(), rtol=1e-10, atol=1e-10)
    assert not actual["c"].requires_grad
    assert module.means.grad is None


def forward_backward(module: Any, x: Tensor, length: int) -> Tensor:
    """Return the smoothed states of one sequence, ``(T, V)``; the chain continues past the end without observations."""
    first, step = module.first / module.first.sum(), module.step / module.step.sum(-1, keepdim=True)
    heard = dist.Normal(module.means, 0.7).log_prob(x[:, None]).exp()
    heard = torch.where((torch.arange(len(x)) < length)[:, None], heard, torch.ones(()).double())
    alpha, beta = [first * heard[0]], [torch.ones(3).double()]
    for t in range(1, len(x)):
        alpha.append(alpha[-1] @ step * heard[t])
        beta.insert(0, step @ (heard[-t] * beta[0]))
    joint = torch.stack(alpha) * torch.stack(beta)
    return (joint / joint.sum(-1, keepdim=True)).detach()


def test_the_forward_backward_algorithm_of_the_test_sums_over_paths() -> None:
    module, x = make_double(scenarios.HMM), normal(4)
    first, step = module.first / module.first.sum(), module.step / module.step.sum(-1, keepdim=True)
    total = torch.zeros(4, 3).double()
    for path in itertools.product(range(3), repeat=4):
        weight = first[path[0]] * dist.Normal(module.means[list(path)], 0.7).log_prob(x)[:3].sum().exp()
        for before, after in itertools.pairwise(path):
            weight = weight * step[before, after]
        total[torch.arange(4), torch.tensor(path)] += weight.detach()
    torch.testing.assert_close(forward_backward(module, x, 3), total / total.sum(-1, keepdim=True))


@pytest.mark.parametrize("rows", [7, 1])
def test_marginals_of_a_hidden_markov_model_equal_the_forward_backward_algorithm(rows: int) -> None:
    module, x = make_double(scenarios.HMM), normal(7, 6)[-rows:]
    lengths = torch.tensor([6, 3, 1, 5, 2, 6, 4])[-rows:]
    actual = marginals(Program(module).bind((x, lengths)), (x, lengths))
    assert list(actual) == [f"state_{t}" for t in range(6)]
    expected = torch.stack([forward_backward(module, *row) for row in zip(x, lengths.tolist(), strict=True)])
    torch.testing.assert_close(torch.stack(list(actual.values()), 1), expected, rtol=1e-10, atol=1e-10)


def test_marginals_of_steps_that_were_not_seen() -> None:
    """The state of a missing step within a sequence is known from its neighbours only."""
    module, x, lengths = make_double(scenarios.HMM), normal(3, 6), torch.tensor([6, 6, 6])
    seen = torch.ones(3, 6, dtype=torch.bool)
    seen[:, 2] = False
    half = with_missing(Program(module).bind((x, lengths)))
    actual = marginals(half, (x, lengths, seen))["state_2"]
    first, step = module.first / module.first.sum(), module.step / module.step.sum(-1, keepdim=True)
    heard = dist.Normal(module.means, 0.7).log_prob(x[..., None]).exp()
    before = torch.einsum("i,bi,ij,bj,jk->bk", first, heard[:, 0], step, heard[:, 1], step)
    after = torch.einsum("ki,bi,ij,bj,jl,bl->bk", step, heard[:, 3], step, heard[:, 4], step, heard[:, 5])
    expected = before * after / (before * after).sum(-1, keepdim=True)
    torch.testing.assert_close(actual, expected.detach(), rtol=1e-10, atol=1e-10)


class Values(nn.Module):
    """A value of four classes, one hot or Bernoulli, for each of three numbers of a datum, and their own level."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            high = pyro.sample("high", dist.Bernoulli(x.new_tensor(0.3)))
            with pyro.plate("values", 3, dim=-1):
                c = pyro.sample("c", dist.OneHotCategorical(x.new_tensor([0.1, 0.2, 0.3, 0.4])))
                mean = (c * torch.arange(4)).sum(-1) + 2 * high
                pyro.sample("x", dist.Normal(mean, 0.75), obs=x)


def test_each_number_in_a_plate_has_its_own_marginal() -> None:
    x = 2 * normal(5, 3)
    actual = marginals(Program(Values()).bind((x,)), (x,))
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.double)
    classes = torch.arange(4).double()
    # (high, data, values, class)
    joint = torch.stack([dist.Normal(classes + 2 * h, 0.75).log_prob(x[..., None]).exp() * prior for h in (0, 1)])
    each = joint.sum(-1)
    of_high = torch.stack([0.7 * each[0].prod(-1), 0.3 * each[1].prod(-1)], -1)
    of_high = of_high / of_high.sum(-1, keepdim=True)
    torch.testing.assert_close(actual["high"], of_high, rtol=1e-10, atol=1e-10)
    given = joint / each[..., None]
    expected = (given * of_high.T[..., None, None]).sum(0)
    torch.testing.assert_close(actual["c"], expected, rtol=1e-10, atol=1e-10)


def test_marginals_beside_continuous_latents_are_averages_over_draws() -> None:
    module, x = make_double(scenarios.SummedSwitch), normal(6)
    program = Program(module).bind((x,))
    with seeded(3):
        actual = marginals(program, (x,), 5)["c"]
    with seeded(3), torch.no_grad():  # the same draws
        z = program.posterior((x,), 5).latents["z"]
    terms = dist.Normal(module.means, 1.0).log_prob(z[..., None]) + torch.tensor([0.6, 0.4], dtype=torch.double).log()
    torch.testing.assert_close(actual, terms.softmax(-1).mean(0).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "shake"), [("gmvae", 0.3), ("mixture_prior_vae", 0.3), ("semi_supervised_vae", 0.0)])
def test_marginals_agree_with_the_frequencies_of_draws(name: str, shake: float) -> None:
    module, batch, many = make_double(GALLERY[name].make), tuple(t[:8] for t in GALLERY[name].batch), 4000
    program = Program(module).bind(batch)
    with torch.no_grad(), seeded(2):
        for parameter in module.parameters():  # classes that differ
            parameter.add_(shake * torch.randn_like(parameter))
    found_in = program.structure.summed
    with seeded(4):
        actual = marginals(program, batch, many)
    with seeded(5):
        latents = program.posterior(batch, many).latents
    assert tuple(actual) == found_in
    for site, share in actual.items():
        seen = torch.nn.functional.one_hot(latents[site].long(), share.shape[-1]).double().mean(0)
        torch.testing.assert_close(share.sum(-1), torch.ones(8).double())
        assert share.std(0).max() > 0.03
        # both are averages over their own draws, of variance p (1 - p) / many at most
        error = (2 * share * (1 - share) / many).clamp(min=0).sqrt() + 1 / many
        assert ((seen - share).abs() < 4.5 * error).all()


def test_a_known_label_is_certain() -> None:
    case = GALLERY["semi_supervised_vae"]
    batch = case.batch
    program = Program(make_double(case.make)).bind(batch)
    share = marginals(program, batch, 10)["c"]
    known = batch[1] >= 0
    torch.testing.assert_close(share[known], nn.functional.one_hot(batch[1][known], 4).double())
    assert (share[~known].amax(-1) < 0.999).all()


def test_a_known_label_of_a_distant_class_is_certain() -> None:
    """A difference of a thousand nats does not give a weight of minus infinity."""

    def model(x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Bernoulli(x.new_tensor(0.5)))
            pyro.sample("y", dist.Delta(c), obs=y)
            pyro.sample("x", dist.Normal(80 * c, 1.0), obs=x)

    x, y = torch.tensor([0.0, 0.0, 60.0]).double(), torch.tensor([0.0, 1.0, 0.0]).double()
    program = Program(model).bind((x, y))
    expected = dist.Normal(80 * y, 1.0).log_prob(x) - torch.tensor(2.0).double().log()
    torch.testing.assert_close(program.log_evidence((x, y)), expected)
    torch.testing.assert_close(marginals(program, (x, y))["c"], torch.stack([1 - y, y], -1))


@pytest.mark.parametrize("name", ["conjugate", "switch"])
def test_latents_that_the_guide_samples_have_no_marginals(name: str) -> None:
    cases: dict[str, tuple[Any, Batch]] = {
        "conjugate": (scenarios.Conjugate, (normal(4),)),
        "switch": (scenarios.Switch, (normal(4),)),
    }
    make, batch = cases[name]
    assert marginals(Program(make_double(make)).bind(batch), batch) == {}
