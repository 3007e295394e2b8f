"""Test programs of partly seen data against explicit marginal and conditional densities."""

from __future__ import annotations

import itertools
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.program import Batch, Program, seeded, with_missing
from tests.helpers import scenarios
from tests.helpers.gallery import GALLERY
from tests.helpers.scenarios import holes, make_double, normal

MANY = 20000


# ---------------------------------------------------------------------------------------------- exact densities


def test_weights_under_the_exact_posterior_are_the_evidence_of_the_seen_numbers() -> None:
    """p(x_seen, z) / p(z | x_seen) is p(x_seen) for every draw, the density of a Gaussian without the missing rows."""
    module, x = make_double(scenarios.PPCA), normal(8, 5)
    seen, loading = holes(8, 5), module.loading.detach()

    def posterior(x: Tensor, seen: Tensor) -> None:
        weight = seen.double() / module.noise**2
        precision = torch.eye(2).double() + torch.einsum("bd,di,dj->bij", weight, loading, loading)
        loc = torch.linalg.solve(precision, torch.einsum("bd,bd,di->bi", weight, x, loading))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(loc, precision_matrix=precision))

    half = with_missing(Program(module).bind((x,)))
    half = half.derive(guide=posterior)
    covariance = loading @ loading.T + module.noise**2 * torch.eye(5).double()
    expected = torch.stack(
        [marginal_log_prob(torch.zeros(5).double(), covariance, *row) for row in zip(x, seen, strict=True)]
    )
    with torch.no_grad():
        weights = half.log_weights((x, seen), 4)
    torch.testing.assert_close(weights, expected.expand(4, -1), rtol=1e-10, atol=1e-10)


def marginal_log_prob(loc: Tensor, covariance: Tensor, x: Tensor, seen: Tensor) -> Tensor:
    if not seen.any():
        return torch.zeros(()).double()
    part = torch.distributions.MultivariateNormal(loc[seen], covariance[seen][:, seen])
    return part.log_prob(x[seen])


def test_evidence_without_a_closed_form_is_estimated() -> None:
    """Of sets whose values share a level: importance sampling of a Gaussian's evidence, a part of each set unseen."""
    module, x, seen = make_double(scenarios.InnerPlate), normal(5, 4), holes(5, 4)
    covariance = torch.ones(4, 4).double() + 0.5 * torch.eye(4).double()
    expected = torch.stack(
        [marginal_log_prob(torch.zeros(4).double(), covariance, *row) for row in zip(x, seen, strict=True)]
    )

    def guide(x: Tensor, seen: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            level = pyro.sample("level", dist.Normal((x * seen).mean(-1, keepdim=True), 1.1))
            with pyro.plate("values", 4, dim=-1):
                pyro.sample("z", dist.Normal(torch.where(seen, (x + level) / 2, level), 0.6))

    half = with_missing(Program(module).bind((x,)))
    half = half.derive(guide=guide)
    with torch.no_grad(), seeded(2):
        weights = half.log_weights((x, seen), 20000)
    error = weights.logsumexp(0) - torch.tensor(20000.0).log() - expected
    scaled = (weights - weights.amax(0)).exp()
    mcse = scaled.var(0).sqrt() / scaled.mean(0) / 20000**0.5
    assert (mcse < 0.05).all()
    assert (error.abs() < 4 * mcse).all()


def test_the_evidence_of_a_mixture_equals_an_explicit_sum() -> None:
    module = make_double(lambda: GALLERY["mixture"].make())
    x, seen = normal(9, 6), holes(9, 6)
    with torch.no_grad(), seeded(3):  # full covariances
        module.raw_tril.add_(torch.randn_like(module.raw_tril) * 0.5)
        module.logits.add_(torch.tensor([0.5, -0.2, 0.0]))
        half = with_missing(Program(module).bind((x,)))
        got = half.log_evidence((x, seen))
    terms = []
    for k, log_share in enumerate(module.logits.detach().log_softmax(0)):
        raw = module.raw_tril[k].detach()
        tril = raw.tril(-1) + (nn.functional.softplus(raw.diag()) + module.min_scale).diag()
        parts = [marginal_log_prob(module.loc[k].detach(), tril @ tril.T, *row) for row in zip(x, seen, strict=True)]
        terms.append(torch.stack(parts) + log_share)
    torch.testing.assert_close(got, torch.stack(terms).logsumexp(0), rtol=1e-10, atol=1e-10)


def test_the_evidence_of_a_hidden_markov_model_equals_an_explicit_sum() -> None:
    """A step that is not seen, or past the end of a sequence, gives no evidence."""
    module, x = make_double(scenarios.HMM), normal(6, 4)
    lengths, seen = torch.tensor([4, 1, 2, 3, 4, 2]), holes(6, 4)
    half = with_missing(Program(module).bind((x, lengths)))
    with torch.no_grad():
        got = half.log_evidence((x, lengths, seen))
    first, step = module.first / module.first.sum(), module.step / module.step.sum(-1, keepdim=True)
    for row in range(6):
        paths = []
        for states in itertools.product(range(3), repeat=int(lengths[row])):
            total = first[states[0]].log()
            for before, after in itertools.pairwise(states):
                total = total + step[before, after].log()
            for t, state in enumerate(states):
                if seen[row, t]:
                    total = total + dist.Normal(module.means[state], 0.7).log_prob(x[row, t])
            paths.append(total.detach())
        torch.testing.assert_close(got[row], torch.stack(paths).logsumexp(0), rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("name", GALLERY)
def test_complete_data_have_the_numbers_of_the_original_program(name: str) -> None:
    batch = GALLERY[name].batch
    program = Program(make_double(GALLERY[name].make)).bind(batch)
    seen = tuple(torch.ones_like(each, dtype=torch.bool) for each in batch if each.is_floating_point())
    whole = with_missing(program)
    with torch.no_grad(), seeded(2):
        expected = program.log_weights(batch, 3)
    with torch.no_grad(), seeded(2):
        got = whole.log_weights((*batch, *seen), 3)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    with seeded(2):
        draws = whole.weighted_posterior((*batch, *seen), 3, completed=True)[1]
    assert whole.parts is not None
    assert whole.parts.index
    for site in whole.parts.index:
        value = draws.observed[site]
        assert torch.equal(value, draws.data[site].to(value.dtype).expand(value.shape))


# Every way to lay data out: by repetition, in an inner plate, with masks, data that are single numbers.
SHAPES = {
    "softmax": (scenarios.SoftmaxDecoder, (normal(6, 3),), (holes(6, 3),)),
    "images": (scenarios.Images, (normal(6, 1, 4, 4),), (holes(6, 1, 4, 4),)),
    "inner_plate": (scenarios.InnerPlate, (normal(6, 4),), (holes(6, 4),)),
    "sequences": (scenarios.Sequences, (normal(6, 5), torch.tensor([5, 1, 2, 5, 3, 4])), (holes(6, 5),)),
    "conjugate": (scenarios.Conjugate, (normal(6),), (holes(6),)),
    "subsampled": (scenarios.Subsampled, (normal(6),), (holes(6),)),
}


def seen_log_likelihood(name: str, module: Any, batch: Batch, seen: Batch, z: dict[str, Tensor]) -> Tensor:
    """Return log p(x_seen | z) of each draw and datum, ``(K, B)``."""
    x = batch[0]
    if name == "sequences":
        total = torch.zeros(())
        for t in range(5):
            heard = (t < batch[1]) & seen[0][:, t]
            total = total + dist.Normal(z[f"z_{t}"], 0.5).log_prob(x[:, t]) * heard
        return total
    if name in ("softmax", "images"):
        means = torch.stack([module.decoder(draw) for draw in z["z"]])
        return (dist.Normal(means, 0.3 if name == "softmax" else 0.5).log_prob(x) * seen[0]).flatten(2).sum(-1)
    terms = dist.Normal(z["z"], 0.5 if name == "inner_plate" else 0.5**0.5).log_prob(x) * seen[0]
    return terms.sum(-1) if name == "inner_plate" else terms


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("rows", [slice(None), slice(1, 2)])
@pytest.mark.parametrize("name", SHAPES)
def test_missing_numbers_have_no_part_in_the_weights(name: str, rows: slice, num_samples: int) -> None:
    make, batch, seen = SHAPES[name]
    module = make_double(make)
    program = Program(module).bind(batch)
    half = with_missing(program)
    batch, seen = tuple(t[rows] for t in batch), tuple(t[rows] for t in seen)
    with torch.no_grad():
        with seeded(2):
            weights, draws = half.weighted_posterior((*batch, *seen), num_samples, completed=True)
        with seeded(2):  # the guide is run first, so these are the same draws
            whole, latents = program.weighted_posterior(batch, num_samples)
        for site, value in latents.latents.items():
            assert torch.equal(value, draws.latents[site])
        everything = tuple(torch.ones_like(each) for each in seen)
        expected = whole - seen_log_likelihood(name, module, batch, everything, draws.latents)
        expected = expected + seen_log_likelihood(name, module, batch, seen, draws.latents)
    torch.testing.assert_close(weights, expected, rtol=1e-10, atol=1e-10)
    by_site = seen[0].T if name == "sequences" else seen
    for value, data, known in zip(draws.observed.values(), draws.data.values(), by_site, strict=True):
        assert value.shape == (num_samples, *data.shape)
        assert torch.equal(~torch.isnan(data), known)
        assert torch.equal((value == data).expand_as(value), known.expand_as(value))


def test_predictions_of_missing_numbers_depend_on_the_seen_ones() -> None:
    """E[x_missing | x_seen] of a mixture is the mean of the conditional means, weighted by the responsibilities."""
    module = make_double(lambda: GALLERY["mixture"].make())
    x, seen = normal(4, 6), holes(4, 6, seed=6)
    with torch.no_grad(), seeded(3):
        module.raw_tril.add_(torch.randn_like(module.raw_tril) * 0.5)
        half = with_missing(Program(module).bind((x,)))
        _, draws = half.weighted_posterior((x, seen), MANY, completed=True)
    for row in range(4):
        known, terms, means = seen[row], [], []
        for k in range(3):
            raw, loc = module.raw_tril[k].detach(), module.loc[k].detach()
            tril = raw.tril(-1) + (nn.functional.softplus(raw.diag()) + module.min_scale).diag()
            covariance = tril @ tril.T
            terms.append(marginal_log_prob(loc, covariance, x[row], known))
            mean = x[row].clone()
            mean[~known] = loc[~known]
            if known.any():
                gain = torch.linalg.solve(covariance[known][:, known], covariance[known][:, ~known]).T
                mean[~known] += gain @ (x[row, known] - loc[known])
            means.append(mean)
        shares = torch.stack(terms).softmax(0)
        each = torch.stack(means)
        expected = shares @ each
        between = shares @ (each - expected) ** 2
        for got, variance in ((draws.means["x"][:, row], between), (draws.observed["x"][:, row], None)):
            error = ((got.var(0) if variance is None else variance) / MANY).sqrt()
            assert ((got.mean(0) - expected).abs() <= 4.5 * error + 1e-9).all()


def test_weights_are_differentiable_whatever_value_a_missing_number_has() -> None:
    """The value in place of a missing number affects neither the weights nor their gradient."""
    module, x, seen = make_double(scenarios.PPCA), normal(8, 5), holes(8, 5)
    half = with_missing(Program(module).bind((x,))).derive(guide=lambda x, seen: scenarios.PPCA.guide(module, x * seen))

    def gradient(x: Tensor) -> Tensor:
        with seeded(2):
            return torch.autograd.grad(half.log_weights((x, seen), 3).sum(), module.loading)[0]

    other = torch.where(seen, x, 100 * normal(8, 5, seed=9))
    assert gradient(x).abs().sum() > 0
    torch.testing.assert_close(gradient(other), gradient(x))


def test_the_original_program_does_not_change() -> None:
    x, seen = normal(6), holes(6)
    program = Program(make_double(scenarios.Conjugate)).bind((x,))
    with seeded(2), torch.no_grad():
        before = program.log_weights((x,), 3)
    half = with_missing(program)
    with torch.no_grad():
        half.log_weights((x, seen), 3)
    assert program.has_log_evidence
    assert not half.has_log_evidence  # the closed form is of whole data
    with seeded(2), torch.no_grad():
        assert torch.equal(program.log_weights((x,), 3), before)
    ours, theirs = half.parameters(), program.parameters()
    assert {name: id(tensor) for name, tensor in ours.items()} == {name: id(tensor) for name, tensor in theirs.items()}
