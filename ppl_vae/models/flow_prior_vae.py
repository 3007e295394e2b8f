"""Variational autoencoder whose prior is a normalizing flow."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import Activation, FlowKind, FlowPrior, GaussianEncoder, Likelihood, make_likelihood, mlp


class FlowPriorVAE(nn.Module):
    r"""A latent whose prior is learned: invertible maps carry it to a standard Gaussian.

    .. math::
        p_\theta(z) = \mathcal N\bigl(f_\theta(z); 0, I\bigr)\,
        \Bigl\lvert \det \frac{\partial f_\theta(z)}{\partial z} \Bigr\rvert, \qquad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z)_d\bigr), \qquad
        q_\phi(z \mid x) = \mathcal N\bigl(\mu_\phi(x), \mathrm{diag}\,\sigma_\phi^2(x)\bigr)

    Source: Chen et al., Variational Lossy Autoencoder (2017), section 3.2, for an autoregressive prior; Huang et al.,
    Learnable Explicit Density for Continuous Latent Space and Variational Inference (2017), for coupling.

    Args:
        data_dim, latent_dim, hidden, activation, likelihood: see ``VAE``.
        flow: kind of the maps of the prior, coupling or autoregressive; see ``ppl_vae.networks.FlowPrior``.
        num_flows: number of maps of the prior.
        flow_hidden: widths of the hidden layers of each map's network.
        encoder_dropout: see ``VAE``.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 64), 0.5))
        >>> Program(FlowPriorVAE(data_dim=64)).bind((x,)).log_weights((x,), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        data_dim: int = 64,
        latent_dim: int = 10,
        hidden: Sequence[int] = (256,),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
        flow: FlowKind = "coupling",
        num_flows: int = 4,
        flow_hidden: Sequence[int] = (128,),
        encoder_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.prior = FlowPrior(latent_dim, flow, num_flows, flow_hidden)
        self.encoder = GaussianEncoder(data_dim, latent_dim, hidden, activation=activation, dropout=encoder_dropout)
        self.likelihood = make_likelihood(likelihood)
        self.decoder = mlp([latent_dim, *reversed(hidden), self.likelihood.outputs * data_dim], activation)

    def model(self, x: Tensor) -> None:
        pyro.module("prior", self.prior)
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
