"""Variational autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import Activation, GaussianEncoder, Likelihood, make_likelihood, mlp


class VAE(nn.Module):
    r"""A Gaussian latent that an MLP decodes into independent numbers.

    .. math::
        z \sim \mathcal N(0, I), \qquad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z)_d\bigr), \qquad
        q_\phi(z \mid x) = \mathcal N\bigl(\mu_\phi(x), \mathrm{diag}\,\sigma_\phi^2(x)\bigr)

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), section 3 and appendix C.1.

    Args:
        data_dim: size of a datum. A datum of any shape is flattened.
        latent_dim: size of the latent z.
        hidden: widths of the encoder's hidden layers. The decoder has them in reverse.
        activation: nonlinearity after each hidden layer.
        likelihood: likelihood, such as bernoulli or gaussian. It is that of a number of a datum: bernoulli, gaussian
            (gaussian:0.5, gaussian:decoded), categorical:10, poisson, negative-binomial, rounded-log-normal,
            zero-inflated-poisson and others; see ``ppl_vae.networks.make_likelihood``.
        encoder_dropout: share of the encoder's hidden units to drop. Every step of training sets other units to zero,
            so that the encoder overfits less.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 64), 0.5))
        >>> Program(VAE(data_dim=64)).bind((x,)).log_weights((x,), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        data_dim: int = 64,
        latent_dim: int = 10,
        hidden: Sequence[int] = (256,),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
        encoder_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = GaussianEncoder(data_dim, latent_dim, hidden, activation=activation, dropout=encoder_dropout)
        self.likelihood = make_likelihood(likelihood)
        self.decoder = mlp([latent_dim, *reversed(hidden), self.likelihood.outputs * data_dim], activation)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        pyro.module("likelihood", self.likelihood)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(self.decoder(z)).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(x.flatten(1))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
