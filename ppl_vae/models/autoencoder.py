"""Autoencoder: a code and its reconstruction, without a latent variable; a baseline that cannot generate."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
from torch import Tensor, nn

from ppl_vae.networks import Activation, Likelihood, make_likelihood, mlp


class Autoencoder(nn.Module):
    r"""A code that is computed from the datum and decoded into the datum again.

    .. math::
        z = \mathrm{MLP}_\phi(x), \qquad \mathcal L(x) = \sum_d \log p\bigl(x_d; \mathrm{MLP}_\theta(z)_d\bigr)

    This number is a reconstruction term and **not an evidence**: the code depends on the datum and costs nothing. So
    the number may not be compared with a log evidence, although tables call it so. Nothing can be generated: draws are
    reconstructions of the given data.

    Source: Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks (2006).

    Args:
        data_dim: size of a datum; a datum of any shape is flattened.
        latent_dim: size of the code z.
        hidden: widths of the hidden layers from x to z; the decoder has them in reverse.
        activation: the nonlinearity after each hidden layer.
        likelihood: likelihood of a number of a datum, see ``ppl_vae.networks.make_likelihood``.

    Example:
        >>> import torch
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 64)
        >>> Program(Autoencoder(data_dim=64)).bind((x,)).log_weights((x,)).shape
        torch.Size([1, 3])
    """

    def __init__(
        self,
        data_dim: int = 64,
        latent_dim: int = 10,
        hidden: Sequence[int] = (256,),
        activation: Activation = "relu",
        likelihood: str | Likelihood = "bernoulli",
    ) -> None:
        super().__init__()
        self.encoder = mlp([data_dim, *hidden, latent_dim], activation)
        self.likelihood = make_likelihood(likelihood)
        self.decoder = mlp([latent_dim, *reversed(hidden), self.likelihood.outputs * data_dim], activation)

    def model(self, x: Tensor) -> None:
        for name in ("encoder", "decoder", "likelihood"):
            pyro.module(name, getattr(self, name))
        with pyro.plate("data", len(x)):
            z = pyro.deterministic("z", self.encoder(x.flatten(1)), event_dim=1)
            pyro.sample("x", self.likelihood(self.decoder(z)).to_event(1), obs=x.flatten(1))
