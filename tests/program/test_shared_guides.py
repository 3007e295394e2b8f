"""Test latents that all data share where the guide samples them, or the model multiplies them as vectors and matrices.

The references are ``pyro.infer.Trace_ELBO`` with the same draws, and the closed forms of Bayesian linear regression.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, autoguide
from pyro.nn import PyroModule, PyroSample
from scipy.stats import multivariate_normal, norm
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError
from ppl_vae.program import Program, check, seeded
from tests.helpers.scenarios import normal

X, NOISE = normal(12, 3), 0.5
Y = X @ torch.tensor([1.0, -2.0, 0.5]).double() + NOISE * normal(12, seed=1)
Case = tuple[Callable[..., Any], Callable[..., Any], tuple[Tensor, ...]]


def regression(x: Tensor, y: Tensor) -> None:
    """w ~ N(0, I), y ~ N(x w, 0.25): the weights are one vector."""
    w = pyro.sample("w", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


def layered(x: Tensor, y: Tensor) -> None:
    """A Bayesian network with one hidden layer, whose weights are a matrix and a vector, and a scale."""
    first = pyro.sample("first", dist.Normal(x.new_zeros(3, 4), 1.0).to_event(2))
    second = pyro.sample("second", dist.Normal(x.new_zeros(4), 1.0).to_event(1))
    scale = pyro.sample("scale", dist.LogNormal(x.new_zeros(()), 0.3))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal((x @ first).tanh() @ second, scale), obs=y)


def grouped(x: Tensor, y: Tensor) -> None:
    """Weights in a plate of their own, given a mean that they share, beside a latent of each datum."""
    m = pyro.sample("m", dist.Normal(x.new_zeros(()), 2.0))
    with pyro.plate("weights", 3):
        w = pyro.sample("w", dist.Normal(m, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x @ w, 1.0))
        pyro.sample("y", dist.Normal(z, NOISE), obs=y)


def own_guide(x: Tensor, y: Tensor) -> None:
    """A guide of global and local latents, in which the local one depends on the global ones."""
    loc = pyro.param("loc", torch.tensor(0.3).double())
    scale = pyro.param("scale", torch.tensor(0.4).double(), constraint=dist.constraints.positive)
    slope = pyro.param("slope", torch.tensor(0.5).double())
    m = pyro.sample("m", dist.Normal(loc, scale))
    with pyro.plate("weights", 3):
        w = pyro.sample("w", dist.Normal(0.5 * m, scale))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(slope * (y + x @ w), 0.6))


class BayesianLinear(PyroModule):
    """Weights with a prior in the modules, as in Pyro's tutorial on regression."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = PyroModule[nn.Linear](3, 1)
        zero = torch.tensor(0.0).double()
        self.linear.weight = PyroSample(dist.Normal(zero, 1.0).expand([1, 3]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(zero, 1.0).expand([1]).to_event(1))

    def forward(self, x: Tensor, y: Tensor) -> None:
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, NOISE), obs=y)


def listed(model: Callable[..., Any], own_plate: bool = False) -> Any:
    """Return an AutoGuideList: a Gaussian for the global latents, and a function for the local one."""
    guide = autoguide.AutoGuideList(model, create_plates=lambda x, y: pyro.plate("data", len(x)))
    guide.append(autoguide.AutoDiagonalNormal(poutine.block(model, expose=["m", "w"])))

    def local(x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x)) if own_plate else guide.plates["data"]:
            pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.5).double()) * y, 0.7))

    guide.append(local)
    return guide


AUTO = ("AutoNormal", "AutoDiagonalNormal", "AutoMultivariateNormal", "AutoLowRankMultivariateNormal")
CASES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "own guide": lambda: (grouped, own_guide),
    "AutoGuideList": lambda: (grouped, listed(grouped)),
    "weights in modules": lambda: (module := BayesianLinear(), autoguide.AutoNormal(module)),
    **{f"layers, {name}": lambda name=name: (layered, getattr(autoguide, name)(layered)) for name in AUTO},
}


@pytest.mark.parametrize("name", CASES)
def test_the_objective_and_its_gradient_are_those_of_svi(name: str) -> None:
    """Trace_ELBO of all data, with the same draws, divided by their number."""
    torch.set_default_dtype(torch.float64)
    try:
        with seeded(0):
            model, guide = CASES[name]()
            program = Program(model, guide).bind((X, Y), num_data=len(X))
            check(program, (X, Y))
        assert program.structure.shared_by == "runs"
        assert set(program.structure.latents) <= {"z"}
        parameters = program.parameters()
        with program.running(seed=3):
            draws = program.weighted_draws((X, Y))
            ours = draws.log_weight.mean() + draws.shared
        with program.running(seed=3):
            loss = Trace_ELBO(strict_enumeration_warning=False).differentiable_loss(model, guide, X, Y)
        assert ours.item() == pytest.approx(-loss.item() / len(X), rel=1e-10)
        options = {"allow_unused": True, "materialize_grads": True}
        for a, b in zip(
            torch.autograd.grad(ours, list(parameters.values()), **options),
            torch.autograd.grad(-loss / len(X), list(parameters.values()), **options),
            strict=True,
        ):
            torch.testing.assert_close(a, b)
        assert sum(p.numel() for p in parameters.values()) > 0
    finally:
        torch.set_default_dtype(torch.float32)
        pyro.clear_param_store()


def exact_posterior(a: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    covariance = np.linalg.inv(a.T @ a / NOISE**2 + np.eye(a.shape[1]))
    return covariance @ a.T @ y / NOISE**2, covariance


QUICK = {"max_epochs": 1, "validation_fraction": 0.0, "learning_rate": 1e-9, "precision": "64-true", "compile": "off"}


def test_the_joint_bound_of_a_full_gaussian_is_the_exact_evidence_of_a_regression() -> None:
    """log N(y; 0, x x' + 0.25 I), and the posterior predictive density of other data, with w multiplied as a vector."""
    x, y = X.numpy(), Y.numpy()
    guide = autoguide.AutoMultivariateNormal(regression)
    vi = VariationalInference((regression, guide), num_samples=400, **QUICK).fit(x, y)
    mean, covariance = exact_posterior(x, y)
    with torch.no_grad():
        guide.loc.copy_(torch.from_numpy(mean))
        scale_tril = torch.from_numpy(np.linalg.cholesky(covariance))
        guide.scale = scale_tril.diagonal()
        guide.scale_tril = scale_tril / scale_tril.diagonal()[:, None]
    evaluation = vi.evaluate(x, y)
    exact = multivariate_normal.logpdf(y, np.zeros(12), x @ x.T + NOISE**2 * np.eye(12)) / 12
    joint = evaluation.rows["elbo_joint"]
    assert joint.log_evidence == pytest.approx(exact, abs=5 * joint.mcse)
    assert joint.mcse < 0.05
    other = normal(6, 3, seed=5).numpy()
    scale = np.sqrt(NOISE**2 + np.einsum("ni,ij,nj->n", other, covariance, other))
    evidence = vi.evidence(other, np.ones(6))
    expected = norm.logpdf(1.0, other @ mean, scale)
    assert (np.abs(evidence.log_evidence.numpy() - expected) < 5 * evidence.mcse.numpy() + 1e-3).all()


@pytest.mark.parametrize("module", [False, True], ids=["vector", "modules"])
def test_weights_without_a_guide_are_drawn_for_every_weight(module: bool) -> None:
    """The predictive density under the Gaussian posterior that the fit keeps; batches of 1 and of 3 work too."""
    program: Any = BayesianLinear() if module else regression
    x, y = X.numpy(), Y.numpy()
    for size in (1, 3):
        VariationalInference(program, **(QUICK | {"batch_size": size})).fit(x, y)
    vi = VariationalInference(program, num_samples=400, **QUICK).fit(x, y)
    posterior = vi.program_.global_posterior
    assert vi.program_.draws_take_runs
    a = np.c_[x, np.ones(12)] if module else x
    mean, covariance = exact_posterior(a, y)
    variance = 1 / np.diag(np.linalg.inv(covariance))
    with torch.no_grad():
        start = 0
        for loc, log_scale in zip(posterior.loc.values(), posterior.log_scale.values(), strict=True):
            rows = slice(start, start + loc.numel())
            loc.copy_(torch.from_numpy(mean[rows]).reshape(loc.shape))
            log_scale.copy_(torch.from_numpy(np.log(variance[rows]) / 2).reshape(loc.shape))
            start += loc.numel()
    expected = norm.logpdf(y, a @ mean, np.sqrt(NOISE**2 + a**2 @ variance))
    for evidence in (vi.evidence(x, y), vi.evidence(x, y, estimator="prior")):
        assert (np.abs(evidence.log_evidence.numpy() - expected) < 5 * evidence.mcse.numpy() + 1e-3).all()
    draws = vi.posterior(x, y, num_samples=300)
    np.testing.assert_allclose(draws.means["y"].var(0), a**2 @ variance, rtol=0.6)  # not one draw of w for all
    assert vi.reconstruct(x, y).shape == (12,)


def indexed(x: Tensor, y: Tensor) -> None:
    """A model that indexes its weights from the left: a dimension of draws in front would be taken for one of them."""
    w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(w[0], 1.0))
        pyro.sample("y", dist.Normal(z + w[1] * x, NOISE), obs=y)


def test_indices_that_would_take_draws_for_weights_are_noticed() -> None:
    program = Program(indexed, lambda x, y: own_local(y)).bind((X[:, 0], Y), num_data=12)
    assert program.structure.shared_by == "runs"
    with torch.no_grad(), seeded(1):
        weights = program.log_weights((X[:, 0], Y), 600)
    assert weights.shape == (600, 12)
    mean = weights.mean(0)
    posterior: Any = program.global_posterior
    scale = posterior.log_scale["w"].exp()
    z = dist.Normal(0.5 * Y, 0.7)
    rest = -0.5 * ((z.mean - Y) ** 2 + 0.49 + scale[1] ** 2 * X[:, 0] ** 2) / NOISE**2
    prior = -0.5 * (z.mean**2 + 0.49 + scale[0] ** 2)
    constant = -np.log(2 * np.pi) - np.log(NOISE)
    expected = rest + prior + constant + z.entropy()
    assert ((mean - expected).abs() < 5 * weights.std(0) / 600**0.5).all()


def own_local(y: Tensor) -> None:
    with pyro.plate("data", len(y)):
        pyro.sample("z", dist.Normal(0.5 * y, 0.7))


def local(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, pyro.param("s", x.new_ones(()))), obs=x)


REFUSED: dict[str, tuple[Callable[[], Any], tuple[Tensor, ...], str]] = {
    "AutoDelta": (lambda: (regression, autoguide.AutoDelta(regression)), (X, Y), r"point mass \(Delta\) at 'w'.*AutoN"),
    "AutoLaplace": (
        lambda: (regression, autoguide.AutoLaplaceApproximation(regression)),
        (X, Y),
        r"point mass \(Delta\) at 'w'.*AutoMultivariateNormal",
    ),
    "AutoNormal of data": (
        lambda: (local, autoguide.AutoNormal(local)),
        (Y,),
        "an AutoNormal, which has parameters of its own for 'z' of each datum .* --guide per-sample",
    ),
    "AutoDiagonalNormal of data": (lambda: (grouped, autoguide.AutoDiagonalNormal(grouped)), (X, Y), "for 'z' of each"),
    "two plates": (
        lambda: (grouped, listed(grouped, own_plate=True)),
        (X, Y),
        r"makes the plate 'data', and one of its functions makes it again: write `with guide.plates\['data'\]",
    ),
    "some of them": (
        lambda: (layered, lambda x, y: pyro.sample("second", dist.Normal(x.new_zeros(4), 1.0).to_event(1))),
        (X, Y),
        "samples some of the latents that all data share, but not 'first'",
    ),
    "no path": (
        lambda: (positive, lambda x: pyro.sample("r", dist.Poisson(x.new_ones(())))),
        (Y,),
        "draws 'r', which all data share, from a Poisson, whose draws have no path",
    ),
}


def positive(x: Tensor) -> None:
    r = pyro.sample("r", dist.LogNormal(x.new_zeros(()), 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(r, 1.0), obs=x)


@pytest.mark.parametrize("name", REFUSED)
def test_guides_that_cannot_be_are_refused_with_a_remedy(name: str) -> None:
    make, batch, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        VariationalInference(make(), **QUICK).fit(*(tensor.numpy() for tensor in batch))
