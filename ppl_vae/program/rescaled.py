"""The distribution of numbers in their own units, if that of the standardised ones is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.util import sum_rightmost
from torch import Tensor

from ppl_vae.program.known_moments import class_probabilities, known_variance
from ppl_vae.program.supports import support_of


class Rescaled(dist.TorchDistribution):
    r"""The distribution of x = m + c s, if s has a given one.

    .. math:: \log p(x) = \log p_s\Bigl(\frac{x - m}{c}\Bigr) - \sum_d \log c_d

    Args:
        base_dist: the distribution of s.
        location: m, to broadcast with s.
        scale: c, likewise.

    Example:
        >>> fn, x = Rescaled(dist.Normal(0.0, 1.0), torch.tensor(5.0), torch.tensor(2.0)), torch.tensor(6.0)
        >>> fn.mean, bool(torch.isclose(fn.log_prob(x), dist.Normal(5.0, 2.0).log_prob(x)))
        (tensor(5.), True)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base_dist: Any, location: Tensor, scale: Tensor) -> None:
        self.base_dist, self.location, self.scale = base_dist, location, scale
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The numbers that are in the support of s if they are standardised."""
        support = support_of(self.base_dist)
        if support is None:
            raise NotImplementedError
        return _RescaledSupport(support, self.standardise)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """True if draws of s have a path."""
        return self.base_dist.has_rsample

    def expand(self, batch_shape: Any, _instance: Any = None) -> Rescaled:
        """Return the distribution with a larger batch shape."""
        return Rescaled(self.base_dist.expand(batch_shape), self.location, self.scale)

    def standardise(self, value: Tensor) -> Tensor:
        """Return s for x."""
        return (value - self.location) / self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of x, of batch shape."""
        log_scale = self.scale.log()
        log_scale = log_scale.expand(torch.broadcast_shapes(log_scale.shape, self.event_shape))
        return self.base_dist.log_prob(self.standardise(value)) - sum_rightmost(log_scale, self.event_dim)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw x."""
        return self.location + self.scale * self.base_dist.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw x along the path of s."""
        return self.location + self.scale * self.base_dist.rsample(torch.Size(sample_shape))

    @property
    def class_probabilities(self) -> Tensor | None:
        """The probabilities of the classes of a number that is one, and so has the location 0 and the scale 1."""
        return class_probabilities(self.base_dist)

    @property
    def mean(self) -> Tensor:
        """The mean of x."""
        return self.location + self.scale * self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        """The variance of x."""
        return self.scale.square() * _known(known_variance(self.base_dist))


class _RescaledSupport(torch.distributions.constraints.Constraint):
    """The support of numbers in their own units."""

    def __init__(self, standard: Any, standardise: Callable[[Tensor], Tensor]) -> None:
        self.standard, self.standardise = standard, standardise
        self.is_discrete, self.event_dim = standard.is_discrete, standard.event_dim
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Return True for a number whose standardised one is in the support."""
        return self.standard.check(self.standardise(value))

    def __repr__(self) -> str:
        return f"{self.standard} after it is standardised"


def _known(moment: Tensor | None) -> Tensor:
    if moment is None:
        raise NotImplementedError
    return moment


def rescaled(fn: Any, location: Tensor, scale: Tensor) -> Any:
    """Return the distribution of numbers in their own units, in the same wrappers.

    A Gaussian vector stays one, so that what is known of Gaussians holds.
    """
    if isinstance(fn, torch.distributions.Independent):
        return rescaled(fn.base_dist, location, scale).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.MaskedDistribution):
        return rescaled(fn.base_dist, location, scale).mask(fn._mask)
    if isinstance(fn, torch.distributions.LowRankMultivariateNormal):
        moved = location + scale * fn.loc
        return dist.LowRankMultivariateNormal(moved, scale[..., None] * fn.cov_factor, scale.square() * fn.cov_diag)
    if isinstance(fn, torch.distributions.MultivariateNormal):
        return dist.MultivariateNormal(location + scale * fn.loc, scale_tril=scale[..., None] * fn.scale_tril)
    return Rescaled(fn, location, scale)
