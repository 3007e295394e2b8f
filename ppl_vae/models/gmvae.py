"""Variational autoencoder with a Gaussian mixture as its prior: clusters."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import Activation, ClassGaussian, GaussianEncoder, Likelihood, make_likelihood, mlp


class GMVAE(nn.Module):
    r"""A cluster c and a style w, which together set the Gaussian of z; an MLP decodes z.

    .. math::
        w \sim \mathcal N(0, I), \quad c \sim \mathrm{Categorical}(1/C), \quad
        z \mid w, c \sim \mathcal N\bigl(\mu_c(w), \mathrm{diag}\,\sigma_c^2(w)\bigr), \quad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z)_d\bigr)

    The guide is :math:`q(z \mid x)\, q(w \mid x)`, and c is summed out. The cluster of a datum is drawn from
    :math:`p(c \mid z, w)`.

    Source: Dilokthanakul et al., Deep Unsupervised Clustering with Gaussian Mixture Variational Autoencoders (2016),
    section 3, where z, w, c and x are called x, w, z and y. Here the sum over clusters is inside the logarithm, which
    is a tighter bound.

    Args:
        data_dim: size of a datum; a datum of any shape is flattened.
        num_clusters: largest number of clusters.
        latent_dim: size of the latent z.
        style_dim: size of the latent w, which lets a cluster have any shape.
        hidden: widths of the hidden layers from x to z and w; the decoder has them in reverse.
        component_hidden: widths of the hidden layers from w to the components' parameters.
        activation: the nonlinearity after each hidden layer.
        likelihood: likelihood of a number of a datum, see ``ppl_vae.networks.make_likelihood``.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 64)
        >>> Program(GMVAE(data_dim=64)).bind((x,)).posterior((x,), num_samples=2).latents["c"].shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        data_dim: int = 64,
        num_clusters: int = 10,
        latent_dim: int = 10,
        style_dim: int = 5,
        hidden: Sequence[int] = (256,),
        component_hidden: Sequence[int] = (64,),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
    ) -> None:
        super().__init__()
        self.latent_dim, self.style_dim, self.num_clusters = latent_dim, style_dim, num_clusters
        self.encoder = GaussianEncoder(data_dim, latent_dim + style_dim, hidden, activation=activation)
        self.components = ClassGaussian(num_clusters, style_dim, latent_dim, component_hidden, activation)
        self.likelihood = make_likelihood(likelihood)
        self.decoder = mlp([latent_dim, *reversed(hidden), self.likelihood.outputs * data_dim], activation)

    def model(self, x: Tensor) -> None:
        for name in ("components", "decoder", "likelihood"):
            pyro.module(name, getattr(self, name))
        with pyro.plate("data", len(x)):
            w = pyro.sample("w", dist.Normal(x.new_zeros(self.style_dim), 1.0).to_event(1))
            c = pyro.sample("c", dist.Categorical(logits=x.new_zeros(self.num_clusters)))
            z = pyro.sample("z", dist.Normal(*self.components(w, c)).to_event(1))
            pyro.sample("x", self.likelihood(self.decoder(z)).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(x.flatten(1))
            sizes = [self.latent_dim, self.style_dim]
            for name, at, spread in zip("zw", loc.split(sizes, -1), scale.split(sizes, -1), strict=True):
                pyro.sample(name, dist.Normal(at, spread).to_event(1))
