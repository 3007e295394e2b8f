"""Test programs that treat a value computed for each datum as a latent."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.models.autoencoder import Autoencoder
from ppl_vae.models.normal import Normal
from ppl_vae.models.vae import VAE
from ppl_vae.program import Coordinates, Program, posterior_moments, seeded, with_code


def test_the_latent_is_the_code_and_decodes_to_the_reconstruction() -> None:
    torch.manual_seed(0)
    module, x = Autoencoder(data_dim=6, latent_dim=2, hidden=(5,)).double(), torch.rand(7, 6).double()
    program = Program(module).bind((x,))
    coded = with_code(program, (x,))
    assert coded is not None
    code = module.encoder(x)
    actual = posterior_moments(coded, (x,), 3)
    torch.testing.assert_close(actual.mean["z"], code.detach())
    assert (actual.sd["z"] == 0).all()
    coordinates = Coordinates(coded)
    point = coordinates.locate((x,), coded.posterior((x,), 5).latents)
    means = coordinates.predict((x,), point).means["x"]
    expected = torch.sigmoid(module.decoder(code)).detach()
    torch.testing.assert_close(means, expected.expand(5, 7, 6))
    loc, scale = coordinates.prior((x,))
    torch.testing.assert_close(loc, code.mean(0).detach().expand(7, 2))
    torch.testing.assert_close(scale, code.std(0, correction=0).detach().expand(7, 2))


def test_a_moved_code_is_decoded() -> None:
    torch.manual_seed(1)
    module, x = Autoencoder(data_dim=4, latent_dim=3, hidden=()).double(), torch.rand(2, 4).double()
    coded = with_code(Program(module).bind((x,)), (x,))
    assert coded is not None
    coordinates = Coordinates(coded)
    point = coordinates.locate((x,), coded.posterior((x,)).latents)
    moved = point._replace(u=point.u + torch.tensor([0.0, 2.0, 0.0]))
    expected = torch.sigmoid(module.decoder(module.encoder(x) + torch.tensor([0.0, 2.0, 0.0]).double())).detach()
    torch.testing.assert_close(coordinates.predict((x,), moved).means["x"][0], expected)


def test_the_original_program_does_not_change() -> None:
    module, x = Autoencoder(data_dim=6, latent_dim=2), torch.rand(7, 6).round()
    program = Program(module).bind((x,))
    before = program.log_weights((x,))
    coded = with_code(program, (x,))
    assert coded is not None
    with seeded(0):
        coded.posterior((x,), 2)
    torch.testing.assert_close(program.log_weights((x,)), before, rtol=0, atol=0)
    assert program.structure.latents == ()


class Summaries(nn.Module):
    """A program without latents, whose recorded values lie outside the plate or are whole numbers."""

    def model(self, x: Tensor) -> None:
        pyro.deterministic("total", x.sum())
        with pyro.plate("data", len(x)):
            pyro.deterministic("count", (x > 0).sum(-1))
            pyro.sample("x", dist.Normal(x.new_zeros(3), 1.0).to_event(1), obs=x)


def test_a_program_with_latents_or_without_a_code_has_none() -> None:
    x = torch.rand(5, 3)
    assert with_code(Program(VAE(data_dim=3)).bind((x,)), (x,)) is None
    assert with_code(Program(Normal(data_dim=3)).bind((x,)), (x,)) is None
    assert with_code(Program(Summaries()).bind((x,)), (x,)) is None
