"""Data that are classes: their means are the probabilities of the classes, never a mean of the classes' numbers."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_vae import VariationalInference
from ppl_vae.program.known_moments import class_probabilities
from ppl_vae.uses import (
    augment,
    column_means,
    embed,
    generate,
    impute,
    interpolate,
    latents,
    manifold,
    reconstruct,
    score_missing,
    traverse,
)
from tests.helpers.scenarios import Survey

OPTIONS = {"max_epochs": 1, "learning_rate": 1e-12, "precision": "64-true", "compile": "off"}
X = np.random.default_rng(0).integers(0, 3, (40, 2)).astype(float)


@pytest.fixture(scope="module")
def survey() -> VariationalInference:
    return VariationalInference(Survey(), **OPTIONS).fit(X)


@pytest.fixture(scope="module")
def shares(survey: VariationalInference) -> np.ndarray:
    """Return the shares of the classes, ``(groups, answers, classes)``."""
    return survey.program.logits.softmax(-1).detach().numpy()


def responsibilities(shares: np.ndarray, x: np.ndarray, answers: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """Return p(c given x), ``(N, groups)``, of some answers."""
    joint = np.prod([shares[:, d, x[:, d].astype(int)] for d in answers], 0).T
    return joint / joint.sum(1, keepdims=True)


def test_a_reconstruction_has_the_probabilities_of_the_classes(
    survey: VariationalInference, shares: np.ndarray
) -> None:
    exact = np.einsum("nc,cdk->ndk", responsibilities(shares, X), shares)
    result = reconstruct(survey, X[:5], num_draws=20000)
    assert result.mean["x"].shape == (5, 2, 3)
    np.testing.assert_allclose(result.mean["x"], exact[:5], atol=4.5 * 0.5 / np.sqrt(20000))
    np.testing.assert_allclose(survey.reconstruct(X[:5]).sum(-1), 1)
    assert result.draws["x"].shape == (20000, 5, 2)


def test_new_data_have_the_probabilities_of_the_classes(survey: VariationalInference, shares: np.ndarray) -> None:
    result = generate(survey, 6, c=1)
    np.testing.assert_allclose(result.means["x"], np.tile(shares[1], (6, 1, 1)))
    np.testing.assert_allclose(survey.sample(6, mean=True, c=0), np.tile(shares[0], (6, 1, 1)))
    assert set(np.unique(generate(survey, 50).draws["x"])) <= {0, 1, 2}


def test_moves_through_the_latents_have_the_probabilities_of_the_classes(
    survey: VariationalInference, shares: np.ndarray
) -> None:
    np.testing.assert_allclose(traverse(survey, X, num_steps=2).means["x"][0, :, 0], shares)
    np.testing.assert_allclose(manifold(survey, X, num_steps=2).means["x"][0], shares)
    groups = responsibilities(shares, X).argmax(1)
    start, end = (np.flatnonzero(groups == group)[:1] for group in (0, 1))
    path = interpolate(survey, X[start], X[end], num_steps=3).means["x"][:, 0]
    np.testing.assert_allclose(path, [shares[0], shares.mean(0), shares[1]])


def test_new_data_near_given_ones_have_the_most_probable_classes(
    survey: VariationalInference, shares: np.ndarray
) -> None:
    new = augment(survey, X, copies=2, what="mean").arrays["x"]
    assert {tuple(row) for row in new} <= {tuple(row) for row in shares.argmax(-1).astype(float)}


def test_missing_classes_have_their_probabilities(survey: VariationalInference, shares: np.ndarray) -> None:
    holes = X.copy()
    holes[:, 1] = np.nan
    result = impute(survey, holes, num_samples=4000)
    exact = responsibilities(shares, X, (0,)) @ shares[:, 1]
    np.testing.assert_allclose(result.mean["x"][:, 1], exact, atol=4.5 * 0.5 / np.sqrt(4000))
    np.testing.assert_array_equal(result.mean["x"][:, 0], np.eye(3)[X[:, 0].astype(int)])
    assert (result.sd["x"][:, 0] == 0).all()
    mean = result.mean["x"]
    np.testing.assert_allclose(result.sd["x"], np.sqrt(mean * (1 - mean)))
    assert "x" not in result.lower
    (axes,) = result.plot().axes
    assert [bar.get_width() for bar in axes.patches[3:]] == pytest.approx(mean[:, 1].mean(0).tolist())
    np.testing.assert_array_equal(result.completed["x"][:, 1], mean[:, 1].argmax(-1))
    np.testing.assert_array_equal(result.completed["x"][:, 0], X[:, 0])
    np.testing.assert_allclose(result.log_evidence, np.log(shares[:, 0, X[:, 0].astype(int)].mean(0)))


def test_the_divergence_of_a_class_is_by_shares() -> None:
    x = np.array([-1.0, 1, 1, -1] * 4)
    vi = VariationalInference(Labelled(), **OPTIONS).fit(x)
    q = Labelled.SHARES[(x[:2] > 0).astype(int)].numpy()
    exact = np.nansum(q * np.log(np.maximum(q, 1e-300) * 3), 1).mean()
    places = latents(vi, x.repeat(200), num_data=2)
    assert places.names == ("c",)
    assert places.divergence[0] == pytest.approx(exact, abs=0.08)  # by moments of the numbers, 0.18


def test_scores_of_classes() -> None:
    truth, missing = np.array([[0.0], [2.0], [2.0]]), np.array([[False], [True], [True]])
    mean = np.array([[[1, 0, 0]], [[0.25, 0.25, 0.5]], [[0.5, 0.25, 0.25]]])
    assert score_missing(truth, mean, missing) == {"accuracy": 0.5, "log loss": pytest.approx(1.5 * np.log(2))}
    np.testing.assert_array_equal(column_means(truth, missing, classes=3)[:, 0], np.tile([1.0, 0, 0], (3, 1)))


class Labelled:
    """A class that the guide draws by itself, with known probabilities."""

    SHARES = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.0, 0.5]], dtype=torch.float64)

    def model(self, x: Tensor) -> None:
        scale = pyro.param("scale", torch.ones(()).double(), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(torch.ones(3).double()))
            pyro.sample("x", dist.Normal(c.double(), scale), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Categorical(self.SHARES[(x > 0).long()]))


def test_a_latent_that_is_a_class_is_embedded_by_its_probabilities() -> None:
    x = np.array([-1.0, 1, 1, -1] * 4)
    vi = VariationalInference(Labelled(), **OPTIONS).fit(x)
    exact = Labelled.SHARES[(x > 0).astype(int)].numpy()
    embedding = embed(vi, x)
    assert embedding.names == ("c=0", "c=1", "c=2")
    np.testing.assert_allclose(embedding.mean, exact)
    np.testing.assert_allclose(embedding.sd, np.sqrt(exact * (1 - exact)))
    np.testing.assert_allclose(vi.transform(x), exact)
    used = vi.evaluate(x, diagnostics=True, num_samples=10).diagnostics
    assert used is not None
    assert used.dimensions == ("c=0", "c=1", "c=2")


@pytest.mark.parametrize(
    "fn",
    [
        dist.Categorical(torch.tensor([[0.2, 0.8], [0.5, 0.5]])),
        dist.Categorical(torch.tensor([[0.2, 0.8], [0.5, 0.5]])).to_event(1),
        dist.Categorical(torch.tensor([[0.2, 0.8], [0.5, 0.5]])).mask(torch.tensor([True, False])),
        dist.OrderedLogistic(torch.tensor([0.3, -2.0]), torch.tensor([-1.0, 0.5])),
        dist.MixtureSameFamily(
            dist.Categorical(torch.tensor([0.3, 0.7])), dist.Categorical(torch.tensor([[0.2, 0.8], [0.5, 0.5]]))
        ),
        dist.MixtureSameFamily(
            dist.Categorical(torch.tensor([0.3, 0.7])),
            dist.Categorical(torch.tensor([[[0.2, 0.8]] * 3, [[0.5, 0.5]] * 3])).to_event(1),
        ),
    ],
    ids=["categorical", "event", "mask", "ordered", "mixture", "mixture of events"],
)
def test_the_probabilities_are_the_frequencies_of_draws(fn: dist.TorchDistribution) -> None:
    torch.manual_seed(0)
    probabilities = class_probabilities(fn)
    draws = fn.sample((20000,))
    classes = probabilities.shape[-1]
    assert probabilities.shape == (*fn.batch_shape, *fn.event_shape, classes)
    frequencies = (draws[..., None] == torch.arange(classes)).float().mean(0)
    assert torch.allclose(frequencies, probabilities, atol=4.5 * 0.5 / 20000**0.5)


@pytest.mark.parametrize("fn", [dist.Bernoulli(0.3), dist.OneHotCategorical(torch.ones(3)), dist.Poisson(2.0)])
def test_numbers_that_have_a_mean_are_no_classes(fn: dist.TorchDistribution) -> None:
    assert class_probabilities(fn) is None
