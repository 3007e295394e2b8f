"""Counts that are a log-normal number without its decimals: their variance may be below their mean, or far above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor

ONE_BY_ONE = 16
"""The number of counts whose probabilities are added one by one in a mean."""


class RoundedLogNormal(dist.TorchDistribution):
    r"""Counts :math:`x = \lfloor y \rfloor` with :math:`\log y \sim \mathcal N(\mu, \sigma^2)`.

    .. math:: P(x = k) = \Phi\Bigl(\frac{\log(k + 1) - \mu}{\sigma}\Bigr) - \Phi\Bigl(\frac{\log k - \mu}{\sigma}\Bigr)

    A Poisson and a negative binomial have variances of their mean or more. Here the variance is free: ages, school
    grades and amounts of money have densities of this form alike. For :math:`k = 0` the second term is zero.

    Args:
        loc: mean of the logarithm, :math:`\mu`.
        scale: standard deviation of the logarithm, :math:`\sigma`.

    Example:
        >>> counts = RoundedLogNormal(torch.tensor(1.5).double(), torch.tensor(0.2).double())
        >>> k = torch.arange(40).double()
        >>> share = counts.log_prob(k).exp()
        >>> bool(torch.isclose(share.sum(), torch.tensor(1.0).double())), bool((share @ k - counts.mean).abs() < 1e-6)
        (True, True)
    """

    arg_constraints: ClassVar = {"loc": dist.constraints.real, "scale": dist.constraints.positive}
    support = dist.constraints.nonnegative_integer

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: RoundedLogNormal | None = None) -> RoundedLogNormal:
        """Return the same distribution for every datum of a batch."""
        return RoundedLogNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Return the log probabilities of counts, in nats.

        The difference of two values of :math:`\Phi` is taken in the tail that is the smaller one. If the two are so
        near that their difference has no digits, it is the density in the middle times the distance.
        """
        if self._validate_args:
            self._validate_sample(value)
        is_zero = value < 1
        low = (value.clamp(min=1).log() - self.loc) / self.scale
        high = (value.log1p() - self.loc) / self.scale
        at_zero = torch.special.log_ndtr(high)
        width, middle = high - low, (high + low) / 2
        width = torch.where(is_zero, 1.0, width)  # so that no branch that is not taken has an infinite slope
        dense = -0.5 * middle.square() - 0.5 * math.log(2 * math.pi) + width.log()
        turned = low + high > 0  # then the upper tail is the smaller one
        near, far = torch.where(turned, -low, high), torch.where(turned, -high, low)
        is_thin = is_zero | (width < 1e-4)
        near = torch.where(is_thin, 1.0, near)
        far = torch.where(is_thin, 0.0, far)
        log_near = torch.special.log_ndtr(near)
        difference = log_near + torch.log(-torch.expm1(torch.special.log_ndtr(far) - log_near))
        return torch.where(is_zero, at_zero, torch.where(is_thin, dense, difference))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw counts."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.normal(self.loc.expand(shape), self.scale.expand(shape)).exp().floor()

    @property
    def mean(self) -> Tensor:
        r"""The mean, :math:`\sum_{k \ge 1} P(y \ge k)`, of which a tail beyond 16 is an integral."""
        counts = torch.arange(1, ONE_BY_ONE + 1, dtype=self.loc.dtype, device=self.loc.device)
        first = torch.special.ndtr((self.loc[..., None] - counts.log()) / self.scale[..., None]).sum(-1)
        end = math.log(ONE_BY_ONE + 0.5)
        above = (self.loc - end) / self.scale
        whole = (self.loc + self.scale.square() / 2).exp()
        return first + whole * torch.special.ndtr(above + self.scale) - math.exp(end) * torch.special.ndtr(above)
