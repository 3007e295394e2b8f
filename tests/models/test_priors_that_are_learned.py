"""VAEs with flows as priors and with several layers of latents, against densities that are computed otherwise."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ppl_vae import InputError
from ppl_vae.models.conv_hierarchical_vae import ConvHierarchicalVAE
from ppl_vae.models.flow_prior_vae import FlowPriorVAE
from ppl_vae.models.resnet_vae import ResNetVAE
from ppl_vae.models.top_down_vae import TopDownVAE
from ppl_vae.models.vae import VAE
from ppl_vae.networks import FlowPrior, ResidualBlock, convolutions
from ppl_vae.program import Program, seeded
from tests.helpers.modules import in_double
from tests.helpers.scenarios import bits, normal

LINE = torch.linspace(-12, 12, 401, dtype=torch.double)


@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
@torch.no_grad()
def test_a_prior_is_a_density_and_its_draws_have_its_moments(kind: str) -> None:
    prior = in_double(FlowPrior, size=2, kind=kind, num_flows=2, hidden=(5,))
    grid = torch.cartesian_prod(LINE, LINE)
    density = prior().log_prob(grid).exp().reshape(401, 401)
    assert torch.trapezoid(torch.trapezoid(density, LINE), LINE).item() == pytest.approx(1, abs=1e-4)
    with seeded(0):
        draws = prior().sample((4000,))
    weights = density.reshape(-1, 1) / density.sum()
    mean = (weights * grid).sum(0)
    deviation = (weights * (grid - mean).square()).sum(0).sqrt()
    assert (draws.mean(0) - mean).abs().lt(5 * deviation / 4000**0.5).all()
    assert draws.std(0).tolist() == pytest.approx(deviation.tolist(), rel=0.15)
    assert (mean.abs() > 0.05).any()  # it is not the standard Gaussian


def test_kinds_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="flow='couplings' is unknown; did you mean 'coupling'"):
        FlowPrior(3, "couplings")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing to couple"):
        FlowPrior(1)


@torch.no_grad()
def test_a_flow_that_is_the_identity_is_the_standard_prior() -> None:
    sizes = {"data_dim": 6, "latent_dim": 2, "hidden": (8,)}
    module, vae, x = in_double(FlowPriorVAE, **sizes), in_double(VAE, **sizes), bits(4, 6)
    vae.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("prior")})
    for parameter in module.prior.parameters():
        parameter.zero_()
    weights = []
    for program in (module, vae):
        with seeded(1):
            weights.append(Program(program).bind((x,)).log_weights((x,), 5))
    torch.testing.assert_close(*weights)


@torch.no_grad()
def test_the_weights_of_two_layers_by_hand() -> None:
    module = in_double(
        ConvHierarchicalVAE, image_shape=(8, 9), latent_dims=(3, 2), channels=2, hidden=(5,), num_blocks=1, num_pseudo=4
    )
    x = bits(5, 72)
    program = Program(module).bind((x,))
    with program.running(), seeded(1):
        guide = program.traces((x,), 3).guide
    with seeded(1):
        found = program.log_weights((x,), 3)
    z_1, z_2 = (guide.nodes[name]["value"] for name in ("z1", "z2"))

    def normal_log_prob(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        return dist.Normal(loc, scale).log_prob(z).sum(-1)

    pseudo = module.encoder_2(torch.sigmoid(module.raw_pseudo_inputs.weight))
    log_p = torch.logsumexp(normal_log_prob(z_2[..., None, :], *pseudo), -1) - torch.tensor(4.0).double().log()
    log_p += normal_log_prob(z_1, *module.prior_1(z_2))
    logits = module.decoder(torch.cat([z_1, z_2], -1))
    log_p -= functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    features = module.encoder_1.convolutions(x.reshape(5, 1, 8, 9))
    lower = module.encoder_1.gaussian(torch.cat([features.expand(3, 5, -1), z_2], -1))
    log_q = normal_log_prob(z_2, *module.encoder_2(x)) + normal_log_prob(z_1, *lower)
    torch.testing.assert_close(found, log_p - log_q)


@pytest.mark.parametrize("num_pseudo", [0, 4])
@torch.no_grad()
def test_the_weights_of_a_path_downwards_by_hand(num_pseudo: int) -> None:
    module = in_double(TopDownVAE, data_dim=6, latent_dims=(4, 3, 2), width=5, num_pseudo=num_pseudo)
    x = bits(5, 6)
    program = Program(module).bind((x,))
    with program.running(), seeded(1):
        guide = program.traces((x,), 3).guide
    with seeded(1):
        found = program.log_weights((x,), 3)

    def upwards(x: Tensor) -> list[Tensor]:
        up_1 = module.upward[0](x)
        up_2 = module.upward[1](up_1)
        return [up_1, up_2, module.upward[2](up_2)]

    ups, h, weights = upwards(x), module.top.weight.expand(3, 5, 5), torch.zeros(3, 5).double()
    for number in (2, 1, 0):
        z = guide.nodes[f"z{number + 1}"]["value"]
        if num_pseudo and number == 2:
            pseudo = upwards(torch.sigmoid(module.raw_pseudo_inputs.weight))[2]
            components = dist.Normal(*module.encoders[2](torch.cat([h[0, :1].expand(4, 5), pseudo], -1)))
            log_prior = components.log_prob(z[..., None, :]).sum(-1).logsumexp(-1) - math.log(4)
        else:
            log_prior = dist.Normal(*module.priors[number](h)).log_prob(z).sum(-1)
        posterior = dist.Normal(*module.encoders[number](torch.cat([h, ups[number].expand(3, 5, 5)], -1)))
        weights += log_prior - posterior.log_prob(z).sum(-1)
        h = h + module.path[number](torch.cat([h, z], -1))
    logits = module.decoder(h)
    weights -= functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    torch.testing.assert_close(found, weights)


def test_residual_blocks_are_near_the_identity_at_first_and_have_normalised_weights() -> None:
    with seeded(0):
        block = ResidualBlock(3).double()
    x = normal(2, 3, 7, 8)
    with torch.no_grad():
        assert (block(x) - x).norm() < 0.2 * x.norm()
        before = block(x)
        for convolution in (block.layers[1], block.layers[3]):
            convolution.weight.mul_(7)  # a direction has no length
        torch.testing.assert_close(block(x), before)
    network, features = convolutions((1, 28, 28), channels=2, num_blocks=2)
    assert network(torch.zeros(5, 1, 28, 28)).shape == (5, features)
    assert sum(isinstance(layer, ResidualBlock) for layer in network) == 4


def test_the_prior_of_a_residual_network_may_be_a_flow() -> None:
    for prior, kind in (("normal", None), ("coupling", FlowPrior), ("autoregressive", FlowPrior)):
        module = ResNetVAE(channels=2, hidden=(4,), num_blocks=1, latent_dim=2, prior=prior)  # type: ignore[arg-type]
        assert type(module.prior) is (kind or type(None))
