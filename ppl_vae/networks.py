"""Encoders and decoders. Leading dimensions are free: ``(K, B, ...)`` as well as ``(B, ...)``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.errors import InputError, nearest

Activation = Literal["relu", "tanh", "softplus"]
_NONLINEARITY: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "softplus": nn.Softplus}


def mlp(sizes: Sequence[int], activation: Activation = "relu") -> nn.Sequential:
    """A multilayer perceptron with these widths, from input to output, linear at its end.

    Args:
        sizes: widths of the input, the hidden layers and the output.
        activation: the nonlinearity after each hidden layer.

    Example:
        >>> mlp([64, 256, 10])(torch.zeros(5, 3, 64)).shape
        torch.Size([5, 3, 10])
    """
    if activation not in _NONLINEARITY:
        raise InputError(f"activation={activation!r} is unknown; {nearest(str(activation), _NONLINEARITY)}")
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), _NONLINEARITY[activation]()]
    return nn.Sequential(*layers[:-1])


class GaussianEncoder(nn.Module):
    r"""An MLP from a datum to the parameters of a Gaussian with diagonal covariance.

    .. math:: (\mu, s) = \mathrm{MLP}(x), \qquad \sigma = \mathrm{softplus}(s) + 10^{-4}

    Args:
        data_dim: size of a datum.
        latent_dim: size of the latent.
        hidden: widths of the hidden layers.
        activation: the nonlinearity after each hidden layer.

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
    ) -> None:
        super().__init__()
        self.net = mlp([data_dim, *hidden, 2 * latent_dim], activation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each ``(..., latent_dim)``, of data ``(..., data_dim)``."""
        loc, raw = self.net(x).chunk(2, dim=-1)
        return loc, functional.softplus(raw) + 1e-4  # a scale of zero has no density


def convolutions(shape: Sequence[int], channels: int = 32) -> tuple[nn.Sequential, int]:
    """Convolutions that halve an image until a side is shorter than eight, and the number of features that are left.

    Args:
        shape: of an image, ``(channels, height, width)``.
        channels: after the first convolution; each further one doubles them.

    Example:
        >>> network, features = convolutions((1, 28, 28))
        >>> network(torch.zeros(3, 1, 28, 28)).shape, features
        (torch.Size([3, 3136]), 3136)
    """
    depth, height, width = shape
    layers: list[nn.Module] = []
    while min(height, width) >= 8:
        layers += [nn.Conv2d(depth, channels, 4, stride=2, padding=1), nn.ReLU()]
        depth, height, width, channels = channels, height // 2, width // 2, 2 * channels
    return nn.Sequential(*layers, nn.Flatten()), depth * height * width


class DataEncoder(nn.Module):
    r"""From the data of a batch, whatever their shapes, to some numbers for every datum.

    .. math:: \lambda = \lambda_0 + \mathrm{net}\bigl((x - m) / s\bigr)

    The arrays of a datum are standardised, cut off at five standard deviations, flattened and joined; one that is an
    image, ``(height, width)`` or ``(channels, height, width)`` of eight pixels a side or more, goes through
    convolutions. The last layer begins at zero, so that at first every datum has :math:`\lambda_0`.

    Args:
        shapes: of a datum in each array.
        origin: :math:`\lambda_0`, ``(P,)``.
        hidden: widths of the hidden layers.

    Attributes:
        loc, scale: m and s, of each number; 0 and 1 until ``standardise`` is called.

    Example:
        >>> encoder = DataEncoder([(64,), ()], origin=torch.zeros(20))
        >>> encoder(torch.ones(3, 64), torch.ones(3)).shape
        torch.Size([3, 20])
    """

    def __init__(self, shapes: Sequence[Sequence[int]], origin: Tensor, hidden: Sequence[int] = (256,)) -> None:
        super().__init__()
        self.shapes = [tuple(shape) for shape in shapes]
        size = sum(math.prod(shape) for shape in self.shapes)
        self.origin: Tensor
        self.loc: Tensor
        self.scale: Tensor
        self.register_buffer("origin", origin.detach().clone())
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.image = next(
            (i for i, shape in enumerate(self.shapes) if len(shape) in (2, 3) and min(shape[-2:]) >= 8), None
        )
        if self.image is not None:
            height, width = self.shapes[self.image][-2:]
            pixels = math.prod(self.shapes[self.image])
            self.seen = (pixels // (height * width), height, width)
            self.convolutions, features = convolutions(self.seen)
            size += features - pixels
        self.net = mlp([size, *hidden, len(origin)])
        nn.init.zeros_(self.net[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.net[-1].bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def standardise(self, mean: Tensor, scale: Tensor) -> None:
        """Set the mean and the standard deviation of each number of a datum; a constant one is only shifted."""
        self.loc.copy_(mean)
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))

    def forward(self, *arrays: Tensor) -> Tensor:
        """Numbers ``(B, P)`` of data, each array ``(B, ...)``."""
        flat = torch.cat([array.reshape(len(array), -1).to(self.loc) for array in arrays], -1)
        flat = torch.nan_to_num((flat - self.loc) / self.scale).clamp(-5, 5)
        if self.image is not None:
            parts = list(flat.split([math.prod(shape) for shape in self.shapes], -1))
            parts[self.image] = self.convolutions(parts[self.image].unflatten(-1, self.seen))
            flat = torch.cat(parts, -1)
        return self.origin + self.net(flat)


class LinearGaussian(nn.Module):
    r"""A linear map from a latent to the mean of a Gaussian, with a learned standard deviation for every variable.

    .. math:: \mu = W z + b, \qquad \sigma = \mathrm{softplus}(s) + \sigma_{\min}

    Args:
        latent_dim: size of the latent.
        data_dim: number of variables of a datum.
        min_scale: smallest standard deviation.

    Example:
        >>> loc, scale = LinearGaussian(2, 4)(torch.zeros(5, 3, 2))
        >>> loc.shape, scale.shape
        (torch.Size([5, 3, 4]), torch.Size([4]))
    """

    def __init__(self, latent_dim: int, data_dim: int, *, min_scale: float = 1e-2) -> None:
        super().__init__()
        self.linear = nn.Linear(latent_dim, data_dim)
        self.raw_scale = nn.Parameter(torch.zeros(data_dim))
        self.min_scale = min_scale

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``(..., data_dim)`` and standard deviation ``(data_dim,)`` given latents ``(..., latent_dim)``."""
        return self.linear(z), functional.softplus(self.raw_scale) + self.min_scale
