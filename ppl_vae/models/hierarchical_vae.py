"""Variational autoencoder with several layers of latents, and a guide that goes up or down the layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, cast

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import Activation, GaussianEncoder, Likelihood, make_likelihood, mlp, product_of_gaussians


class HierarchicalVAE(nn.Module):
    r"""Gaussian latents, each of which is decoded into the mean and the standard deviation of the one below it.

    .. math::
        z_L \sim \mathcal N(0, I), \qquad
        z_l \mid z_{l+1} \sim \mathcal N\bigl(\mu_\theta(z_{l+1}), \mathrm{diag}\,\sigma_\theta^2(z_{l+1})\bigr), \qquad
        x_d \mid z_1 \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z_1)_d\bigr)

    The guide goes up. Or it goes up to Gaussians with mean and deviation :math:`\hat\mu, \hat\sigma` that depend on x
    alone, and then down, where each is multiplied by the conditional of the model and renormalised:

    .. math::
        \text{bottom-up}\quad q(z \mid x) &= q(z_1 \mid x) \prod_l q(z_{l+1} \mid z_l) \\
        \text{ladder}\quad q(z \mid x) &= q(z_L \mid x) \prod_l q(z_l \mid z_{l+1}, x), \qquad
        q(z_l \mid z_{l+1}, x) \propto \mathcal N(z_l; \hat\mu_l(x), \hat\sigma_l^2(x))\, p(z_l \mid z_{l+1})

    Source: bottom-up, Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders (2016), sections 2 and 5.1,
    whose two layers for MNIST are latent_dims=[100,50], hidden=[[200,200],[100,100]], tanh. Ladder: Sønderby et al.,
    Ladder Variational Autoencoders (2016), here without the batch normalisation and the warm-up of their training,
    which matter according to them.

    Args:
        data_dim, activation, likelihood: see ``VAE``.
        latent_dims: sizes of the latents, from the one next to x upwards.
        hidden: widths of the hidden layers from x to the first latent, from there to the second and so on; the
            decoders have them in reverse.
        posterior: direction of the guide.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.bernoulli(torch.full((5, 64), 0.5))
        >>> Program(HierarchicalVAE(posterior="ladder")).bind((x,)).log_weights((x,), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        data_dim: int = 64,
        latent_dims: Sequence[int] = (10, 5),
        hidden: Sequence[Sequence[int]] = ((256,), (64,)),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
        posterior: Literal["bottom-up", "ladder"] = "bottom-up",
    ) -> None:
        super().__init__()
        self.top, self.posterior = latent_dims[-1], posterior
        self.encoders, below = nn.ModuleList(), data_dim
        for latent_dim, widths in zip(latent_dims, hidden, strict=True):
            self.encoders.append(GaussianEncoder(below, latent_dim, widths, activation=activation))
            below = latent_dim if posterior == "bottom-up" else [below, *widths][-1]
        self.priors = nn.ModuleList(
            GaussianEncoder(above, latent_dim, widths[::-1], activation=activation)
            for (latent_dim, above), widths in zip(pairwise(latent_dims), hidden[1:], strict=True)
        )
        self.likelihood = make_likelihood(likelihood)
        self.decoder = mlp([latent_dims[0], *reversed(hidden[0]), self.likelihood.outputs * data_dim], activation)

    def model(self, x: Tensor) -> None:
        pyro.module("priors", self.priors)
        pyro.module("decoder", self.decoder)
        pyro.module("likelihood", self.likelihood)
        with pyro.plate("data", len(x)):
            level = len(self.encoders)
            z = pyro.sample(f"z{level}", dist.Normal(x.new_zeros(self.top), 1.0).to_event(1))
            for prior in reversed(self.priors):
                level -= 1
                z = pyro.sample(f"z{level}", dist.Normal(*prior(z)).to_event(1))
            pyro.sample("x", self.likelihood(self.decoder(z)).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        pyro.module("encoders", self.encoders)
        with pyro.plate("data", len(x)):
            {"bottom-up": self.bottom_up, "ladder": self.ladder}[self.posterior](x.flatten(1))

    def bottom_up(self, below: Tensor) -> None:
        """Sample each latent given the data or the latent below it."""
        for level, encoder in enumerate(self.encoders, 1):
            below = pyro.sample(f"z{level}", dist.Normal(*encoder(below)).to_event(1))

    def ladder(self, features: Tensor) -> None:
        """Sample each latent given all data and the latent above it."""
        upward = []
        for encoder in cast(Iterable[GaussianEncoder], self.encoders):
            features = encoder.features(features)
            upward.append(encoder.head(features))
        z = pyro.sample(f"z{len(upward)}", dist.Normal(*upward[-1]).to_event(1))
        for level in range(len(upward) - 1, 0, -1):
            loc, scale = product_of_gaussians(upward[level - 1], self.priors[level - 1](z))
            z = pyro.sample(f"z{level}", dist.Normal(loc, scale).to_event(1))
