"""Variational autoencoder whose prior is a learned mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.networks import Activation, GaussianEncoder, Likelihood, cholesky_factor, make_likelihood, mlp


class MixturePriorVAE(nn.Module):
    r"""A latent whose prior is a mixture of Gaussians with learned weights, means and full covariances.

    .. math::
        z \sim \sum_{k=1}^K \pi_k\, \mathcal N(\mu_k, L_k L_k^\top), \qquad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z)_d\bigr), \qquad
        q_\phi(z \mid x) = \mathcal N\bigl(\mu_\phi(x), \mathrm{diag}\,\sigma_\phi^2(x)\bigr)

    The mean and the variance of the mixture start near those of a standard normal.

    Source: Jiang et al., Variational Deep Embedding (2017), section 3.1, there with diagonal covariances and a guide
    of the component; here the component is summed out, as in Tomczak and Welling, VAE with a VampPrior (2018), "MoG".

    Args:
        data_dim, latent_dim, hidden, activation, likelihood: see ``VAE``.
        num_components: K, the number of components.

    Example:
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 64), 0.5))
        >>> Program(MixturePriorVAE(data_dim=64)).bind((x,)).log_weights((x,), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        data_dim: int = 64,
        latent_dim: int = 10,
        hidden: Sequence[int] = (256,),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
        num_components: int = 10,
    ) -> None:
        super().__init__()
        self.encoder = GaussianEncoder(data_dim, latent_dim, hidden, activation=activation)
        self.likelihood = make_likelihood(likelihood)
        self.decoder = mlp([latent_dim, *reversed(hidden), self.likelihood.outputs * data_dim], activation)
        self.prior = nn.ParameterDict(
            {
                "logits": torch.zeros(num_components),
                "loc": 0.72 * torch.randn(num_components, latent_dim),
                "raw_tril": torch.zeros(num_components, latent_dim * (latent_dim + 1) // 2),
            }
        )

    def model(self, x: Tensor) -> None:
        pyro.module("prior", self.prior)
        pyro.module("decoder", self.decoder)
        pyro.module("likelihood", self.likelihood)
        weights = dist.Categorical(logits=self.prior["logits"])
        components = dist.MultivariateNormal(self.prior["loc"], scale_tril=cholesky_factor(self.prior["raw_tril"]))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MixtureSameFamily(weights, components))
            pyro.sample("x", self.likelihood(self.decoder(z)).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(x.flatten(1))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
