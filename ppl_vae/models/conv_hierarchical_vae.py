"""Variational autoencoder of images with two layers of latents, convolutions and a VampPrior."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import (
    GaussianEncoder,
    GaussianMixture,
    ImageDecoder,
    ImageEncoder,
    Likelihood,
    flat_images,
    join,
    make_likelihood,
)


class ConvHierarchicalVAE(nn.Module):
    r"""Two latents that are decoded together; the prior of the upper one is the mixture of posteriors of pseudo-inputs.

    .. math::
        z_2 \sim \frac1K \sum_{k=1}^K q_\phi(z_2 \mid u_k), \qquad
        z_1 \mid z_2 \sim \mathcal N\bigl(\mu_\theta(z_2), \mathrm{diag}\,\sigma_\theta^2(z_2)\bigr), \qquad
        x_d \mid z_1, z_2 \sim p\bigl(\cdot\,; \mathrm{deconv}_\theta(z_1, z_2)_d\bigr)

    .. math::
        q(z \mid x) = q_\phi(z_2 \mid x)\, q_\phi(z_1 \mid x, z_2),
        \quad \text{both Gaussians with parameters } \mathrm{conv}_\phi(x)

    Source: Tomczak and Welling, VAE with a VampPrior (2018), section 4, whose ConvHVAE for MNIST has 40 latents in each
    layer, 300 hidden units, 500 pseudo-inputs and gated convolutions; here the convolutions may be residual.

    Args:
        image_shape, channels, likelihood: see ``ConvVAE``.
        latent_dims: sizes of the latents, the lower one first.
        hidden: widths of the hidden layers between convolutions and latents, and from the upper latent to the lower.
        num_blocks: number of residual blocks at each size of the image.
        num_pseudo: K, the number of pseudo-inputs, which are images in the unit interval.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 9, 12), 0.5))
        >>> Program(ConvHierarchicalVAE(image_shape=(9, 12))).bind((x,)).log_weights((x,), num_samples=2).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (8, 8),
        latent_dims: tuple[int, int] = (20, 10),
        channels: int = 32,
        hidden: Sequence[int] = (256,),
        num_blocks: int = 0,
        likelihood: str | Likelihood = "bernoulli",
        num_pseudo: int = 100,
    ) -> None:
        super().__init__()
        lower, upper = latent_dims
        self.image_shape, shared = image_shape, (channels, hidden, num_blocks)
        self.encoder_2 = ImageEncoder(image_shape, upper, *shared)
        self.encoder_1 = ImageEncoder(image_shape, lower, *shared, context_dim=upper)
        self.prior_1 = GaussianEncoder(upper, lower, hidden)
        self.likelihood = make_likelihood(likelihood)
        self.decoder = ImageDecoder(
            lower + upper, image_shape, self.likelihood.outputs, channels, tuple(reversed(hidden)), num_blocks
        )
        self.raw_pseudo_inputs = nn.Embedding(num_pseudo, math.prod(image_shape))

    def prior_2(self) -> GaussianMixture:
        """Return the density of the upper latent."""
        return GaussianMixture(*self.encoder_2(self.raw_pseudo_inputs.weight.sigmoid()))

    def model(self, x: Tensor) -> None:
        for name in ("encoder_2", "raw_pseudo_inputs", "prior_1", "decoder", "likelihood"):
            pyro.module(name, getattr(self, name))
        with pyro.plate("data", len(x)):
            z_2 = pyro.sample("z2", self.prior_2())
            z_1 = pyro.sample("z1", dist.Normal(*self.prior_1(z_2)).to_event(1))
            pixels = self.likelihood(self.decoder(join(z_1, z_2))).to_event(1)
            pyro.sample("x", pixels, obs=flat_images(x, self.image_shape))

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder_2", self.encoder_2)
        pyro.module("encoder_1", self.encoder_1)
        x = flat_images(x, self.image_shape)
        with pyro.plate("data", len(x)):
            z_2 = pyro.sample("z2", dist.Normal(*self.encoder_2(x)).to_event(1))
            pyro.sample("z1", dist.Normal(*self.encoder_1(x, z_2)).to_event(1))
