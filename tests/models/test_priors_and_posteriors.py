"""VAEs with richer priors and posteriors, compared with densities that are computed in another way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import stats
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor, nn

from ppl_vae import InputError, VariationalInference
from ppl_vae.models.flow_vae import FlowVAE
from ppl_vae.models.full_covariance_vae import FullCovarianceVAE
from ppl_vae.models.hierarchical_vae import HierarchicalVAE
from ppl_vae.models.mixture_prior_vae import MixturePriorVAE
from ppl_vae.models.vae import VAE
from ppl_vae.models.vamp_vae import VampVAE
from ppl_vae.networks import (
    GaussianMixture,
    InverseAutoregressiveFlow,
    cholesky_factor,
    mlp,
    product_of_gaussians,
)
from ppl_vae.program import BoundProgram, Program, seeded
from tests.helpers.modules import in_double
from tests.helpers.scenarios import bits, normal

Posterior = Literal["bottom-up", "ladder"]
SIZES = {"data_dim": 6, "latent_dim": 2, "hidden": (8, 7)}


def drawn(
    program: BoundProgram, batch: tuple[Tensor, ...], num_samples: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return draws from the guide by site, and the log weights of the same draws."""
    with torch.no_grad(), program.running(), seeded(1):
        guide = program.traces(batch, num_samples).guide
    with torch.no_grad(), seeded(1):
        weights = program.log_weights(batch, num_samples)
    latents = program.structure.latents
    return {name: guide.nodes[name]["value"].numpy() for name in latents}, weights.numpy()


def log_prior(module: nn.Module, z: Tensor) -> Tensor:
    """Return the distribution at site z of the model."""
    x = z.new_zeros(len(z), 6)
    with pyro.get_param_store().scope():
        trace = poutine.trace(poutine.condition(module.model, {"z": z})).get_trace(x)
    return trace.nodes["z"]["fn"].log_prob(z)


def log_normal(value: np.ndarray, parameters: tuple[Tensor, Tensor]) -> np.ndarray:
    loc, scale = (p.detach().numpy() for p in parameters)
    return stats.norm.logpdf(value, loc, scale).sum(-1)


def log_bernoulli(x: Tensor, logits: Tensor) -> np.ndarray:
    return stats.bernoulli.logpmf(x.numpy(), torch.sigmoid(logits).detach().numpy()).sum(-1)


def assert_same_weights(program: nn.Module, vae: VAE, batch: tuple[Tensor, ...] = (bits(21, 6),)) -> None:
    """Assert that a program has the same log weights as the VAE on the same draws."""
    (ours, theirs) = (drawn(Program(each).bind(batch), batch, 5) for each in (program, vae))
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-10)


class TestNetworks:
    def test_a_gated_layer_is_a_product(self) -> None:
        net, x = in_double(mlp, sizes=[3, 4, 2], activation="gated"), normal(5, 3)
        a, b = net[0].weight.split(4)
        a_0, b_0 = net[0].bias.split(4)
        hidden = (x @ a.T + a_0) / (1 + torch.exp(-(x @ b.T + b_0)))
        torch.testing.assert_close(net(x), hidden @ net[2].weight.T + net[2].bias)

    def test_the_product_of_two_gaussians_is_right_up_to_a_constant(self) -> None:
        first, second = (torch.tensor(0.3), torch.tensor(0.7)), (torch.tensor(-2.0), torch.tensor(0.2))
        z = torch.linspace(-3, 3, 50)
        log_product = dist.Normal(*first).log_prob(z) + dist.Normal(*second).log_prob(z)
        rest = log_product - dist.Normal(*product_of_gaussians(first, second)).log_prob(z)
        torch.testing.assert_close(rest, rest[:1].expand(50), rtol=1e-4, atol=1e-3)

    def test_a_cholesky_factor_is_triangular_with_a_positive_diagonal(self) -> None:
        raw = normal(7, 5, 6)
        factor = cholesky_factor(raw)
        assert torch.equal(factor, factor.tril())
        assert (factor.diagonal(dim1=-2, dim2=-1) > 0).all()
        torch.testing.assert_close(factor[..., 2, :2], raw[..., 4:])
        torch.testing.assert_close(torch.linalg.cholesky(factor @ factor.mT), factor)


class TestGaussianMixture:
    def test_density_equals_pyro(self) -> None:
        loc, scale, z = normal(50, 4), normal(50, 4).exp(), normal(7, 5, 4)
        components = dist.Normal(loc, scale).to_event(1)
        expected = dist.MixtureSameFamily(dist.Categorical(logits=torch.zeros(50).double()), components).log_prob(z)
        torch.testing.assert_close(GaussianMixture(loc, scale).log_prob(z), expected, rtol=1e-10, atol=0)
        assert GaussianMixture(loc, scale).expand([7, 5]).log_prob(z).shape == (7, 5)

    def test_narrow_components_are_accurate_in_single_precision(self) -> None:
        loc, scale = 3 * normal(20, 30).float(), torch.full((20, 30), 1e-3)
        z = loc + scale * normal(20, 30).float()
        expected = dist.Normal(loc.double(), scale.double()).to_event(1).log_prob(z.double()) - math.log(20)
        torch.testing.assert_close(GaussianMixture(loc, scale).log_prob(z).double(), expected, rtol=1e-5, atol=0)

    def test_draws_have_the_moments_of_the_mixture(self) -> None:
        loc, scale = normal(3, 2), normal(3, 2).exp()
        mixture = GaussianMixture(loc, scale)
        with seeded(0):
            z = mixture.expand([5]).sample([40_000]).flatten(0, 1)
        second = (scale**2 + loc**2).mean(0)
        for draws, expected in ((z, loc.mean(0)), (z**2, second)):
            error = draws.std(0) / len(z) ** 0.5
            assert ((draws.mean(0) - expected).abs() < 4 * error).all()
        torch.testing.assert_close(mixture.mean, loc.mean(0))


class TestMixturePriorVAE:
    def test_prior_equals_the_mixture_of_scikit_learn(self) -> None:
        module = in_double(MixturePriorVAE, **SIZES, num_components=3)
        data = torch.cat([normal(50, 2) @ normal(2, 2) + 3 * i for i in range(3)]).numpy()
        fitted = SklearnMixture(3, random_state=0).fit(data)
        factors = torch.linalg.cholesky(torch.from_numpy(fitted.covariances_))
        with torch.no_grad():
            module.prior["logits"].copy_(torch.from_numpy(fitted.weights_).log() + 5)
            module.prior["loc"].copy_(torch.from_numpy(fitted.means_))
            module.prior["raw_tril"][:, :2] = (factors.diagonal(dim1=1, dim2=2) - 1e-4).expm1().log()
            module.prior["raw_tril"][:, 2] = factors[:, 1, 0]
            found = log_prior(module, torch.from_numpy(data))
        np.testing.assert_allclose(found.numpy(), fitted.score_samples(data), rtol=1e-8)

    def test_equals_the_vae_with_one_standard_component(self) -> None:
        module, vae = in_double(MixturePriorVAE, **SIZES, num_components=1), in_double(VAE, **SIZES)
        vae.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("prior")})
        with torch.no_grad():
            module.prior["loc"].zero_()
            module.prior["raw_tril"][:, :2] = math.log(math.expm1(1 - 1e-4))
        assert_same_weights(module, vae)

    def test_the_initial_prior_is_near_a_standard_normal(self) -> None:
        module = in_double(MixturePriorVAE, **SIZES, num_components=1000)
        with torch.no_grad():
            loc, variance = module.prior["loc"], cholesky_factor(module.prior["raw_tril"]).square().sum(-1)
            assert (loc.mean(0).abs() < 0.1).all()
            assert ((variance.mean(0) + loc.var(0) - 1).abs() < 0.1).all()


class TestVampVAE:
    @pytest.mark.parametrize("pseudo_range", ["unit", "positive", "real"])
    def test_log_weights_equal_those_written_by_hand(self, pseudo_range: str) -> None:
        module, x = in_double(VampVAE, **SIZES, num_pseudo=4, pseudo_range=pseudo_range), bits(21, 6)
        draws, weights = drawn(Program(module).bind((x,)), (x,), 3)
        raw = module.raw_pseudo_inputs.weight
        inputs = {"unit": 1 / (1 + (-raw).exp()), "positive": (1 + raw.exp()).log(), "real": raw}[pseudo_range]
        prior = logsumexp([log_normal(draws["z"], module.encoder(u)) for u in inputs], axis=0) - math.log(4)
        likelihood = log_bernoulli(x, module.decoder(torch.from_numpy(draws["z"])))
        expected = prior + likelihood - log_normal(draws["z"], module.encoder(x))
        np.testing.assert_allclose(weights, expected, rtol=1e-10)

    def test_data_as_pseudo_inputs_give_the_aggregated_posterior(self) -> None:
        x, z = normal(30, 6), normal(9, 2)
        module = in_double(VampVAE, **SIZES, likelihood="gaussian", num_pseudo=30, pseudo_range="real")
        with torch.no_grad():
            module.raw_pseudo_inputs.weight.copy_(x)
            q = dist.Normal(*(p[:, None] for p in module.encoder(x))).to_event(1)
            torch.testing.assert_close(log_prior(module, z), q.log_prob(z).logsumexp(0) - math.log(30))

    def test_the_prior_has_gradients_in_pseudo_inputs_and_encoder(self) -> None:
        module = in_double(VampVAE, **SIZES, num_pseudo=4)
        log_prior(module, normal(9, 2)).sum().backward()
        assert module.raw_pseudo_inputs.weight.grad.abs().sum(1).min() > 0
        assert all(p.grad.abs().sum() > 0 for p in module.encoder.parameters())


class TestHierarchicalVAE:
    @staticmethod
    def log_guide(module: HierarchicalVAE, x: Tensor, z: Sequence[np.ndarray]) -> np.ndarray:
        z_1, z_2, z_3 = (torch.from_numpy(each) for each in z)
        encode_1, encode_2, encode_3 = module.encoders
        if module.posterior == "bottom-up":
            inputs = (x, z_1, z_2)
            return sum(log_normal(v, net(i)) for v, net, i in zip(z, module.encoders, inputs, strict=True))
        d_1 = encode_1.net[:-1](x)
        d_2 = encode_2.net[:-1](d_1)
        hats = [(x, encode_1), (d_1, encode_2), (d_2, encode_3)]
        total = log_normal(z[2], encode_3(d_2))
        for value, above, (below, net), prior in zip(z, (z_2, z_3), hats, module.priors, strict=False):
            (m, s), (m_p, s_p) = net(below), prior(above)
            variance = (s * s_p) ** 2 / (s**2 + s_p**2)
            total = total + log_normal(value, ((m * s_p**2 + m_p * s**2) / (s**2 + s_p**2), variance.sqrt()))
        return total

    @pytest.mark.parametrize("posterior", ["bottom-up", "ladder"])
    def test_log_weights_equal_those_written_by_hand(self, posterior: Posterior) -> None:
        sizes = {"data_dim": 6, "latent_dims": (4, 3, 2), "hidden": ((8, 7), (5,), (6,))}
        module, x = in_double(HierarchicalVAE, **sizes, posterior=posterior), bits(21, 6)
        draws, weights = drawn(Program(module).bind((x,)), (x,), 3)
        z = [draws[f"z{level}"] for level in (1, 2, 3)]
        log_joint = log_normal(z[2], (torch.tensor(0.0), torch.tensor(1.0)))
        for value, above, prior in zip(z, z[1:], module.priors, strict=False):
            log_joint = log_joint + log_normal(value, prior(torch.from_numpy(above)))
        log_joint = log_joint + log_bernoulli(x, module.decoder(torch.from_numpy(z[0])))
        np.testing.assert_allclose(weights, log_joint - self.log_guide(module, x, z), rtol=1e-10)

    @pytest.mark.parametrize("posterior", ["bottom-up", "ladder"])
    def test_one_layer_equals_the_vae(self, posterior: Posterior) -> None:
        module = in_double(HierarchicalVAE, data_dim=6, latent_dims=(2,), hidden=((8, 7),), posterior=posterior)
        vae = in_double(VAE, **SIZES)
        vae.load_state_dict({k.replace("encoders.0", "encoder"): v for k, v in module.state_dict().items()})
        draws, weights = drawn(Program(module).bind((bits(21, 6),)), (bits(21, 6),), 5)
        expected = drawn(Program(vae).bind((bits(21, 6),)), (bits(21, 6),), 5)
        np.testing.assert_array_equal(draws["z1"], expected[0]["z"])
        np.testing.assert_allclose(weights, expected[1], rtol=1e-12)

    @pytest.mark.parametrize("posterior", ["bottom-up", "ladder"])
    def test_exact_posterior_of_a_linear_gaussian_chain(self, posterior: Posterior) -> None:
        """Both guides can equal the posterior; then every log weight is the evidence."""
        a, b, s, c, d, t = 1.3, -0.4, 0.6, 0.8, 0.2, 0.5
        sizes = {"data_dim": 1, "latent_dims": (1, 1), "hidden": ((), ()), "likelihood": f"gaussian:{t}"}
        module, x = in_double(HierarchicalVAE, **sizes, posterior=posterior), normal(21, 1)
        variance_1 = a**2 + s**2  # of z1, before the data
        variance_x = c**2 * variance_1 + t**2
        mean_x = c * b + d

        def set_linear(net: nn.Sequential, slope: float, origin: float, scale: float | None = None) -> None:
            """Set a network to N(origin + slope * input, scale)."""
            net[-1].weight.copy_(torch.tensor([[slope], [0.0]][: len(net[-1].weight)]))
            net[-1].bias.copy_(torch.tensor([origin, math.log(math.expm1((scale or 1) - 1e-4))][: len(net[-1].bias)]))

        with torch.no_grad():
            set_linear(module.priors[0].net, a, b, s)
            set_linear(module.decoder, c, d)
            first, second = (encoder.net for encoder in module.encoders)
            if posterior == "bottom-up":
                gain = c * variance_1 / variance_x
                set_linear(first, gain, b - gain * mean_x, (variance_1 * t**2 / variance_x) ** 0.5)
                set_linear(second, a / variance_1, -a * b / variance_1, (s**2 / variance_1) ** 0.5)
            else:
                gain = a * c / variance_x
                set_linear(first, 1 / c, -d / c, t / c)
                set_linear(second, gain, -gain * mean_x, ((c**2 * s**2 + t**2) / variance_x) ** 0.5)
        expected = stats.norm.logpdf(x[:, 0], mean_x, variance_x**0.5)
        weights = drawn(Program(module).bind((x,)), (x,), 4)[1]
        np.testing.assert_allclose(weights, np.tile(expected, (4, 1)), rtol=1e-5)


class TestFullCovarianceVAE:
    def test_log_weights_equal_those_written_by_hand(self) -> None:
        module, x = in_double(FullCovarianceVAE, **SIZES), bits(21, 6)
        draws, weights = drawn(Program(module).bind((x,)), (x,), 3)
        z = draws["z"]
        loc, factor = (p.detach().numpy() for p in module.encoder(x))
        assert np.abs(factor[:, 1, 0]).min() > 1e-4
        posteriors = [stats.multivariate_normal(m, f @ f.T) for m, f in zip(loc, factor, strict=True)]
        log_q = np.stack([q.logpdf(z[:, i]) for i, q in enumerate(posteriors)], -1)
        log_joint = stats.norm.logpdf(z).sum(-1) + log_bernoulli(x, module.decoder(torch.from_numpy(z)))
        np.testing.assert_allclose(weights, log_joint - log_q, rtol=1e-9)

    def test_equals_the_vae_with_a_diagonal_factor(self) -> None:
        module, vae = in_double(FullCovarianceVAE, **SIZES), in_double(VAE, **SIZES)
        with torch.no_grad():
            for parameter in (module.encoder.net[-1].weight, module.encoder.net[-1].bias):
                parameter[4:] = 0
        last = {f"encoder.net.4.{name}" for name in ("weight", "bias")}
        vae.load_state_dict({k: v[:4] if k in last else v for k, v in module.state_dict().items()})
        assert_same_weights(module, vae)

    def test_the_guide_can_equal_the_posterior_of_a_linear_model(self) -> None:
        """Then every log weight is the evidence; a diagonal posterior loses a known divergence."""
        x, w, b, noise = normal(21, 6), normal(6, 1) + 0.5 * normal(6, 2), normal(6), 0.7
        precision = torch.eye(2).double() + w.T @ w / noise**2
        covariance = torch.linalg.inv(precision)
        gain = covariance @ w.T / noise**2
        options = {"data_dim": 6, "latent_dim": 2, "hidden": (), "likelihood": f"gaussian:{noise}"}
        full, diagonal = in_double(FullCovarianceVAE, **options), in_double(VAE, **options)
        factor, deviation = torch.linalg.cholesky(covariance), precision.diagonal() ** -0.5

        def inverse_softplus(scale: Tensor) -> Tensor:
            return (scale - 1e-4).expm1().log()

        rows = {
            full: [inverse_softplus(factor.diagonal()), factor[1, :1]],
            diagonal: [inverse_softplus(deviation)],
        }
        with torch.no_grad():
            for module, spread in rows.items():
                module.decoder[0].weight.copy_(w)
                module.decoder[0].bias.copy_(b)
                module.encoder.net[0].weight.zero_()
                module.encoder.net[0].weight[:2] = gain
                module.encoder.net[0].bias.copy_(torch.cat([-gain @ b, *spread]))
        marginal = w @ w.T + noise**2 * torch.eye(6).double()
        evidence = stats.multivariate_normal(b.numpy(), marginal.numpy()).logpdf(x.numpy())
        weights = drawn(Program(full).bind((x,)), (x,), 4)[1]
        np.testing.assert_allclose(weights, np.tile(evidence, (4, 1)), rtol=1e-10)
        weights = drawn(Program(diagonal).bind((x,)), (x,), 20_000)[1]
        gap = (precision.diagonal().log().sum() - torch.logdet(precision)).item() / 2
        error = weights.std(0) / len(weights) ** 0.5
        assert gap > 0.1
        assert (np.abs(evidence - weights.mean(0) - gap) < 4 * error).all()

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*requires_grad=False")
    def test_the_elbo_is_higher_for_correlated_posteriors_after_training(self) -> None:
        rng = np.random.default_rng(0)
        loading = np.array([[1.0, 0.3], [0.3, 1.0], [1.0, 1.0], [0.3, 1.0], [1.0, 0.3], [0.9, 0.9]])
        x = rng.normal(size=(400, 2)) @ loading.T + 0.7 * rng.normal(size=(400, 6))
        elbo = {}
        for cls in (VAE, FullCovarianceVAE):
            module = in_double(cls, data_dim=6, latent_dim=2, hidden=(), likelihood="gaussian:0.7")
            with torch.no_grad():
                module.decoder[0].weight.copy_(torch.from_numpy(loading))
                module.decoder[0].bias.zero_()
            module.decoder.requires_grad_(False)  # else the loading turns until a diagonal posterior fits
            vi = VariationalInference(module, max_epochs=150, learning_rate=0.02, validation_fraction=0)
            elbo[cls] = vi.fit(x).evaluate(x).score()["elbo"]
        precision = np.eye(2) + loading.T @ loading / 0.7**2
        gap = (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1]) / 2
        assert gap > 0.2
        assert elbo[FullCovarianceVAE] - elbo[VAE] == pytest.approx(gap, abs=0.02)


class TestFlowVAE:
    @pytest.fixture
    def flow(self) -> InverseAutoregressiveFlow:
        """Return a flow with maps that are far from the identity."""
        flow = in_double(InverseAutoregressiveFlow, size=2, context_dim=3, num_flows=3, hidden=(16, 16))
        with torch.no_grad():
            for each in flow.maps:
                each.nn.layers[-1].weight.mul_(3)
        return flow

    def test_density_equals_that_of_the_jacobian(self, flow: InverseAutoregressiveFlow) -> None:
        base, context = dist.Normal(normal(2), normal(2).exp()).to_event(1), normal(3)
        for noise in normal(5, 2):
            q = flow(base, context)

            def forward(start: Tensor, q: dist.TransformedDistribution = q) -> Tensor:
                for transform in q.transforms:
                    start = transform(start)
                return start

            jacobian = torch.autograd.functional.jacobian(forward, noise)
            assert jacobian.abs().min() > 1e-3  # the order is turned round: each number depends on each
            expected = base.log_prob(noise) - torch.linalg.slogdet(jacobian)[1]
            torch.testing.assert_close(q.log_prob(forward(noise)), expected)

    def test_density_at_given_points_equals_that_of_draws(self, flow: InverseAutoregressiveFlow) -> None:
        q = flow(dist.Normal(torch.zeros(5, 2).double(), 1.0).to_event(1), normal(5, 3))
        with torch.no_grad(), seeded(0):
            z = q.rsample((7,))
            at_draws = q.log_prob(z)
            again = flow(dist.Normal(torch.zeros(5, 2).double(), 1.0).to_event(1), normal(5, 3)).log_prob(z.clone())
        torch.testing.assert_close(again, at_draws)

    def test_density_integrates_to_one(self, flow: InverseAutoregressiveFlow) -> None:
        line = torch.linspace(-12, 12, 801, dtype=torch.double)
        with torch.no_grad():
            q = flow(dist.Normal(torch.zeros(2).double(), 1.0).to_event(1), normal(3))
            density = q.log_prob(torch.cartesian_prod(line, line)).exp().reshape(801, 801)
        assert torch.trapezoid(torch.trapezoid(density, line), line).item() == pytest.approx(1, abs=1e-4)
        assert density[0].max() < 1e-8  # the square holds all of it
        assert density[:, 0].max() < 1e-8

    def test_equals_the_vae_with_identity_maps(self) -> None:
        module, vae = in_double(FlowVAE, **SIZES), in_double(VAE, **SIZES)
        vae.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("flow")})
        with torch.no_grad():
            for each in module.flow.maps:
                each.nn.layers[-1].weight.zero_()
                each.nn.layers[-1].bias.zero_()
        assert_same_weights(module, vae)

    def test_weights_at_given_points_can_be_traced(self) -> None:
        """Annealing from the guide needs this: the inverse computes number by number, but reads no value."""
        module, x, z = in_double(FlowVAE, **SIZES), bits(4, 6), normal(4, 2)

        def log_q(z: Tensor) -> Tensor:
            with pyro.get_param_store().scope(), pyro.validation_enabled(False):
                trace = poutine.trace(poutine.condition(module.guide, {"z": z})).get_trace(x)
                return trace.nodes["z"]["fn"].log_prob(z)

        graph = torch.fx.experimental.proxy_tensor.make_fx(log_q)(z)
        torch.testing.assert_close(graph(z + 1), log_q(z + 1))

    def test_layers_that_are_too_narrow_are_rejected(self) -> None:
        with pytest.raises(InputError, match="a flow of 10 numbers has a hidden layer of 4"):
            FlowVAE(latent_dim=10, flow_hidden=(16, 4))
