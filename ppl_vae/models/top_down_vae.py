"""Variational autoencoder with layers of latents, and a deterministic path downwards that model and guide share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import Activation, GaussianEncoder, GaussianMixture, Likelihood, join, make_likelihood, mlp


class TopDownVAE(nn.Module):
    r"""Layers of latents that each add to a path of features from the top to the data; the guide goes down it as well.

    The path passes a latent on to all layers below it and to the data, so that no layer has to carry what is above it:

    .. math::
        h_L = h, \qquad
        z_l \mid z_{>l} \sim \mathcal N\bigl(\mu_\theta(h_l), \mathrm{diag}\,\sigma_\theta^2(h_l)\bigr), \qquad
        h_{l-1} = h_l + \mathrm{MLP}_\theta(h_l, z_l), \qquad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(h_0)_d\bigr)

    The guide computes features of the data upwards, and then goes down the path of its own draws:

    .. math::
        d_l = \mathrm{MLP}_\phi(d_{l-1}), \quad d_0 = x, \qquad
        q(z_l \mid z_{>l}, x) = \mathcal N\bigl(\mu_\phi(h_l, d_l), \mathrm{diag}\,\sigma_\phi^2(h_l, d_l)\bigr)

    The prior of the top latent can be a VampPrior, the mixture of the posteriors of K learned pseudo-inputs:

    .. math::
        z_L \sim \frac1K \sum_{k=1}^K q_\phi(z_L \mid u_k)

    Source: Maaløe et al., BIVA: A Very Deep Hierarchy of Latent Variables for Generative Modeling (2019), whose ladder
    has such a path, here with perceptrons and without their stochastic path upwards; the residual path is that of
    Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow (2016), section 4. A
    VampPrior above two layers: Tomczak and Welling, VAE with a VampPrior (2018), section 4.

    Args:
        data_dim, activation, likelihood: see ``VAE``.
        latent_dims: sizes of the latents, from the one next to x upwards.
        width: number of features of the path, and of the hidden layers.
        num_pseudo: K, the number of pseudo-inputs, which lie in the unit interval. If 0, the top latent has the
            Gaussian prior of the others.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 64), 0.5))
        >>> Program(TopDownVAE(latent_dims=(8, 4, 2))).bind((x,)).log_weights((x,), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        data_dim: int = 64,
        latent_dims: Sequence[int] = (10, 5),
        width: int = 128,
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
        num_pseudo: int = 0,
    ) -> None:
        super().__init__()
        gaussians = latent_dims[:-1] if num_pseudo else latent_dims
        below = [data_dim, *(width for _ in latent_dims[1:])]
        self.top = nn.Embedding(1, width)  # h_L
        self.priors = nn.ModuleList(GaussianEncoder(width, dim, (width,), activation=activation) for dim in gaussians)
        self.path = nn.ModuleList(mlp([width + dim, width, width], activation) for dim in latent_dims)
        self.upward = nn.ModuleList(mlp([inputs, width, width], activation) for inputs in below)
        self.encoders = nn.ModuleList(
            GaussianEncoder(2 * width, dim, (width,), activation=activation) for dim in latent_dims
        )
        self.likelihood = make_likelihood(likelihood)
        self.decoder = mlp([width, width, self.likelihood.outputs * data_dim], activation)
        self.raw_pseudo_inputs = nn.Embedding(num_pseudo, data_dim) if num_pseudo else None

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the features of x that the guide adds at each level, from the bottom upwards."""
        steps = [x]
        for upward in cast(Iterable[nn.Sequential], self.upward):
            steps.append(upward(steps[-1]))
        return steps[1:]

    def prior(self, level: int, h: Tensor) -> dist.TorchDistribution:
        """Return the density of the latent of a level, given the path above it."""
        if self.raw_pseudo_inputs is not None and level == len(self.path):
            features = self.features(self.raw_pseudo_inputs.weight.sigmoid())
            return GaussianMixture(*self.encoders[-1](join(h, features[-1])))
        return dist.Normal(*self.priors[level - 1](h)).to_event(1)

    def model(self, x: Tensor) -> None:
        pyro.module("top_down_vae", self)
        with pyro.plate("data", len(x)):
            h = self.top.weight
            for level in range(len(self.path), 0, -1):
                z = pyro.sample(f"z{level}", self.prior(level, h))
                h = h + self.path[level - 1](join(h, z))
            pyro.sample("x", self.likelihood(self.decoder(h)).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        pyro.module("top_down_vae", self)
        features = self.features(x.flatten(1))
        with pyro.plate("data", len(x)):
            h = self.top.weight
            for level in range(len(self.path), 0, -1):
                posterior = dist.Normal(*self.encoders[level - 1](join(h, features[level - 1]))).to_event(1)
                h = h + self.path[level - 1](join(h, pyro.sample(f"z{level}", posterior)))
