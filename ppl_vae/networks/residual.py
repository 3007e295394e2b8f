"""Residual blocks of convolutions with weight normalisation."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class NormalizedConvolution(nn.Conv2d):
    r"""A convolution of 3 by 3 pixels, whose kernels have a learned length beside their direction.

    .. math:: w_c = g_c\, v_c / \lVert v_c \rVert

    PyTorch has the same as a parametrization, with which a module can no longer be pickled.

    Source: Salimans and Kingma, Weight Normalization (2016), equation 2.

    Args:
        channels: number of channels, before and after.
        share: the length at first, as a share of that of a plain convolution.

    Example:
        >>> import torch
        >>> NormalizedConvolution(4)(torch.zeros(2, 4, 7, 7)).shape
        torch.Size([2, 4, 7, 7])
    """

    def __init__(self, channels: int, share: float = 1.0) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.length = nn.Parameter(share * self._lengths().detach())

    def _lengths(self) -> Tensor:
        return self.weight.square().sum((1, 2, 3), keepdim=True).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """Return images ``(B, channels, height, width)`` of the same shape."""
        return functional.conv2d(x, self.weight * (self.length / self._lengths()), self.bias, padding=1)


class ResidualBlock(nn.Module):
    r"""Two convolutions of 3 by 3 pixels whose result is added to their input.

    .. math:: y = x + \mathrm{conv}_2\bigl(\mathrm{elu}(\mathrm{conv}_1(\mathrm{elu}(x)))\bigr)

    Weights are normalised, so that there are no statistics of a batch. The kernels of the second convolution begin with
    a tenth of their usual length.

    Source: He et al., Identity Mappings in Deep Residual Networks (2016), figure 1(b), without normalisation of
    batches.

    Args:
        channels: number of channels.

    Example:
        >>> import torch
        >>> ResidualBlock(4)(torch.zeros(2, 4, 7, 7)).shape
        torch.Size([2, 4, 7, 7])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = NormalizedConvolution(channels), NormalizedConvolution(channels, share=0.1)
        self.layers = nn.Sequential(nn.ELU(), first, nn.ELU(), second)

    def forward(self, x: Tensor) -> Tensor:
        """Return images ``(B, channels, height, width)`` of the same shape."""
        return x + self.layers(x)
