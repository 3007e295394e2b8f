"""Multilayer perceptrons, and Gaussians whose parameters they compute."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.errors import InputError, nearest

Activation = Literal["relu", "tanh", "softplus", "gated"]
_NONLINEARITY: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "gated": nn.GLU,
}


def mlp(sizes: Sequence[int], activation: Activation = "relu", dropout: float = 0.0) -> nn.Sequential:
    r"""Return a multilayer perceptron with the given widths, from input to output, whose last layer is linear.

    A gated layer consists of two linear maps, one of which is the gate of the other (Dauphin et al., Language Modeling
    with Gated Convolutional Networks, 2017):

    .. math:: h = (A x + a) \odot \mathrm{sigmoid}(B x + b)

    Args:
        sizes: widths of the input, the hidden layers and the output.
        activation: the nonlinearity after each hidden layer: relu, tanh, softplus or gated.
        dropout: share of the units of each hidden layer that are zero in training. The others are scaled up, so that
            the mean stays (Srivastava et al., Dropout, 2014).

    Raises:
        InputError: the activation is unknown, or the share is none.

    Example:
        >>> mlp([64, 256, 10])(torch.zeros(5, 3, 64)).shape
        torch.Size([5, 3, 10])
    """
    if activation not in _NONLINEARITY:
        raise InputError(f"activation={activation!r} is unknown; {nearest(str(activation), _NONLINEARITY)}")
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is {dropout!r}: expected 0 or more and less than 1")
    maps = 2 if activation == "gated" else 1
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers += [nn.Linear(n_in, maps * n_out), _NONLINEARITY[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class SkipMLP(nn.Module):
    r"""A linear map and a multilayer perceptron beside each other.

    .. math:: h = A x + a + \mathrm{MLP}(x)

    The last layer of the perceptron starts at zero, so that the whole starts as a linear map. A decoder alone can learn
    to ignore a latent, in the first steps and for good, before the encoder says anything by it: the latents of a linear
    model do not collapse like that (Lucas et al., Don't Blame the ELBO!, 2019).

    Args:
        sizes: widths of the input, the hidden layers and the output.
        activation, dropout: see ``mlp``.

    Example:
        >>> net, x = SkipMLP([4, 16, 2]), torch.randn(5, 4)
        >>> bool((net(x) == net.linear(x)).all())
        True
    """

    def __init__(self, sizes: Sequence[int], activation: Activation = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        self.linear, self.mlp = nn.Linear(sizes[0], sizes[-1]), mlp(sizes, activation, dropout)
        for parameter in self.mlp[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., sizes[-1])`` numbers of inputs ``(..., sizes[0])``."""
        return self.linear(x) + self.mlp(x)


class GaussianEncoder(nn.Module):
    r"""An MLP from a datum to the parameters of a Gaussian with diagonal covariance.

    .. math:: (\mu, s) = \mathrm{MLP}(x), \qquad \sigma = \mathrm{softplus}(s) + 10^{-4}

    Args:
        data_dim: size of a datum.
        latent_dim: size of the latent.
        hidden: widths of the hidden layers.
        activation: the nonlinearity after each hidden layer.
        dropout: share of hidden units that are zero in training, see ``mlp``.
        skip: add a linear map of the data, see ``SkipMLP``. It is no part of ``features`` and ``head``.

    Example:
        >>> loc, scale = GaussianEncoder(64, 10)(torch.zeros(3, 64))
        >>> loc.shape, bool((scale > 0).all())
        (torch.Size([3, 10]), True)
    """

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: Sequence[int] = (256,),
        *,
        activation: Activation = "relu",
        dropout: float = 0.0,
        skip: bool = False,
    ) -> None:
        super().__init__()
        sizes = [data_dim, *hidden, 2 * latent_dim]
        beside = SkipMLP(sizes, activation, dropout) if skip else None
        self.net = mlp(sizes, activation, dropout) if beside is None else beside.mlp
        self.linear = None if beside is None else beside.linear

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, ``(..., latent_dim)`` each, of data ``(..., data_dim)``."""
        out = self.net(x)
        return self._mean_and_deviation(out if self.linear is None else self.linear(x) + out)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer, or the data if there is no hidden layer."""
        return self.net[:-1](x)

    def head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, given the last hidden layer."""
        return self._mean_and_deviation(self.net[-1](features))

    def _mean_and_deviation(self, out: Tensor) -> tuple[Tensor, Tensor]:
        loc, raw = out.chunk(2, dim=-1)
        return loc, functional.softplus(raw) + 1e-4  # a scale of zero has no density


class LinearGaussian(nn.Module):
    r"""A linear map from a latent to the mean of a Gaussian, with a learned standard deviation for every variable.

    .. math:: \mu = W z + b, \qquad \sigma = \mathrm{softplus}(s) + \sigma_{\min}

    Args:
        latent_dim: size of the latent.
        data_dim: number of variables of a datum.
        min_scale: smallest standard deviation.
        shared_scale: one standard deviation for all variables.

    Example:
        >>> loc, scale = LinearGaussian(2, 4)(torch.zeros(5, 3, 2))
        >>> loc.shape, scale.shape
        (torch.Size([5, 3, 4]), torch.Size([4]))
    """

    def __init__(self, latent_dim: int, data_dim: int, *, min_scale: float = 1e-2, shared_scale: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(latent_dim, data_dim)
        self.raw_scale = nn.Parameter(torch.zeros(1 if shared_scale else data_dim))
        self.min_scale = min_scale

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean ``(..., data_dim)`` and standard deviation ``(data_dim,)`` of latents ``(..., latent_dim)``."""
        scale = functional.softplus(self.raw_scale) + self.min_scale
        return self.linear(z), scale.expand(self.linear.out_features)
