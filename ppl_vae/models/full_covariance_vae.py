"""Variational autoencoder whose posterior has a full covariance."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import Activation, FullGaussianEncoder, Likelihood, make_likelihood, mlp


class FullCovarianceVAE(nn.Module):
    r"""The model of ``VAE``, with an encoder that gives the Cholesky factor of the posterior's covariance.

    .. math::
        z \sim \mathcal N(0, I), \qquad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z)_d\bigr), \qquad
        q_\phi(z \mid x) = \mathcal N\bigl(\mu_\phi(x), L_\phi(x)\, L_\phi(x)^\top\bigr)

    Source: Kingma and Welling, An Introduction to Variational Autoencoders (2019), section 2.5.1.

    Args:
        data_dim, latent_dim, hidden, activation, likelihood: see ``VAE``.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 64), 0.5))
        >>> Program(FullCovarianceVAE(data_dim=64)).bind((x,)).log_weights((x,), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        data_dim: int = 64,
        latent_dim: int = 10,
        hidden: Sequence[int] = (256,),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = FullGaussianEncoder(data_dim, latent_dim, hidden, activation=activation)
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
            loc, scale_tril = self.encoder(x.flatten(1))
            pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=scale_tril))
