"""The encoder of a program without one: a network from any arrays of a datum to some numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppl_vae.networks.images import convolutions
from ppl_vae.networks.perceptrons import mlp


class DataEncoder(nn.Module):
    r"""A network from the data of a batch, of any shapes, to some numbers for every datum.

    .. math:: \lambda = \lambda_0 + \mathrm{net}\bigl((x - m) / s\bigr)

    The arrays of a datum are standardised, cut off at five standard deviations, flattened and joined. The first array
    that is an image, ``(height, width)`` or ``(channels, height, width)`` of eight pixels a side or more, goes through
    convolutions. The last layer begins at zero, so that at first every datum has :math:`\lambda_0`.

    Args:
        shapes: shape of a datum in each array.
        origin: :math:`\lambda_0`, ``(P,)``.
        hidden: widths of the hidden layers.

    Attributes:
        loc, scale: m and s of each number; 0 and 1 until ``standardise`` is called.

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
            self.image_shape = (pixels // (height * width), height, width)
            self.convolutions, features = convolutions(self.image_shape)
            size += features - pixels
        self.net = mlp([size, *hidden, len(origin)])
        nn.init.zeros_(self.net[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.net[-1].bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def standardise(self, mean: Tensor, scale: Tensor) -> None:
        """Set the mean and the standard deviation of each number of a datum; a constant number is only shifted."""
        self.loc.copy_(mean)
        self.scale.copy_(torch.where(scale > 0, scale, 1.0))

    def forward(self, *arrays: Tensor) -> Tensor:
        """Return numbers ``(B, P)`` for data, given arrays ``(B, ...)``."""
        flat = torch.cat([array.reshape(len(array), -1).to(self.loc) for array in arrays], -1)
        flat = torch.nan_to_num((flat - self.loc) / self.scale).clamp(-5, 5)
        if self.image is not None:
            parts = list(flat.split([math.prod(shape) for shape in self.shapes], -1))
            parts[self.image] = self.convolutions(parts[self.image].unflatten(-1, self.image_shape))
            flat = torch.cat(parts, -1)
        return self.origin + self.net(flat)
