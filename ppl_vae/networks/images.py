"""Convolutions, down and up."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def convolutions(shape: Sequence[int], channels: int = 32) -> tuple[nn.Sequential, int]:
    """Convolutions that halve an image until a side is shorter than eight, and the number of features that are left.

    Args:
        shape: of an image, ``(channels, height, width)``.
        channels: after the first convolution; each further one doubles them.

    Example:
        >>> import torch
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
