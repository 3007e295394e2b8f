"""Models with an exact evidence, compared with closed forms and with other implementations."""

from __future__ import annotations

import numpy as np
import pyro
import pytest
import torch
from hmmlearn.hmm import GaussianHMM
from pyro.infer import TraceEnum_ELBO, config_enumerate
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.models.hmm import HMM
from ppl_vae.models.mixture import Mixture
from ppl_vae.models.normal import Normal
from ppl_vae.models.ppca import PPCA
from ppl_vae.program import Batch, Program, check, seeded
from tests.helpers.modules import in_double
from tests.helpers.scenarios import bits, normal

FIT = {"validation_fraction": 0, "num_samples": 50, "schedule": "cosine", "compile": "off", "precision": "64-true"}


def raw(scale: np.ndarray) -> Tensor:
    """Return the number that softplus maps to this scale."""
    return torch.as_tensor(np.log(np.expm1(scale)))


def evidence(module: nn.Module, *batch: Tensor) -> np.ndarray:
    """Return the evidence by the closed form of the program, or by the sum over its discrete latents."""
    with torch.no_grad():
        return Program(module).bind(batch).log_evidence(batch).numpy()


def weights(module: nn.Module, *batch: Tensor) -> np.ndarray:
    """Return log weights ``(2, B)``; each is the evidence if the program draws nothing."""
    with torch.no_grad():
        return Program(module).bind(batch).log_weights(batch, 2).numpy()


class TestNormal:
    @pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3), (50, 2, 2)])
    def test_evidence_equals_scipy(self, shape: tuple[int, ...]) -> None:
        x = normal(*shape)
        data = x.numpy().reshape(50, -1)
        loc, scale = np.linspace(-1, 2, data.shape[1]), np.linspace(0.3, 2, data.shape[1])
        module = in_double(Normal, data_dim=data.shape[1], min_scale=0.0)
        with torch.no_grad():
            module.loc.copy_(torch.from_numpy(loc))
            module.raw_scale.copy_(raw(scale))
        expected = stats.norm(loc, scale).logpdf(data).sum(-1)
        check(Program(module), (x,))
        np.testing.assert_allclose(evidence(module, x), expected, atol=1e-10, rtol=0)
        np.testing.assert_allclose(weights(module, x), np.stack([expected] * 2), atol=1e-10, rtol=0)

    def test_a_fit_maximises_the_likelihood(self) -> None:
        x = np.random.default_rng(0).normal([0.3, -1.0], [1.2, 0.4], (200, 2))
        vi = VariationalInference(
            in_double(Normal, data_dim=2), max_epochs=200, batch_size=200, learning_rate=0.1, **FIT
        )
        module = vi.fit(x).program
        mean, std = module.distribution().mean.detach().numpy(), module.distribution().stddev.detach().numpy()
        np.testing.assert_allclose(mean, x.mean(0), atol=1e-3)
        np.testing.assert_allclose(std, x.std(0), atol=1e-3)


@pytest.fixture(scope="module")
def houses() -> np.ndarray:
    """Return the standardised size and price of houses in three separate neighbourhoods."""
    rng = np.random.default_rng(0)
    shapes = [np.array([[1.0, 0.0], [0.6, 0.5]]), np.array([[0.5, 0.0], [-0.3, 0.4]]), 0.7 * np.eye(2)]
    means = np.array([[-5.0, 0.0], [4.0, 4.0], [4.0, -5.0]])
    c = np.repeat(np.arange(3), (150, 90, 60))
    x = means[c] + (np.stack(shapes)[c] @ rng.normal(size=(300, 2, 1)))[..., 0]
    return (x - x.mean(0)) / x.std(0)


class TestMixture:
    def test_equals_scikit_learn(self, houses: np.ndarray) -> None:
        """The log evidence and the posterior of the component agree for overlapping components."""
        x = houses + np.random.default_rng(1).normal(size=houses.shape)
        sklearn = GaussianMixture(3, random_state=0).fit(x)
        module = in_double(Mixture, data_dim=2, num_components=3, min_scale=0.0)
        tril = np.linalg.cholesky(sklearn.covariances_)
        with torch.no_grad():
            module.logits.copy_(torch.from_numpy(np.log(sklearn.weights_)))
            module.loc.copy_(torch.from_numpy(sklearn.means_))
            module.raw_tril.copy_(torch.from_numpy(tril))
            module.raw_tril.diagonal(dim1=-2, dim2=-1).copy_(raw(np.diagonal(tril, axis1=-2, axis2=-1)))
        batch = (torch.from_numpy(x),)
        check(Program(module), batch)
        np.testing.assert_allclose(evidence(module, *batch), sklearn.score_samples(x), atol=1e-8, rtol=0)
        np.testing.assert_allclose(weights(module, *batch)[1], sklearn.score_samples(x), atol=1e-8, rtol=0)
        expected = sklearn.predict_proba(x)
        assert ((expected.max(-1) > 0.6) & (expected.max(-1) < 0.9)).sum() > 20
        with pyro.get_param_store().scope(), torch.no_grad():
            marginals = TraceEnum_ELBO(max_plate_nesting=1).compute_marginals(
                config_enumerate(module.model), lambda x: None, *batch
            )
        np.testing.assert_allclose(marginals["c"].probs.numpy(), expected, atol=1e-8, rtol=0)

    def test_data_of_one_number_work(self) -> None:
        x, module = normal(20), in_double(Mixture, data_dim=1, num_components=2)
        scale = np.log1p(np.exp(0.0)) + 0.01
        densities = stats.norm(module.loc.detach().numpy()[:, 0], scale).pdf(x.numpy()[:, None])
        np.testing.assert_allclose(evidence(module, x), np.log(densities.mean(-1)), atol=1e-10, rtol=0)

    def test_a_fit_finds_the_clusters(self, houses: np.ndarray) -> None:
        best = GaussianMixture(3, random_state=0, n_init=5, tol=1e-8).fit(houses).score(houses)
        vi = VariationalInference(
            in_double(Mixture, seed=1), max_epochs=150, batch_size=100, learning_rate=0.05, **FIT
        ).fit(houses)
        assert abs(evidence(vi.program, torch.from_numpy(houses)).mean() - best) < 0.01

    @pytest.mark.slow
    def test_a_fit_with_default_options_finds_the_clusters_of_a_thousand_data(self, houses: np.ndarray) -> None:
        x = np.concatenate([houses] * 4)
        best = GaussianMixture(3, random_state=0, n_init=5, tol=1e-8).fit(x).score(x)
        with seeded(1):
            vi = VariationalInference(Mixture()).fit(x)
        assert abs(evidence(vi.program, torch.from_numpy(x).float()).mean() - best) < 0.05


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    """Return data with two components of different strength, because rotations of equal ones slow the fit down."""
    rng = np.random.default_rng(0)
    loading = np.array([[1.5], [0.7]]) * rng.normal(size=(2, 6))
    return rng.normal(size=(200, 2)) @ loading + 0.5 * rng.normal(size=(200, 6)) + 1.0


class TestPPCA:
    @pytest.mark.parametrize("latent_dim", [1, 2, 5])
    def test_evidence_equals_scikit_learn(self, data: np.ndarray, latent_dim: int) -> None:
        pca = PCA(latent_dim).fit(data)
        module = in_double(PPCA, data_dim=6, latent_dim=latent_dim, min_noise=0.0)
        with torch.no_grad():
            loading = pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_)
            module.decoder.linear.weight.copy_(torch.from_numpy(loading))
            module.decoder.linear.bias.copy_(torch.from_numpy(pca.mean_))
            module.decoder.raw_scale.copy_(raw(np.sqrt(pca.noise_variance_)))
        batch = (torch.from_numpy(data),)
        check(Program(module), batch)
        np.testing.assert_allclose(evidence(module, *batch), pca.score_samples(data), atol=1e-8, rtol=0)

    @pytest.mark.parametrize("latent_dim", [1, 6, 8])
    def test_evidence_equals_the_gaussian_with_the_full_covariance(self, data: np.ndarray, latent_dim: int) -> None:
        """This includes as many or more components than variables, for which scikit-learn has no noise."""
        module = in_double(PPCA, data_dim=6, latent_dim=latent_dim)
        loading, mean = (p.detach().numpy() for p in module.decoder.linear.parameters())
        noise = np.log(2) + 0.01
        expected = stats.multivariate_normal(mean, loading @ loading.T + noise**2 * np.eye(6)).logpdf(data)
        np.testing.assert_allclose(evidence(module, torch.from_numpy(data)), expected, atol=1e-8, rtol=0)

    def test_a_fit_reaches_the_maximum_and_its_guide_the_posterior(self, data: np.ndarray) -> None:
        """The noise is one number; the ELBO with independent latents is exact at the optimum."""
        module = in_double(PPCA, data_dim=6, latent_dim=2)
        vi = VariationalInference(
            module, max_epochs=200, batch_size=100, learning_rate=0.05, num_particles=4, **FIT
        ).fit(data)
        module, batch = vi.program, (torch.from_numpy(data),)
        exact = evidence(module, *batch).mean()
        assert abs(exact - PCA(2).fit(data).score(data)) < 0.01
        with torch.no_grad(), seeded(0):
            elbo = Program(module).bind(batch).log_weights(batch, 200).mean().item()
        assert -0.005 < exact - elbo < 0.02  # the Monte Carlo error is about 0.0005


def forward_algorithm(module: HMM, x: Tensor, lengths: Tensor | None = None) -> np.ndarray:
    """Return log p(x) by the recursion for each sequence, with emissions from SciPy."""
    initial, transition = (p.detach().softmax(-1).numpy() for p in (module.initial, module.transition))
    answers = []
    for sequence, length in zip(x.numpy(), lengths if lengths is not None else [x.shape[1]] * len(x), strict=True):
        total, alpha = 0.0, initial
        for step in sequence[: int(length)]:
            alpha = alpha * np.exp(emissions(module, step))
            total += np.log(alpha.sum())
            alpha = alpha / alpha.sum() @ transition
        answers.append(total)
    return np.array(answers)


def emissions(module: HMM, step: np.ndarray) -> np.ndarray:
    """Return log p(x_t given a state) for all states, ``(num_states,)``."""
    out = module.emission.detach().numpy()
    if module.likelihood.outputs == 2:
        loc, scale = out[:, :3], np.log1p(np.exp(out[:, 3:])) + 0.01
        return stats.norm(loc, scale).logpdf(step).sum(-1)
    return stats.bernoulli(1 / (1 + np.exp(-out))).logpmf(step).sum(-1)


LENGTHS = torch.tensor([6, 3, 1, 5, 2, 4, 6])
SEQUENCES = {
    "bernoulli": bits(7, 6, 3),
    "gaussian:decoded": normal(7, 6, 3),
}


class TestHMM:
    @pytest.fixture(params=SEQUENCES)
    def case(self, request: pytest.FixtureRequest) -> tuple[HMM, Tensor]:
        module = in_double(HMM, features=3, num_states=4, likelihood=request.param)
        with torch.no_grad(), seeded(1):
            for parameter in (module.initial, module.transition):
                parameter.copy_(torch.randn_like(parameter))
        return module, SEQUENCES[request.param]

    @pytest.mark.parametrize("lengths", [None, LENGTHS])
    def test_evidence_equals_the_forward_algorithm(self, case: tuple[HMM, Tensor], lengths: Tensor | None) -> None:
        module, x = case
        batch: Batch = (x,) if lengths is None else (x, lengths)
        expected = forward_algorithm(module, *batch)
        np.testing.assert_allclose(evidence(module, *batch), expected, atol=1e-10, rtol=0)
        np.testing.assert_allclose(weights(module, *batch), np.stack([expected] * 2), atol=1e-10, rtol=0)

    def test_steps_past_the_end_do_not_count(self, case: tuple[HMM, Tensor]) -> None:
        module, x = case
        past = torch.arange(6) >= LENGTHS[:, None]
        expected = forward_algorithm(module, x, LENGTHS)
        with torch.no_grad():
            other = torch.where(past[..., None], 1 - x, x)
        np.testing.assert_allclose(evidence(module, other, LENGTHS), expected, atol=1e-10, rtol=0)

    def test_gradients_equal_those_of_the_forward_algorithm(self) -> None:
        """They equal finite differences, so the ELBO trains by maximum likelihood."""
        module, x = in_double(HMM, features=3, num_states=2), SEQUENCES["bernoulli"]
        Program(module).bind((x, LENGTHS)).log_evidence((x, LENGTHS)).sum().backward()
        for parameter in module.parameters():
            for index in range(parameter.numel()):
                found = []
                for shift in (1e-5, -2e-5):
                    parameter.data.view(-1)[index] += shift
                    found.append(forward_algorithm(module, x, LENGTHS).sum())
                parameter.data.view(-1)[index] += 1e-5
                assert abs(parameter.grad.view(-1)[index] - (found[0] - found[1]) / 2e-5) < 1e-6

    @pytest.mark.parametrize(("likelihood", "covariance_type"), [("gaussian:decoded", "diag"), ("gaussian", "tied")])
    def test_equals_hmmlearn(self, likelihood: str, covariance_type: str) -> None:
        """The score of each sequence agrees, with one scale per state and number, or with one for all."""
        module = in_double(HMM, features=3, num_states=4, likelihood=likelihood)
        with torch.no_grad(), seeded(1):
            for parameter in (module.initial, module.transition):
                parameter.copy_(torch.randn_like(parameter))
        other = GaussianHMM(4, covariance_type)
        other.startprob_ = module.initial.detach().softmax(-1).numpy()
        other.transmat_ = module.transition.detach().softmax(-1).numpy()
        out = module.emission.detach()
        other.means_ = out[:, :3].numpy()
        if covariance_type == "diag":
            other.covars_ = (nn.functional.softplus(out[:, 3:]) + 0.01).square().numpy()
        else:
            other.covars_ = (np.log(2) + 0.01) ** 2 * np.eye(3)
        x = normal(7, 6, 3, seed=3)
        expected = [other.score(s[:n]) for s, n in zip(x.numpy(), LENGTHS, strict=True)]
        np.testing.assert_allclose(evidence(module, x, LENGTHS), expected, atol=1e-8, rtol=0)

    def test_sequences_of_single_numbers_work(self) -> None:
        module, x = in_double(HMM, features=1, num_states=3), bits(7, 6)
        np.testing.assert_array_equal(evidence(module, x), evidence(module, x[..., None]))

    def test_a_fit_finds_states_as_good_as_those_of_hmmlearn(self) -> None:
        rng = np.random.default_rng(0)
        states = np.zeros((60, 12), int)
        states[:, 0] = rng.random(60) < 0.5
        for t in range(1, 12):
            states[:, t] = np.where(rng.random(60) < 0.1, 1 - states[:, t - 1], states[:, t - 1])
        x = np.where(states == 0, -1.0, 1.5) + 0.7 * rng.normal(size=states.shape)
        other = GaussianHMM(2, "tied", n_iter=200, tol=1e-6, random_state=0).fit(x.reshape(-1, 1), [12] * 60)
        best = other.score(x.reshape(-1, 1), [12] * 60) / 60
        module = in_double(HMM, features=1, num_states=2, likelihood="gaussian")
        vi = VariationalInference(module, max_epochs=100, batch_size=60, learning_rate=0.1, **FIT).fit(x)
        assert abs(evidence(vi.program, torch.from_numpy(x)).mean() - best) < 0.02
        stay = vi.program.transition.detach().softmax(-1).diagonal()
        assert ((stay > 0.8) & (stay < 0.97)).all()
