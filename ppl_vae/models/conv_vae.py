"""Variational autoencoder of images, with convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import ImageDecoder, ImageEncoder, Likelihood, flat_images, make_likelihood


class ConvVAE(nn.Module):
    r"""A Gaussian latent, decoded by transposed convolutions into the pixels of an image.

    .. math::
        z \sim \mathcal N(0, I), \qquad
        x_d \mid z \sim p\bigl(\cdot\,; \mathrm{deconv}_\theta(z)_d\bigr), \qquad
        q_\phi(z \mid x) = \mathcal N\bigl(\mu_\phi(x), \mathrm{diag}\,\sigma_\phi^2(x)\bigr),
        \quad (\mu_\phi, \sigma_\phi) = \mathrm{conv}_\phi(x)

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), section 3, with networks as in Radford, Metz and
    Chintala, Unsupervised Representation Learning with Deep Convolutional GANs (2016), section 3.

    Args:
        image_shape: (height, width) or (channels, height, width); a datum has this shape, or is a vector of its pixels,
            one channel after the other.
        latent_dim: size of the latent z.
        channels: number of channels of the convolution next to the image; each further convolution has twice as many
            and half the size, until a side is shorter than eight.
        hidden: widths of the hidden layers between convolutions and latent; the decoder has them in reverse.
        likelihood: likelihood of a pixel, see ``ppl_vae.networks.make_likelihood``.
        encoder_dropout: share of the encoder's hidden units behind its convolutions to drop, see ``VAE``.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 3, 9, 12), 0.5))
        >>> Program(ConvVAE(image_shape=(3, 9, 12))).bind((x,)).log_weights((x,), num_samples=2).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (8, 8),
        latent_dim: int = 64,
        channels: int = 32,
        hidden: Sequence[int] = (256,),
        likelihood: str | Likelihood = "bernoulli",
        encoder_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.latent_dim, self.image_shape = latent_dim, image_shape
        self.encoder = ImageEncoder(image_shape, latent_dim, channels, hidden, dropout=encoder_dropout)
        self.likelihood = make_likelihood(likelihood)
        reverse = tuple(reversed(hidden))
        self.decoder = ImageDecoder(latent_dim, image_shape, self.likelihood.outputs, channels, reverse)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        pyro.module("likelihood", self.likelihood)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(self.decoder(z)).to_event(1), obs=flat_images(x, self.image_shape))

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(flat_images(x, self.image_shape))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
