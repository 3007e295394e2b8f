"""Variational autoencoder of images, with residual convolutions and a prior that may be a flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import FlowPrior, ImageDecoder, ImageEncoder, Likelihood, flat_images, make_likelihood


class ResNetVAE(nn.Module):
    r"""A latent that residual networks decode into the pixels of an image.

    .. math::
        z \sim p_\theta(z), \qquad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{resnet}_\theta(z)_d\bigr), \qquad
        q_\phi(z \mid x) = \mathcal N\bigl(\mu_\phi(x), \mathrm{diag}\,\sigma_\phi^2(x)\bigr),
        \quad (\mu_\phi, \sigma_\phi) = \mathrm{resnet}_\phi(x)

    The prior is standard normal or a ``FlowPrior``. The networks halve and double the image by strided convolutions,
    and have blocks :math:`h + \mathrm{conv}(\mathrm{elu}(\mathrm{conv}(\mathrm{elu}(h))))` with weight normalisation at
    every size.

    Source: Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow (2016), appendix C.1, for the
    networks; Chen et al., Variational Lossy Autoencoder (2017), section 3.2, for a flow as the prior.

    Args:
        image_shape, latent_dim, hidden, likelihood, encoder_dropout: see ``ConvVAE``.
        channels: number of channels next to the image; twice as many at half the size, until a side is shorter than
            eight.
        num_blocks: number of residual blocks at each size.
        prior: prior of z: normal, coupling or autoregressive.
        num_flows: number of maps of a prior that is a flow.
        flow_hidden: widths of the hidden layers of each map's network.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 3, 9, 12), 0.5))
        >>> Program(ResNetVAE(image_shape=(3, 9, 12), channels=8)).bind((x,)).log_weights((x,), num_samples=2).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (8, 8),
        latent_dim: int = 64,
        channels: int = 32,
        num_blocks: int = 2,
        hidden: Sequence[int] = (256,),
        likelihood: str | Likelihood = "bernoulli",
        prior: Literal["normal", "coupling", "autoregressive"] = "normal",
        num_flows: int = 4,
        flow_hidden: Sequence[int] = (128,),
        encoder_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.latent_dim, self.image_shape = latent_dim, image_shape
        self.prior = None if prior == "normal" else FlowPrior(latent_dim, prior, num_flows, flow_hidden)
        self.encoder = ImageEncoder(image_shape, latent_dim, channels, hidden, num_blocks, dropout=encoder_dropout)
        self.likelihood = make_likelihood(likelihood)
        reverse = tuple(reversed(hidden))
        self.decoder = ImageDecoder(latent_dim, image_shape, self.likelihood.outputs, channels, reverse, num_blocks)

    def model(self, x: Tensor) -> None:
        if self.prior is not None:
            pyro.module("prior", self.prior)
        pyro.module("decoder", self.decoder)
        pyro.module("likelihood", self.likelihood)
        with pyro.plate("data", len(x)):
            normal = dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)
            z = pyro.sample("z", normal if self.prior is None else self.prior())
            pyro.sample("x", self.likelihood(self.decoder(z)).to_event(1), obs=flat_images(x, self.image_shape))

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(flat_images(x, self.image_shape))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
