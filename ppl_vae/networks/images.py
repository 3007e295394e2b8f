"""Convolutions and transposed convolutions, and the encoders and decoders of images that use them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.networks.labels import join
from ppl_vae.networks.perceptrons import GaussianEncoder, mlp
from ppl_vae.networks.residual import ResidualBlock


def convolutions(shape: Sequence[int], channels: int = 32, num_blocks: int = 0) -> tuple[nn.Sequential, int]:
    """Return convolutions that halve an image until a side is shorter than eight, and the number of their features.

    Args:
        shape: shape of an image, ``(channels, height, width)``.
        channels: number of channels after the first convolution; each further one doubles it.
        num_blocks: number of residual blocks after each convolution.

    Example:
        >>> import torch
        >>> network, features = convolutions((1, 28, 28))
        >>> network(torch.zeros(3, 1, 28, 28)).shape, features
        (torch.Size([3, 3136]), 3136)
    """
    layers: list[nn.Module] = []
    shapes = _halvings(shape, channels)
    for (depth, *_), (next_depth, *_) in pairwise(shapes):
        halving = nn.Conv2d(depth, next_depth, 4, stride=2, padding=1)
        layers += [halving, *(ResidualBlock(next_depth) for _ in range(num_blocks)), _nonlinearity(num_blocks)]
    return nn.Sequential(*layers, nn.Flatten()), math.prod(shapes[-1])


def transposed_convolutions(shape: Sequence[int], channels: int = 32, num_blocks: int = 0) -> tuple[nn.Sequential, int]:
    """Return the reverse of ``convolutions``, which doubles an image in every step, and the number of its features.

    Args:
        shape: shape of an image, ``(channels, height, width)``; a side may be odd.
        channels: number of channels before the last convolution; each earlier one has twice as many.
        num_blocks: number of residual blocks before each convolution.

    Example:
        >>> import torch
        >>> network, features = transposed_convolutions((1, 28, 28))
        >>> network(torch.zeros(3, features)).shape, features
        (torch.Size([3, 1, 28, 28]), 3136)
    """
    shapes = _halvings(shape, channels)[::-1]
    layers: list[nn.Module] = [nn.Unflatten(-1, shapes[0])]
    for (depth, height, width), (next_depth, next_height, next_width) in pairwise(shapes):
        odd = (next_height - 2 * height, next_width - 2 * width)
        up = nn.ConvTranspose2d(depth, next_depth, 4, stride=2, padding=1, output_padding=odd)
        layers += [*(ResidualBlock(depth) for _ in range(num_blocks)), _nonlinearity(num_blocks), up]
    return nn.Sequential(*layers), math.prod(shapes[0])


def _nonlinearity(num_blocks: int) -> nn.Module:
    return nn.ELU() if num_blocks else nn.ReLU()


def _halvings(shape: Sequence[int], channels: int) -> list[tuple[int, int, int]]:
    """Return the shapes ``(channels, height, width)`` of an image before and after each convolution."""
    depth, height, width = shape
    shapes = [(depth, height, width)]
    while min(height, width) >= 8:
        height, width = height // 2, width // 2
        shapes.append((channels, height, width))
        channels = 2 * channels
    return shapes


def _channels_first(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape ``(channels, height, width)`` of an image whose shape may lack the channels."""
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(f"image_shape={tuple(shape)}: expected (height, width) or (channels, height, width)")
    depth, height, width = (1, *shape) if len(shape) == 2 else shape
    if width <= 4 < depth:
        raise InputError(
            f"image_shape={tuple(shape)} has its channels last, and convolutions read them first: give "
            f"image_shape={(width, depth, height)}, and data of shape (N, {width}, {depth}, {height})"
        )
    return depth, height, width


def flat_images(x: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Return images as vectors of their pixels, ``(B, pixels)``, in the order in which the encoder reads them.

    Args:
        x: images of this shape, with or without channels of size one; or vectors, which stay as they are.
        image_shape: ``(height, width)`` or ``(channels, height, width)``.

    Raises:
        InputError: the images have another shape of as many numbers, which would be read as other images.

    Example:
        >>> import torch
        >>> flat_images(torch.zeros(5, 3, 8, 9), (3, 8, 9)).shape
        torch.Size([5, 216])
    """
    sides, expected = ([size for size in shape if size > 1] for shape in (x.shape[1:], image_shape))
    if len(sides) > 1 and sides != expected and math.prod(sides) == math.prod(expected):
        raise InputError(
            f"a datum has shape {tuple(x.shape[1:])}, and image_shape={tuple(image_shape)} has as many numbers in "
            f"another order: give the data in this shape, channels first, or the shape that they have"
        )
    return x.flatten(1)


class ImageEncoder(nn.Module):
    r"""A network from an image to a diagonal Gaussian: convolutions, then a ``GaussianEncoder``.

    Args:
        image_shape: ``(height, width)`` or ``(channels, height, width)``.
        latent_dim: size of the latent.
        channels: number of channels after the first convolution; each further one doubles it.
        hidden: widths of the hidden layers after the convolutions.
        num_blocks: number of residual blocks after each convolution.
        context_dim: size of the vectors that the hidden layers are given beside the image.
        dropout: share of the units of these layers that are zero in training, see ``mlp``.

    Example:
        >>> import torch
        >>> loc, scale = ImageEncoder((8, 8), 10)(torch.zeros(5, 3, 64))
        >>> loc.shape, bool((scale > 0).all())
        (torch.Size([5, 3, 10]), True)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int,
        channels: int = 32,
        hidden: Sequence[int] = (256,),
        num_blocks: int = 0,
        context_dim: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape = _channels_first(image_shape)
        self.convolutions, features = convolutions(self.shape, channels, num_blocks)
        self.gaussian = GaussianEncoder(features + context_dim, latent_dim, hidden, dropout=dropout)

    def forward(self, x: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, ``(..., latent_dim)`` each, of flat images ``(..., pixels)``.

        Args:
            x: the images.
            context: vectors whose sizes have the sum ``context_dim``, if it is not 0; the leading dimensions of images
                and vectors are broadcast.
        """
        if x.shape[-1] != math.prod(self.shape):
            raise InputError(
                f"a datum has {x.shape[-1]} numbers, which are no image of shape {self.shape}: "
                f"give the data's own, image_shape=(channels, height, width)"
            )
        features = self.convolutions(x.reshape(-1, *self.shape))
        features = features.reshape(*x.shape[:-1], -1)
        loc, scale = self.gaussian(join(features, *context) if context else features)
        return loc, scale


class ImageDecoder(nn.Module):
    """A network from a latent to some numbers for every pixel of an image: an MLP, then transposed convolutions.

    Args:
        latent_dim: size of the latent.
        image_shape: ``(height, width)`` or ``(channels, height, width)``.
        outputs: number of outputs for a pixel of a channel, see ``Likelihood``.
        channels: number of channels before the last convolution; each earlier one has twice as many.
        hidden: widths of the hidden layers before the convolutions.
        num_blocks: number of residual blocks before each convolution.

    Example:
        >>> import torch
        >>> ImageDecoder(10, (3, 9, 31), outputs=2)(torch.zeros(5, 2, 10)).shape  # 2 outputs of 3 * 9 * 31 numbers
        torch.Size([5, 2, 1674])
    """

    def __init__(
        self,
        latent_dim: int,
        image_shape: Sequence[int],
        outputs: int = 1,
        channels: int = 32,
        hidden: Sequence[int] = (256,),
        num_blocks: int = 0,
    ) -> None:
        super().__init__()
        depth, height, width = _channels_first(image_shape)
        self.convolutions, features = transposed_convolutions((outputs * depth, height, width), channels, num_blocks)
        self.net = mlp([latent_dim, *hidden, features])

    def forward(self, z: Tensor) -> Tensor:
        """Return flat images ``(..., outputs * pixels)``, first outputs first, of latents ``(..., latent_dim)``."""
        features = self.net(z)
        return self.convolutions(features.reshape(-1, features.shape[-1])).reshape(*z.shape[:-1], -1)
