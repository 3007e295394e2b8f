"""Probabilistic principal component analysis."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import GaussianEncoder, LinearGaussian, seen_log_prob


class PPCA(nn.Module):
    r"""Principal components as a generative model: a Gaussian latent that a linear map decodes, with one noise for all.

    .. math::
        z \sim \mathcal N(0, I), \qquad x \mid z \sim \mathcal N(W z + \mu, \sigma^2 I), \qquad
        p(x) = \mathcal N(x; \mu, W W^\top + \sigma^2 I)

    The guide is a linear encoder with independent latents. At the optimum this costs nothing: all rotations of W have
    the same evidence, and the ELBO is highest for orthogonal columns, for which the latents of the posterior are
    independent.

    Source: Tipping and Bishop, Probabilistic Principal Component Analysis (1999), section 3, equations 2 to 4; the
    guide: Lucas, Tucker, Grosse and Norouzi, Don't Blame the ELBO! (2019), section 4.

    Args:
        data_dim: number of variables of a datum; a datum of any shape is flattened.
        latent_dim: number of components.
        min_noise: smallest standard deviation of the noise.

    Example:
        >>> import torch
        >>> model, x = PPCA(data_dim=4, latent_dim=2), torch.zeros(3, 4)
        >>> model.log_evidence(x).shape
        torch.Size([3])
    """

    def __init__(self, data_dim: int = 64, latent_dim: int = 10, min_noise: float = 1e-2) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.decoder = LinearGaussian(latent_dim, data_dim, min_scale=min_noise, shared_scale=True)
        self.encoder = GaussianEncoder(data_dim, latent_dim, hidden=())

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(*self.decoder(z)).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(x.flatten(1))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def log_evidence(self, x: Tensor, x_mask: Tensor | None = None) -> Tensor:
        """Return the exact log p(x), ``(B,)``, in nats; with a mask, that of the numbers whose mask is true."""
        loc, noise = self.decoder(x.new_zeros(self.latent_dim))
        weight = self.decoder.linear.weight
        if x_mask is None:
            return dist.LowRankMultivariateNormal(loc, weight, noise**2).log_prob(x.flatten(1))
        return seen_log_prob(x.flatten(1), x_mask.flatten(1), loc, weight, noise**2)
