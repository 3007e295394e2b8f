"""Variational autoencoder with a VampPrior: the prior is the mixture of the posteriors of learned pseudo-inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import Activation, GaussianEncoder, GaussianMixture, Likelihood, make_likelihood, mlp

_ONTO: dict[str, type[nn.Module]] = {"unit": nn.Sigmoid, "positive": nn.Softplus, "real": nn.Identity}


class VampVAE(nn.Module):
    r"""A latent whose prior is a mixture of the posteriors of learned inputs of the encoder.

    .. math::
        z \sim \frac1K \sum_{k=1}^K q_\phi(z \mid u_k), \qquad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z)_d\bigr), \qquad
        q_\phi(z \mid x) = \mathcal N\bigl(\mu_\phi(x), \mathrm{diag}\,\sigma_\phi^2(x)\bigr)

    Source: Tomczak and Welling, VAE with a VampPrior (2018), equation 9; they use gated layers, and 500 pseudo-inputs
    for MNIST.

    Args:
        data_dim, latent_dim, hidden, activation, likelihood: see ``VAE``.
        num_pseudo: K, the number of pseudo-inputs.
        pseudo_range: range of the pseudo-inputs: unit, the unit interval, for bits; positive for counts; or real.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 64), 0.5))
        >>> Program(VampVAE(data_dim=64)).bind((x,)).log_weights((x,), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        data_dim: int = 64,
        latent_dim: int = 10,
        hidden: Sequence[int] = (256,),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
        num_pseudo: int = 100,
        pseudo_range: Literal["unit", "positive", "real"] = "unit",
    ) -> None:
        super().__init__()
        self.encoder = GaussianEncoder(data_dim, latent_dim, hidden, activation=activation)
        self.likelihood = make_likelihood(likelihood)
        self.decoder = mlp([latent_dim, *reversed(hidden), self.likelihood.outputs * data_dim], activation)
        self.raw_pseudo_inputs, self.onto_range = nn.Embedding(num_pseudo, data_dim), _ONTO[pseudo_range]()

    def prior(self) -> GaussianMixture:
        """Return the density of z."""
        return GaussianMixture(*self.encoder(self.onto_range(self.raw_pseudo_inputs.weight)))

    def model(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        pyro.module("raw_pseudo_inputs", self.raw_pseudo_inputs)
        pyro.module("decoder", self.decoder)
        pyro.module("likelihood", self.likelihood)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.likelihood(self.decoder(z)).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(x.flatten(1))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
