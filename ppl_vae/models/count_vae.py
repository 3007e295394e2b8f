"""Variational autoencoder of counts with an exposure, such as those of genes in cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.networks import Activation, GaussianEncoder, Likelihood, join, make_likelihood, mlp, one_hot


class CountVAE(nn.Module):
    r"""Counts with a larger variance than Poisson's, as shares of an exposure that a Gaussian latent decides.

    .. math::
        z \sim \mathcal N(0, I), \qquad
        \rho = \mathrm{softmax}\bigl(\mathrm{MLP}_\theta(z, s)\bigr), \qquad
        x_g \mid z, s, \ell \sim \mathrm{NegativeBinomial}(\text{mean } \ell \rho_g, \text{ shape } r_g), \qquad
        q_\phi(z \mid x, s) = \mathcal N\bigl((\mu, \mathrm{diag}\,\sigma^2) = \mathrm{MLP}_\phi(\log(1 + x), s)\bigr)

    The variance of a count is :math:`\ell\rho_g + (\ell\rho_g)^2 / r_g`, with one :math:`r_g` for each gene. The batch
    :math:`s` and the exposure :math:`\ell` are conditions: the evidence is :math:`\log p(x \mid s, \ell)`. Data without
    an array ``exposure`` have the sum of their counts as exposure; the model then cannot draw new data, because it
    computes with those that it observes.

    Source: Lopez, Regier, Cole, Jordan and Yosef, Deep Generative Modeling for Single-cell Transcriptomics (2018), with
    the exposure observed and, by default, without their additional zeros.

    Args:
        data_dim: number of counts of a datum, such as genes.
        num_batches: number of batches, which are numbered from 0; a batch of -1 is unknown.
        latent_dim: size of the latent z.
        hidden: widths of the hidden layers from x to z; the decoder has them in reverse.
        activation: the nonlinearity after each hidden layer.
        likelihood: negative-binomial, or zero-inflated-negative-binomial, which has additional zeros.

    Example:
        >>> from ppl_vae.program import Program
        >>> x, batch, exposure = torch.ones(5, 64), torch.tensor([0, 1, 1, 0, 1]), torch.full((5,), 64.0)
        >>> program = Program(CountVAE(data_dim=64, num_batches=2))
        >>> program.bind((x, batch, exposure)).log_weights((x, batch, exposure), num_samples=3).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        data_dim: int = 64,
        num_batches: int = 0,
        latent_dim: int = 10,
        hidden: Sequence[int] = (128,),
        activation: Activation = "relu",
        likelihood: Literal["negative-binomial", "zero-inflated-negative-binomial"] = "negative-binomial",
    ) -> None:
        super().__init__()
        self.latent_dim, self.num_batches = latent_dim, num_batches
        self.encoder = GaussianEncoder(data_dim + num_batches, latent_dim, hidden, activation=activation)
        self.likelihood: Likelihood = make_likelihood(likelihood)
        self.decoder = mlp(
            [latent_dim + num_batches, *reversed(hidden), (self.likelihood.outputs - 1) * data_dim], activation
        )
        self.log_shape = nn.Parameter(torch.zeros(data_dim))

    def model(self, x: Tensor, batch: Tensor | None = None, exposure: Tensor | None = None) -> None:
        pyro.module("count_vae", self)
        total = x.sum(-1) if exposure is None else exposure.to(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            log_rho, *gates = self.decoder(join(z, self.condition(x, batch))).split(x.shape[-1], -1)
            log_mean = total.log().unsqueeze(-1) + log_rho.log_softmax(-1)
            pyro.sample("x", self.likelihood(join(log_mean, self.log_shape, *gates)).to_event(1), obs=x)

    def guide(self, x: Tensor, batch: Tensor | None = None, exposure: Tensor | None = None) -> None:
        pyro.module("count_vae", self)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(join(x.log1p(), self.condition(x, batch)))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def condition(self, x: Tensor, batch: Tensor | None) -> Tensor:
        """Return one-hot vectors of the batches; zeros if they are unknown."""
        return x.new_zeros(len(x), self.num_batches) if batch is None else one_hot(batch, self.num_batches, like=x)
