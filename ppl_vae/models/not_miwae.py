"""Variational autoencoder of data that are not missing at random."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.networks import Activation, GaussianEncoder, mlp


class NotMIWAE(nn.Module):
    r"""A latent that is decoded into independent Gaussian numbers, and a number that is seen or not by its own value.

    .. math::
        z \sim \mathcal N(0, I), \quad x_d \mid z \sim \mathcal N\bigl(\mathrm{MLP}_\theta(z)_d, \sigma_d^2\bigr), \quad
        s_d \mid x_d \sim \mathrm{Bernoulli}\bigl(\mathrm{sigmoid}(a_d - w_d x_d)\bigr), \qquad
        q(z, x_{\mathrm{mis}} \mid x_{\mathrm{obs}}, s) = q_\phi(z \mid \tilde x, s)\, p_\theta(x_{\mathrm{mis}} \mid z)

    ``x_mask`` is s: true for a number that was seen. A missing number is a latent of the model, so that the density of
    the data is :math:`p(x_{\mathrm{obs}}, s)`. With w = 0 the numbers are missing at random, and the model is MIWAE's.
    ``bound="iwae"`` trains it as in the source.

    Source: Ipsen, Mattei and Frellsen, not-MIWAE: Deep Generative Modelling with Missing not at Random Data (2021),
    section 3, equation 9, with the self-masking model of section 4.1.

    Args:
        data_dim: number of variables of a datum.
        latent_dim: size of the latent z.
        hidden: widths of the hidden layers from x to z; the decoder has them in reverse. Empty is a linear model.
        activation: the nonlinearity after each hidden layer.

    Example:
        >>> from ppl_vae.program import Program
        >>> x, mask = torch.zeros(5, 4), torch.tensor([True, True, True, False]).expand(5, 4)
        >>> definition = Program(NotMIWAE(data_dim=4, latent_dim=1))
        >>> program = definition.bind((x, mask), arguments=["x", "x_mask"], masked=["x"])
        >>> program.log_weights((x, mask), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self, data_dim: int = 64, latent_dim: int = 10, hidden: Sequence[int] = (128,), activation: Activation = "tanh"
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = GaussianEncoder(2 * data_dim, latent_dim, hidden, activation=activation)
        self.decoder = mlp([latent_dim, *reversed(hidden), data_dim], activation)
        self.log_noise = nn.Parameter(torch.zeros(data_dim))
        self.intercept, self.slope = (nn.Parameter(torch.zeros(data_dim)) for _ in range(2))

    def model(self, x: Tensor, x_mask: Tensor) -> None:
        pyro.module("not_miwae", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            of_x = dist.Normal(self.decoder(z), self.log_noise.exp()).to_event(1)
            x = pyro.sample("x", of_x, obs=x)
            whole = torch.where(x_mask, x, pyro.sample("missing", of_x))  # a draw beside a number that was seen is idle
            seen = dist.Bernoulli(logits=self.intercept - self.slope * whole).to_event(1)
            pyro.sample("seen", seen, obs=x_mask.to(x.dtype))

    def guide(self, x: Tensor, x_mask: Tensor) -> None:
        pyro.module("not_miwae", self)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(torch.cat([x, x_mask.to(x.dtype)], -1))
            z = pyro.sample("z", dist.Normal(loc, scale).to_event(1))
            pyro.sample("missing", dist.Normal(self.decoder(z), self.log_noise.exp()).to_event(1))
