"""Conditional variational autoencoder: data given their labels."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.networks import Activation, GaussianEncoder, Likelihood, join, make_likelihood, mlp, one_hot


class CVAE(nn.Module):
    r"""A variational autoencoder whose encoder and decoder both see the label, so that data of a class can be drawn.

    .. math::
        z \sim \mathcal N(0, I), \qquad
        x_d \mid y, z \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z, y)_d\bigr), \qquad
        q_\phi(z \mid x, y) = \mathcal N\bigl(\mu_\phi(x, y), \mathrm{diag}\,\sigma_\phi^2(x, y)\bigr)

    The label is a condition, not a part of the data: the evidence is :math:`\log p(x \mid y)`. A label of -1 is
    unknown; both networks then see no class.

    Source: Sohn, Lee and Yan, Learning Structured Output Representation using Deep Conditional Generative Models
    (2015), section 4, equation 4, with a prior of z that does not depend on the condition; this is the model of
    equation 2 of Kingma, Rezende, Mohamed and Welling, Semi-supervised Learning with Deep Generative Models (2014).

    Args:
        data_dim: size of a datum; a datum of any shape is flattened.
        num_classes: number of classes, which are numbered from 0.
        latent_dim: size of the latent z.
        hidden: widths of the hidden layers from x to z; the decoder has them in reverse.
        activation: the nonlinearity after each hidden layer.
        likelihood: likelihood of a number of a datum, see ``ppl_vae.networks.make_likelihood``.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x, y = torch.zeros(2, 64), torch.tensor([3, 9])
        >>> Program(CVAE(data_dim=64)).bind((x, y)).prior((x, y)).observed["x"].shape  # a three and a nine
        torch.Size([1, 2, 64])
    """

    def __init__(
        self,
        data_dim: int = 64,
        num_classes: int = 10,
        latent_dim: int = 10,
        hidden: Sequence[int] = (256,),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
    ) -> None:
        super().__init__()
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.encoder = GaussianEncoder(data_dim + num_classes, latent_dim, hidden, activation=activation)
        self.likelihood = make_likelihood(likelihood)
        outputs = self.likelihood.outputs * data_dim
        self.decoder = mlp([latent_dim + num_classes, *reversed(hidden), outputs], activation)

    def model(self, x: Tensor, y: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        pyro.module("likelihood", self.likelihood)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            out = self.decoder(join(z, one_hot(y, self.num_classes, like=x)))
            pyro.sample("x", self.likelihood(out).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor, y: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(join(x.flatten(1), one_hot(y, self.num_classes, like=x)))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
