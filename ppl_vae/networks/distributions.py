"""Distributions that Pyro lacks, or that are slow or cannot be traced in Pyro."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar, cast

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import ConditionalAffineAutoregressive
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from ppl_vae.errors import InputError


class GaussianMixture(dist.TorchDistribution):
    r"""An equal mixture of Gaussians with diagonal covariances, which is fast for hundreds of components.

    .. math:: p(z) = \frac1K \sum_{k=1}^K \mathcal N\bigl(z; \mu_k, \mathrm{diag}\,\sigma_k^2\bigr)

    Values and components meet in a product of matrices,

    .. math:: \sum_d \frac{(z_d - \mu_{kd})^2}{\sigma_{kd}^2}
        = \sum_d \frac{z_d^2}{\sigma_{kd}^2} - 2 \frac{z_d\, \mu_{kd}}{\sigma_{kd}^2} + \frac{\mu_{kd}^2}{\sigma_{kd}^2}

    so that no array of values by components by dimensions is made, as in ``MixtureSameFamily``. The three terms nearly
    cancel for a narrow component, so they are computed in double precision.

    Args:
        loc: means, ``(K, D)``.
        scale: standard deviations, ``(K, D)``.

    Example:
        >>> mixture = GaussianMixture(torch.zeros(500, 40), torch.ones(500, 40))
        >>> mixture.log_prob(torch.zeros(7, 5, 40)).shape, mixture.sample((3,)).shape
        (torch.Size([7, 5]), torch.Size([3, 40]))
    """

    arg_constraints: ClassVar = {
        "loc": dist.constraints.independent(dist.constraints.real, 2),
        "scale": dist.constraints.independent(dist.constraints.positive, 2),
    }
    support = dist.constraints.real_vector

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(torch.Size(), loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: GaussianMixture | None = None) -> GaussianMixture:
        """Return the same mixture for every datum of a batch."""
        new = self._get_checked_instance(GaussianMixture, _instance)
        new.loc, new.scale = self.loc, self.scale
        super(GaussianMixture, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        """The mean of the mixture."""
        return self.loc.mean(0).expand(self.shape())

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw components, and a value from each."""
        shape = torch.Size(sample_shape) + self.batch_shape
        component = torch.randint(len(self.loc), shape, device=self.loc.device)
        return torch.normal(self.loc[component], self.scale[component])

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of values ``(..., D)``, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        z, loc, precision = value.double(), self.loc.double(), self.scale.double() ** -2
        squares = torch.cat([z**2, z], -1) @ torch.cat([precision, -2 * loc * precision], -1).T
        squares = (squares + (loc**2 * precision).sum(-1)).to(value.dtype)
        log_scale = self.scale.log().sum(-1) + math.log(2 * math.pi) / 2 * loc.shape[-1]
        return torch.logsumexp(-squares / 2 - log_scale, -1) - math.log(len(loc))


class InverseAutoregressiveFlow(nn.Module):
    r"""A flow of affine maps, in which the shift and scale of a number are functions of the numbers before it.

    .. math:: z^t_i = \mu^t_i(z^{t-1}_{<i}, h) + \sigma^t_i(z^{t-1}_{<i}, h)\, z^{t-1}_i

    The order of the numbers is reversed from each map to the next. A draw and its density take one pass; the density
    of a given value takes as many passes as there are numbers.

    Source: Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow (2016), equation 10; the maps
    are Pyro's.

    Args:
        size: number of numbers that are drawn.
        context_dim: size of the context h.
        num_flows: number of maps.
        hidden: widths of the hidden layers of each map's network, not below ``size``.

    Raises:
        InputError: if a hidden layer is narrower than ``size``.

    Example:
        >>> flow = InverseAutoregressiveFlow(3, context_dim=7)
        >>> q = flow(dist.Normal(torch.zeros(5, 3), 1.0).to_event(1), torch.zeros(5, 7))
        >>> q.log_prob(q.rsample((2,))).shape
        torch.Size([2, 5])
    """

    def __init__(self, size: int, context_dim: int, num_flows: int = 2, hidden: Sequence[int] = (64,)) -> None:
        super().__init__()
        if min(hidden, default=size) < size:
            raise InputError(
                f"a flow of {size} numbers has a hidden layer of {min(hidden)}: an autoregressive layer is at least as "
                f"wide as its input; give it {size} or more"
            )
        self.maps = nn.ModuleList()
        for flow in range(num_flows):
            order = torch.arange(size) if flow % 2 == 0 else torch.arange(size).flip(0)
            network = ConditionalAutoRegressiveNN(
                size, context_dim, list(hidden), permutation=cast(torch.LongTensor, order)
            )
            del network.permutation  # a tensor; the inverse would index a list with it, which cannot be traced
            network.permutation = order.tolist()  # type: ignore[assignment]
            self.maps.append(ConditionalAffineAutoregressive(network))

    def forward(self, base: dist.TorchDistribution, context: Tensor) -> dist.TransformedDistribution:
        """Return the distribution of ``(..., D)`` numbers, given a base distribution and contexts."""
        maps = cast(Iterable[ConditionalAffineAutoregressive], self.maps)
        return dist.TransformedDistribution(base, [affine.condition(context) for affine in maps])
