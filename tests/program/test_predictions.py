"""Test moments of latents, weighted draws and predictions against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.program import LatentSpace, Program, draw_prior, posterior_moments, predict, seeded, with_lambda
from tests.helpers import scenarios
from tests.helpers.gallery import GALLERY
from tests.helpers.scenarios import make_double, normal

MANY = 20000


# ---------------------------------------------------------------------------------------------- moments


def test_moments_of_one_gaussian_are_exact() -> None:
    module, x = make_double(scenarios.Conjugate), normal(6)
    actual = posterior_moments(Program(module).bind((x,)), (x,))
    loc, log_scale = module.encoder(x[:, None]).detach().unbind(-1)
    torch.testing.assert_close(actual.mean["z"], loc, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(actual.sd["z"], log_scale.exp(), rtol=1e-12, atol=1e-12)


class Guided(nn.Module):
    """Latents of a guide that is given as a function of x, with a model to match."""

    def __init__(self, **latents: Any) -> None:
        super().__init__()
        self.latents = latents

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            for name in self.latents:
                pyro.sample(name, dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        before = x
        with pyro.plate("data", len(x)):
            for name, make in self.latents.items():
                before = pyro.sample(name, make(before))


@pytest.mark.parametrize("rows", [5, 1])
def test_moments_of_a_lognormal_and_a_bernoulli_are_exact(rows: int) -> None:
    x = normal(rows)
    actual = posterior_moments(Program(Guided(s=lambda x: dist.LogNormal(x, 0.5))).bind((x,)), (x,))
    torch.testing.assert_close(actual.mean["s"], (x + 0.125).exp())
    torch.testing.assert_close(actual.sd["s"], (x + 0.125).exp() * math.sqrt(math.expm1(0.25)))
    actual = posterior_moments(Program(Guided(s=lambda x: dist.Bernoulli(logits=x))).bind((x,)), (x,))
    torch.testing.assert_close(actual.mean["s"], x.sigmoid())
    torch.testing.assert_close(actual.sd["s"], (x.sigmoid() * (1 - x.sigmoid())).sqrt())


def test_moments_of_two_sites_follow_the_law_of_total_variance() -> None:
    """b given a is N(a^2, 0.5) with a from N(x, 0.75): Var b = 0.25 + Var a^2."""
    x = normal(6)
    program = Program(Guided(a=lambda x: dist.Normal(x, 0.75), b=lambda a: dist.Normal(a.square(), 0.5))).bind((x,))
    with seeded(2):
        actual = posterior_moments(program, (x,), MANY)
    squared = 2 * 0.75**4 + 4 * x.square() * 0.75**2  # the variance of a^2
    assert ((actual.mean["a"] - x).abs() < 4.5 * 0.75 / MANY**0.5).all()
    assert ((actual.mean["b"] - x.square() - 0.75**2).abs() < 4.5 * (squared / MANY).sqrt()).all()
    torch.testing.assert_close(actual.sd["a"], torch.full((6,), 0.75).double(), rtol=1e-12, atol=1e-12)
    # the variance of a sample variance by the fourth central moment of a^2, which is at most 15 times its squared one
    assert ((actual.sd["b"].square() - 0.25 - squared).abs() < 4.5 * squared * (14 / MANY) ** 0.5).all()


def test_known_moments_are_not_estimated_from_draws() -> None:
    """Only the conditional mean of a latent given another varies between draws, so that a small sample suffices."""
    x = normal(6)
    program = Program(Guided(a=lambda x: dist.Normal(x, 0.01), b=lambda a: dist.Normal(a, 5.0))).bind((x,))
    with seeded(2):
        actual = posterior_moments(program, (x,), 4)
    assert ((actual.mean["b"] - x).abs() < 4.5 * 0.01 / 2).all()
    assert ((actual.sd["b"] - 5).abs() < 1e-4).all()
    with seeded(2):
        once = posterior_moments(program, (x,), 1)
    torch.testing.assert_close(once.sd["b"], torch.full((6,), 5.0).double())


@pytest.mark.parametrize("rows", [5, 1])
def test_unknown_moments_are_estimated_from_draws(rows: int) -> None:
    """The logistic transform of a Gaussian, whose mean and variance are integrals over one number."""
    logistic = torch.distributions.SigmoidTransform()
    x = normal(rows)
    program = Program(Guided(s=lambda x: dist.TransformedDistribution(dist.Normal(x, 1.0), [logistic]))).bind((x,))
    with seeded(2):
        actual = posterior_moments(program, (x,), MANY)
    grid = torch.linspace(-9, 9, 20001).double()
    weights = dist.Normal(0.0, 1.0).log_prob(grid).softmax(0)
    values = (x[:, None] + grid).sigmoid()
    mean = values @ weights
    off = values - mean[:, None]
    variance = off.square() @ weights
    assert ((actual.mean["s"] - mean).abs() < 4.5 * (variance / MANY).sqrt()).all()
    error = ((off**4 @ weights - variance**2) / MANY).sqrt()
    assert ((actual.sd["s"].square() - variance).abs() < 4.5 * error).all()


def test_a_guide_of_all_latents_together_has_the_moments_of_its_gaussian() -> None:
    x = normal(3, 5)
    space = LatentSpace(Program(make_double(scenarios.PPCA)).bind((x,), guided=False))
    tril = torch.tensor([[0.8, 0.0], [-0.9, 0.3]]).double()
    loc = normal(3, 2, seed=3)
    program = with_lambda(space, lambda lam: torch.distributions.MultivariateNormal(lam, scale_tril=tril), loc)
    with seeded(2):
        actual = posterior_moments(program, (x, loc), MANY)
    assert set(actual.mean) == {"z"}
    torch.testing.assert_close(actual.mean["z"], loc, rtol=1e-12, atol=1e-12)
    variance = (tril @ tril.T).diag()
    assert ((actual.sd["z"].square() - variance).abs() < 4.5 * variance * (2 / MANY) ** 0.5).all()


@pytest.mark.parametrize("name", ["inner_plate", "sequences"])
def test_moments_have_the_shape_of_draws(name: str) -> None:
    make, batch = {
        "inner_plate": (scenarios.InnerPlate, (normal(6, 4),)),
        "sequences": (scenarios.Sequences, (normal(6, 5), torch.tensor([5, 1, 2, 5, 3, 4]))),
    }[name]
    module = make_double(make)
    program = Program(module).bind(batch)
    actual, draws = posterior_moments(program, batch), program.posterior(batch, 2).latents
    for field in actual:
        assert {site: value.shape for site, value in field.items()} == {k: v.shape[1:] for k, v in draws.items()}
    expected = module.encoder(batch[0]).detach()
    got = actual.mean["z"] if name == "inner_plate" else torch.stack([actual.mean[f"z_{t}"] for t in range(5)], 1)
    torch.testing.assert_close(got, expected)
    sd = {"level": 0.5, "z": 0.5} if name == "inner_plate" else {f"z_{t}": 0.8 for t in range(5)}
    for site, value in sd.items():
        torch.testing.assert_close(actual.sd[site], torch.full_like(actual.sd[site], value))


# ---------------------------------------------------------------------------------------------- weighted draws


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("name", GALLERY)
def test_weighted_draws_equal_draws_and_their_weights(name: str, num_samples: int) -> None:
    batch = GALLERY[name].batch
    program = Program(make_double(GALLERY[name].make)).bind(batch)
    with seeded(2):
        weights, draws = program.weighted_posterior(batch, num_samples)
    with seeded(2):
        zeros, same = program.weighted_posterior(batch, num_samples, weighted=False)
    with seeded(2), torch.no_grad():
        expected = program.weighted_draws(batch, num_samples).log_weight
    assert weights.shape == zeros.shape == (num_samples, 21)
    assert not zeros.any()
    torch.testing.assert_close(weights, expected.expand(num_samples, 21), rtol=1e-12, atol=1e-12)
    assert draws.latents.keys() == same.latents.keys() == set(program.structure.latents)
    summed = program.structure.summed
    for site, value in draws.latents.items():
        assert value.shape == same.latents[site].shape
        if site not in summed:
            assert torch.equal(value, same.latents[site])


def test_weighted_draws_have_the_moments_of_the_exact_posterior() -> None:
    """A conjugate Gaussian has mean 2 x / 3 and variance 1 / 3, whatever the guide is."""
    x = normal(6)
    with seeded(3):
        weights, draws = Program(make_double(scenarios.Conjugate)).bind((x,)).weighted_posterior((x,), MANY)
    shares, z = weights.softmax(0), draws.latents["z"]
    mean = (shares * z).sum(0)
    for value, exact in ((z, 2 * x / 3), (z.square(), 1 / 3 + (2 * x / 3) ** 2)):
        estimate = (shares * value).sum(0)
        error = (shares.square() * (value - estimate).square()).sum(0).sqrt()
        assert ((estimate - exact).abs() < 4.5 * error).all()
    assert ((z.mean(0) - mean).abs() > 0.05).any()  # the guide's own mean is another


# ---------------------------------------------------------------------------------------------- predictions

LAYOUTS = {
    "plate": (scenarios.PPCA, (normal(4, 5),), "z", 2),
    "repeat": (scenarios.SoftmaxDecoder, (normal(4, 3),), "z", 2),
    "images": (scenarios.Images, (normal(4, 1, 4, 4),), "z", 2),
}


@pytest.mark.parametrize("rows", [4, 1])
@pytest.mark.parametrize("num_samples", [1, 3, 4])
@pytest.mark.parametrize("name", LAYOUTS)
def test_given_latents_are_decoded_unchanged(name: str, num_samples: int, rows: int) -> None:
    make, batch, site, size = LAYOUTS[name]
    module = make_double(make)
    program = Program(module).bind(batch)
    z = normal(num_samples, rows, size, seed=7)
    actual = predict(program, tuple(t[:rows] for t in batch), {site: z})
    assert torch.equal(actual.latents[site], z)
    with torch.no_grad():
        means = [each @ module.loading.T if name == "plate" else module.decoder(each) for each in z]
    torch.testing.assert_close(actual.means["x"], torch.stack(means), rtol=1e-12, atol=1e-12)
    assert actual.observed["x"].shape == actual.means["x"].shape == (num_samples, rows, *batch[0].shape[1:])


@pytest.mark.parametrize("num_samples", [1, 3])
def test_latents_inside_and_outside_an_inner_plate_keep_their_places(num_samples: int) -> None:
    x = normal(6, 4)
    program = Program(make_double(scenarios.InnerPlate)).bind((x,))
    level, z = normal(num_samples, 6, seed=7), normal(num_samples, 6, 4, seed=8)
    actual = predict(program, (x,), {"z": z, "level": level})
    assert torch.equal(actual.latents["level"], level)
    assert torch.equal(actual.latents["z"], z)
    assert torch.equal(actual.means["x"], z)


def test_other_latents_are_drawn_from_the_prior_given_the_given_ones() -> None:
    x = normal(2, 4)
    program = Program(make_double(scenarios.InnerPlate)).bind((x,))
    level = torch.tensor([-3.0, 2.0]).double()
    with seeded(2):
        actual = predict(program, (x,), {"level": level.expand(MANY, 2)})
        prior = predict(program, (x,), {})
    off = actual.latents["z"] - level[:, None]
    assert (off.mean(0).abs() < 4.5 * 0.5 / MANY**0.5).all()
    assert ((off.square().mean(0) - 0.25).abs() < 4.5 * 0.25 * (2 / MANY) ** 0.5).all()
    noise = actual.observed["x"] - actual.latents["z"]
    assert ((noise.square().mean(0) - 0.25).abs() < 4.5 * 0.25 * (2 / MANY) ** 0.5).all()
    assert {name: value.shape for name, value in prior.latents.items()} == {"level": (1, 2), "z": (1, 2, 4)}


def test_a_discrete_latent_can_be_given() -> None:
    module, x = make_double(scenarios.Mixture), normal(3, 2)
    c = torch.tensor([[0, 1, 2], [2, 2, 0]])
    actual = predict(Program(module).bind((x,)), (x,), {"c": c})
    assert torch.equal(actual.latents["c"], c)
    torch.testing.assert_close(actual.means["x"], module.means[c].detach())


def test_latents_alone_are_drawn_and_located_without_a_run_of_the_decoder() -> None:
    x = (normal(5, 6) > 0).float()
    with seeded(0):
        module = GALLERY["vae"].make()
    program, calls = Program(module).bind((x,)), []
    space = LatentSpace(program)
    module.decoder.register_forward_hook(lambda *_: calls.append(1))
    z = draw_prior(program, (x,), 3)
    assert (space.flat((x,), z) == z["z"]).all()
    assert not calls
    program.prior((x,), 3)
    assert calls
