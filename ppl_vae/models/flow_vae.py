"""Variational autoencoder whose posterior is a Gaussian that a normalizing flow transforms."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import Activation, GaussianEncoder, InverseAutoregressiveFlow, Likelihood, make_likelihood, mlp


class FlowVAE(nn.Module):
    r"""The model of ``VAE``, with an inverse autoregressive flow on top of the encoder's Gaussian.

    .. math::
        z \sim \mathcal N(0, I), \qquad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z)_d\bigr), \qquad
        q_\phi(z \mid x) = \mathcal N\bigl(z^0; \mu_\phi(x), \mathrm{diag}\,\sigma_\phi^2(x)\bigr)
        \prod_{t=1}^T \prod_i \sigma^t_i\bigl(z^{t-1}_{<i}, h_\phi(x)\bigr)^{-1}

    Each map is :math:`z^t_i = \mu^t_i(z^{t-1}_{<i}, h) + \sigma^t_i(z^{t-1}_{<i}, h)\, z^{t-1}_i`, and :math:`z = z^T`.
    The context h is the last hidden layer of the encoder.

    Source: Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow (2016), section 3 and
    equation 10.

    Args:
        data_dim, latent_dim, hidden, activation, likelihood: see ``VAE``.
        num_flows: T, the number of maps.
        flow_hidden: widths of the hidden layers of each map's network, not below ``latent_dim``.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 64), 0.5))
        >>> Program(FlowVAE(data_dim=64)).bind((x,)).log_weights((x,), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        data_dim: int = 64,
        latent_dim: int = 10,
        hidden: Sequence[int] = (256,),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
        num_flows: int = 2,
        flow_hidden: Sequence[int] = (64,),
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = GaussianEncoder(data_dim, latent_dim, hidden, activation=activation)
        self.flow = InverseAutoregressiveFlow(latent_dim, [data_dim, *hidden][-1], num_flows, flow_hidden)
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
        pyro.module("flow", self.flow)
        with pyro.plate("data", len(x)):
            context = self.encoder.features(x.flatten(1))
            base = dist.Normal(*self.encoder.head(context)).to_event(1)
            pyro.sample("z", self.flow(base, context))
