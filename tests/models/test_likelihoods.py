"""Likelihoods: densities compared with SciPy, draws, means, errors, and a VAE with each of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError
from ppl_vae.models.vae import VAE
from ppl_vae.networks import Likelihood, make_likelihood
from ppl_vae.program import Program, check, seeded
from tests.helpers.scenarios import normal

COUNTS = np.array([0, 1, 2, 3, 5, 8, 20, 0])
REALS = np.array([-3.0, -0.5, 0.0, 0.1, 1.0, 2.5, 7.0, 0.3])
SCALE = np.log(2) + 1e-2  # of a learned Gaussian before training: softplus(0), and the smallest
WIDTH = len(COUNTS)


def inflated(base: stats.rv_discrete, gate: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.log(special.expit(gate) * (x == 0) + special.expit(-gate) * base.pmf(x))


def negative_binomial(log_mean: np.ndarray, log_shape: np.ndarray) -> stats.rv_discrete:
    """Return the distribution of SciPy, whose number of failures has the mean n (1 - p) / p."""
    shape, mean = np.exp(log_shape), np.exp(log_mean)
    return stats.nbinom(shape, shape / (shape + mean))


class RoundedByScipy:
    """A log-normal number without its decimals, by the distribution function of SciPy."""

    def __init__(self, loc: np.ndarray, raw: np.ndarray) -> None:
        self.number = stats.lognorm(2 * np.tanh(np.logaddexp(0, raw) / 2) + 1e-3, scale=np.exp(loc))

    def pmf(self, x: np.ndarray) -> np.ndarray:
        rest = self.number.sf(x) - self.number.sf(x + 1)  # in the upper tail, a difference of cdf has no digits
        return np.where(self.number.cdf(x) > 0.5, rest, self.number.cdf(x + 1) - self.number.cdf(x))


# A name, values, and SciPy's log density of the values given the outputs, each of the width of a datum.
DENSITIES = {
    "bernoulli": (COUNTS % 2, lambda x, o: stats.bernoulli.logpmf(x, special.expit(o))),
    "gaussian": (REALS, lambda x, o: stats.norm.logpdf(x, o, SCALE)),
    "gaussian:learned": (REALS, lambda x, o: stats.norm.logpdf(x, o, SCALE)),
    "gaussian:0.5": (REALS, lambda x, o: stats.norm.logpdf(x, o, 0.5)),
    "gaussian:decoded": (REALS, lambda x, o, s: stats.norm.logpdf(x, o, np.logaddexp(0, s) + 1e-2)),
    "categorical:3": (COUNTS % 3, lambda x, *o: special.log_softmax(np.stack(o), 0)[x, ..., np.arange(WIDTH)].T),
    "poisson": (COUNTS, lambda x, o: stats.poisson.logpmf(x, np.exp(o))),
    "negative-binomial": (COUNTS, lambda x, m, r: negative_binomial(m, r).logpmf(x)),
    "rounded-log-normal": (COUNTS, lambda x, m, s: np.log(RoundedByScipy(m, s).pmf(x))),
    "zero-inflated-rounded-log-normal": (COUNTS, lambda x, m, s, g: inflated(RoundedByScipy(m, s), g, x)),
    "zero-inflated-poisson": (COUNTS, lambda x, o, g: inflated(stats.poisson(np.exp(o)), g, x)),
    "zero-inflated-negative-binomial": (COUNTS, lambda x, m, r, g: inflated(negative_binomial(m, r), g, x)),
}


def outputs(likelihood: Likelihood, *lead: int) -> Tensor:
    return normal(*lead, likelihood.outputs * WIDTH, seed=1)


def test_every_kind_is_tested() -> None:
    with pytest.raises(InputError) as caught:
        make_likelihood("what")
    for kind in DENSITIES:
        assert kind.partition(":")[0] in str(caught.value)


@pytest.mark.parametrize("kind", DENSITIES)
def test_densities_equal_scipy(kind: str) -> None:
    likelihood, (values, density) = make_likelihood(kind).double(), DENSITIES[kind]
    out = outputs(likelihood, 4)
    with torch.no_grad():
        fn = likelihood(out)
        found = fn.log_prob(torch.from_numpy(values).to(out))
    assert fn.batch_shape == (4, WIDTH)
    expected = density(values, *np.split(out.numpy(), likelihood.outputs, -1))
    np.testing.assert_allclose(found, np.broadcast_to(expected, (4, WIDTH)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", DENSITIES)
def test_leading_dimensions_are_free(kind: str) -> None:
    likelihood = make_likelihood(kind).double()
    out, values = outputs(likelihood, 3, 2), torch.from_numpy(DENSITIES[kind][0]).double()
    found = likelihood(out).log_prob(values)
    assert found.shape == (3, 2, WIDTH)
    for k in range(3):
        torch.testing.assert_close(found[k], likelihood(out[k]).log_prob(values))
    torch.testing.assert_close(likelihood(out[0, 1]).log_prob(values), found[0, 1])


@pytest.mark.parametrize("kind", DENSITIES)
def test_draws_lie_in_the_support_and_have_the_density(kind: str) -> None:
    """The mean agrees, and for discrete numbers also the share of every small value."""
    likelihood, size = make_likelihood(kind).double(), 20000
    out = outputs(likelihood)
    with torch.no_grad(), seeded(2):
        fn = likelihood(out)
        draws = fn.expand((size, WIDTH)).sample().numpy()
    if kind.startswith("gaussian"):
        assert np.isfinite(draws).all()
        error = (draws.mean(0) - fn.mean.numpy()) / fn.stddev.numpy() * size**0.5
        assert (np.abs(error) < 4.5).all()
        assert len(np.unique(draws)) == draws.size
        return
    assert (draws == np.round(draws)).all()
    assert draws.min() == 0
    assert draws.max() <= {"bernoulli": 1, "categorical:3": 2}.get(kind, np.inf)
    for value in range(3 if draws.max() > 1 else 2):
        expected = fn.log_prob(torch.full((WIDTH,), float(value)).double()).exp().detach().numpy()
        error = ((draws == value).mean(0) - expected) / np.sqrt(expected * (1 - expected) / size)
        assert (np.abs(error) < 4.5).all()


@pytest.mark.parametrize("kind", [kind for kind in DENSITIES if not kind.startswith(("gaussian", "categorical"))])
def test_means_equal_those_of_the_density(kind: str) -> None:
    """The sum covers all counts with a weight that matters."""
    likelihood, upper = make_likelihood(kind).double(), 2 if kind == "bernoulli" else 4000
    with torch.no_grad():
        fn = likelihood(outputs(likelihood))
        counts = torch.arange(upper).double()[:, None]
        expected = (counts * fn.log_prob(counts.expand(upper, WIDTH)).exp()).sum(0)
    tolerance = 2e-3 if "rounded" in kind else 1e-7  # the tail of its mean is an integral, and longer than the sum
    torch.testing.assert_close(fn.mean, expected, rtol=tolerance, atol=1e-9)


def test_the_variance_of_a_negative_binomial_equals_its_formula() -> None:
    log_mean, log_shape = normal(WIDTH, seed=3), normal(WIDTH, seed=4)
    fn = make_likelihood("negative-binomial")(torch.cat([log_mean, log_shape]))
    torch.testing.assert_close(fn.variance, log_mean.exp() + (2 * log_mean - log_shape).exp())


def test_a_likelihood_object_is_returned_unchanged() -> None:
    likelihood = make_likelihood("poisson")
    assert make_likelihood(likelihood) is likelihood
    assert VAE(likelihood=likelihood).likelihood is likelihood


def test_only_a_learned_gaussian_has_a_parameter() -> None:
    for kind in DENSITIES:
        names = [name for name, _ in make_likelihood(kind).named_parameters()]
        assert names == (["raw_scale"] if kind in ("gaussian", "gaussian:learned") else [])


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("gauss", ["likelihood='gauss' is unknown", "gaussian:decoded"]),
        ("poisson:3", ["likelihood='poisson:3' is unknown"]),
        ("zero-inflated-bernoulli", ["is unknown"]),
        ("gaussian:-1", ["scale=-1.0", "above 0"]),
        ("gaussian:0", ["scale=0.0", "above 0"]),
        ("gaussian:inf", ["scale=inf", "above 0"]),
        ("gaussian:nan", ["scale=nan", "above 0"]),
        ("gaussian:foo", ["scale='foo'", "learned or decoded"]),
        ("categorical", ["how many classes? categorical:10"]),
        ("categorical:2.5", ["how many classes? categorical:10"]),
        ("categorical:1", ["classes=1", "two or more"]),
        ("categorical:inf", ["how many classes? categorical:10"]),
    ],
)
def test_an_error_is_reported_in_one_line(kind: str, facts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        make_likelihood(kind)
    message = str(caught.value)
    assert "\n" not in message
    assert all(fact in message for fact in facts), message


def data(kind: str) -> np.ndarray:
    """Return data with two clusters, whose numbers are correlated within a datum."""
    rng = np.random.default_rng(0)
    high = rng.integers(2, size=(160, 1))
    if kind.startswith("gaussian"):
        x = 4 * high + rng.normal(size=(160, 6))
    elif kind == "bernoulli":
        x = rng.random((160, 6)) < 0.1 + 0.8 * high
    elif kind.startswith("categorical"):
        x = np.where(rng.random((160, 6)) < 0.9, 2 * high, 1)
    else:
        x = rng.poisson(1 + 6 * high * np.ones(6)) * (rng.random((160, 6)) < 0.7)
    return x.astype(np.float64)


@pytest.mark.parametrize("kind", DENSITIES)
def test_a_vae_with_a_likelihood_passes_the_check_and_its_elbo_rises(kind: str) -> None:
    x = data(kind)
    with seeded(0):
        module = VAE(data_dim=6, latent_dim=2, hidden=(16,), likelihood=kind).double()
    batch = (torch.from_numpy(x),)
    check(Program(module), batch)
    vi = VariationalInference(
        module, max_epochs=30, batch_size=40, learning_rate=0.01, validation_fraction=0, num_samples=20
    )
    vi.prepare({"x": x})
    rises = [epoch.elbo_train for epoch in vi.epochs()]
    assert np.isfinite(rises).all()
    assert np.mean(rises[-3:]) > np.mean(rises[:3]) + 0.5
    drawn = Program(module).bind(batch).prior(batch).observed["x"]
    assert drawn.shape == (1, 160, 6)
    assert torch.isfinite(Program(module).bind((drawn[0].double(),)).log_weights((drawn[0].double(),), 2)).all()
