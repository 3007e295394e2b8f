"""Test that a guide's density is with respect to the measure of the model's, and what has no support at all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import zuko
from pyro.contrib.zuko import ZukoToPyro
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from torch.distributions import transforms

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError, InputWarning
from ppl_vae.program import Program, check, seeded
from tests.helpers.scenarios import normal

LOGITS, HALF = torch.tensor([0.3, -0.2, 0.1], dtype=torch.double), torch.tensor(0.5, dtype=torch.double)
ZERO, ONE = torch.zeros(3, dtype=torch.double), torch.ones(3, dtype=torch.double)
Fn = Callable[[Tensor], Any]


def one(a: Tensor, prior: Fn, posterior: Fn) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return a model whose latent has any distribution, and a guide."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior(x))
            loc = z.to(x.dtype).reshape(*z.shape[: x.dim() - 1], -1).sum(-1) if z.dim() > 1 else z.to(x.dtype)
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x[..., 0])

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", a)
        with pyro.plate("data", len(x)):
            pyro.sample("z", posterior(slope))

    return model, guide


REFUSED: dict[str, tuple[Fn, Fn, str]] = {
    "relaxed": (
        lambda x: dist.OneHotCategorical(logits=LOGITS),
        lambda a: dist.RelaxedOneHotCategorical(HALF, logits=a * LOGITS),
        "leave 'z' out of the guide, so that the program is summed over its values",
    ),
    "straight through": (
        lambda x: dist.OneHotCategorical(logits=LOGITS),
        lambda a: dist.RelaxedOneHotCategoricalStraightThrough(HALF, logits=a * LOGITS),
        "density of the guide's RelaxedOneHotCategoricalStraightThrough is no probability of a value",
    ),
    "straight through of bits": (
        lambda x: dist.Bernoulli(logits=ZERO).to_event(1),
        lambda a: dist.RelaxedBernoulliStraightThrough(HALF, logits=a * ONE).to_event(1),
        "is no probability of a value, which the model's discrete Bernoulli has",
    ),
    "real numbers for counts": (
        lambda x: dist.Poisson(HALF),
        lambda a: dist.LogNormal(a, 1.0),
        "draw it from a discrete distribution",
    ),
    "counts for real numbers": (lambda x: dist.Normal(HALF, 1.0), lambda a: dist.Poisson(a.exp()), "another measure"),
    "a simplex for real numbers": (
        lambda x: dist.Normal(ZERO, 1.0).to_event(1),
        lambda a: dist.Dirichlet(a.exp() * ONE),
        "the guide's Dirichlet is with respect to another measure than that of the model's Normal",
    ),
    "real numbers for a simplex": (
        lambda x: dist.Dirichlet(ONE),
        lambda a: dist.Normal(a * ONE, 1.0).to_event(1),
        "use a distribution on the same support",
    ),
    "a sphere for real numbers": (
        lambda x: dist.Normal(ZERO, 1.0).to_event(1),
        lambda a: dist.ProjectedNormal(a * ONE),
        "another measure",
    ),
    "a point": (lambda x: dist.Normal(HALF, 1.0), lambda a: dist.Delta(a), "point mass"),
    "another event": (
        lambda x: dist.Normal(ZERO, 1.0).to_event(1),
        lambda a: dist.Normal(a * ONE[:2], 1.0).to_event(1),
        "shape",
    ),
    "outside, but seldom": (
        lambda x: dist.LogNormal(ZERO, 1.0).to_event(1),
        lambda a: dist.Normal(1.2 + 0 * a * ONE, a.exp()).to_event(1),
        "draws values outside the support of the model's LogNormal",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_guide_of_another_measure_is_refused(case: str) -> None:
    prior, posterior, message = REFUSED[case]
    with pytest.raises(InputError) as caught, seeded(0):
        check(Program(*one(HALF.log(), prior, posterior)), (normal(9, 1),))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 320


ACCEPTED: dict[str, tuple[Fn, Fn]] = {
    "bounds in and out": (lambda x: dist.HalfNormal(ONE).to_event(1), lambda a: dist.LogNormal(a * ONE, 1).to_event(1)),
    "transformed": (
        lambda x: dist.Beta(ONE, ONE).to_event(1),
        lambda a: dist.TransformedDistribution(dist.Normal(a * ONE, 1.0), [transforms.SigmoidTransform()]).to_event(1),
    ),
    "stick breaking": (
        lambda x: dist.Dirichlet(ONE),
        lambda a: dist.TransformedDistribution(
            dist.Normal(a * ONE[:2], 1.0).to_event(1), [transforms.StickBreakingTransform()]
        ),
    ),
    "the same discrete": (
        lambda x: dist.OneHotCategorical(logits=LOGITS),
        lambda a: dist.OneHotCategoricalStraightThrough(logits=a * LOGITS),
    ),
    "multivariate": (
        lambda x: dist.Normal(ZERO, 1.0).to_event(1),
        lambda a: dist.MultivariateNormal(a * ONE, torch.eye(3, dtype=torch.double)),
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_guide_of_the_same_measure_passes_without_a_word(case: str) -> None:
    check(Program(*one(HALF.log(), *ACCEPTED[case])), (normal(9, 1),))


def test_a_guide_on_a_part_of_the_support_is_reported() -> None:
    program = Program(*one(HALF.log(), lambda x: dist.Normal(HALF, 1.0), lambda a: dist.LogNormal(a, 1.0)))
    with pytest.warns(InputWarning, match=r"draws 'z' from a part of the support of the model's Normal"):
        check(program, (normal(9, 1),))


class Flow(nn.Module):
    """A program whose prior, and whose likelihood if asked for, is a distribution that defines no support."""

    def __init__(self, likelihood: bool) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = nn.Linear(5, 4), nn.Linear(2, 5), likelihood
        self.prior = zuko.flows.MAF(2, transforms=1, hidden_features=(8,))
        self.noise = zuko.flows.MAF(5, context=2, transforms=1, hidden_features=(8,))

    def model(self, x: Tensor) -> None:
        pyro.module("prior", self.prior)
        pyro.module("noise" if self.likelihood else "decoder", self.noise if self.likelihood else self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", ZukoToPyro(self.prior().expand((len(x),))))
            if self.likelihood:
                pyro.sample("x", ZukoToPyro(self.noise(z)), obs=x)
            else:
                pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


@pytest.mark.parametrize("likelihood", [False, True])
def test_a_distribution_without_a_support_trains_and_has_the_elbo_of_pyro(likelihood: bool) -> None:
    x = normal(30, 5).float()
    with seeded(0):
        program = Flow(likelihood)
    vi = VariationalInference(program, max_epochs=1, compile="off").fit(x.numpy())
    assert math.isfinite(
        vi.score(
            x.numpy(),
        )
    )
    assert vi.training_.best_elbo > -100
    with vi.program_.running(seed=3, training=False), torch.no_grad():
        pyros = -Trace_ELBO().loss(program.model, program.guide, x) / 30
    with vi.program_.running(seed=3, training=False), torch.no_grad():
        mine = vi.program_.weighted_draws((x,)).log_weight.mean().item()
    assert mine == pytest.approx(pyros, rel=1e-5)
    with pytest.raises(InputError, match=r"nothing maps unconstrained space to the support of its ZukoToPyro"):
        VariationalInference(program, guide="per-sample", max_epochs=1, compile="off").fit(x.numpy())


def test_a_factor_in_the_guide_is_a_part_of_its_density_and_no_latent() -> None:
    x = normal(12)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.param("a", torch.tensor(0.5, dtype=x.dtype))
            pyro.factor("pull", 0.1 * (a * x) ** 2, has_rsample=True)
            pyro.sample("z", dist.Normal(a * x, 0.7))

    with pytest.warns(InputWarning, match=r"the factor 'pull' in the guide of model counts as a part of its density"):
        program = check(Program(model, guide), (x,))
    assert program.structure.latents == ("z",)
    values, slopes = [], []
    for mine in (True, False):
        with program.running(seed=1):
            a = program.parameters()["a"]
            if mine:
                value = program.weighted_draws((x,)).log_weight.sum()
            else:
                value = -Trace_ELBO().differentiable_loss(model, guide, x)
            values.append(value.item())
            slopes.append(torch.autograd.grad(value, a)[0].item())
    assert values[0] == pytest.approx(values[1], rel=1e-10)
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-10)
    vi = VariationalInference((model, guide), max_epochs=1, compile="off", analytic_kl=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        vi.fit(x.float().numpy())
        vi.set_params(bound="iwae", analytic_kl=False, num_particles=2).fit(x.float().numpy())
    assert vi.posterior(x.float().numpy(), num_samples=2).latents.keys() == {"z"}
