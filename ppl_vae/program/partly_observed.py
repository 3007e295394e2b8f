"""The distribution of what a site observes, if some of its numbers are missing."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.nn.functional import one_hot

from ppl_vae.program.known_moments import class_probabilities, known_mean, mixed_columns

GAUSSIAN = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)


class PartlyObserved(dist.TorchDistribution):
    r"""The distribution of what a site observes, given the numbers that were seen.

    .. math:: \log p(x_{\mathrm{seen}} \mid z), \qquad x_{\mathrm{missing}} \sim p(\cdot \mid x_{\mathrm{seen}}, z)

    The density is the density of the seen numbers. Draws and mean keep the seen numbers, and have the others given
    them. Numbers of an event that are independent given z (``Independent``) are treated one by one. For a multivariate
    Gaussian the density is marginal, and draws are conditional: with :math:`O` the diagonal matrix of seen numbers,

    .. math::
        S = O \Sigma O + (I - O), \qquad
        x = \tilde x + \Sigma O S^{-1} O (x_{\mathrm{seen}} - \tilde x), \quad \tilde x \sim \mathcal N(\mu, \Sigma)

    (Doucet, A Note on Efficient Conditional Simulation of Gaussian Distributions, 2010). For every other
    distribution, an event is seen as a whole or not at all.

    Args:
        base: the distribution of all numbers of a site.
        value: the numbers; a missing one may be anything in the support.
        seen: True for the numbers that are not missing, to broadcast with ``value``.

    Example:
        >>> base = dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
        >>> half = PartlyObserved(base, torch.tensor([2.0, 0.0]), torch.tensor([True, False]))
        >>> half.mean, bool(torch.isclose(half.log_prob(half.mean), dist.Normal(0.0, 1.0).log_prob(torch.tensor(2.0))))
        (tensor([2., 1.]), True)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: Any, value: Tensor, seen: Tensor) -> None:
        self.base, self.value, self.seen = base, value, seen
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of all numbers."""
        return self.base.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> PartlyObserved:
        """Return the distribution with a larger batch shape."""
        return PartlyObserved(self.base.expand(batch_shape), self.value, self.seen)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of the seen numbers, of batch shape."""
        one_by_one = of_each_number(self.base)
        if one_by_one is not None:
            return sum_rightmost(torch.where(self.seen, one_by_one.log_prob(value), 0.0), self.event_dim)
        if not isinstance(self.base, GAUSSIAN):
            return torch.where(self._whole, self.base.log_prob(value), 0.0)
        seen, between = self.seen.to(value.dtype), self._between
        residual = seen * (value - self.base.loc)
        tril = torch.linalg.cholesky(between)
        scaled = torch.linalg.solve_triangular(tril, residual[..., None], upper=False)[..., 0]
        constant = seen.sum(-1) * torch.log(torch.tensor(2 * torch.pi, dtype=value.dtype))
        return -0.5 * (scaled.square().sum(-1) + constant) - tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return the seen numbers, and draws of the others given them."""
        return self._completed(self.base.sample(torch.Size(sample_shape)))

    @property
    def mean(self) -> Tensor:
        """The seen numbers, and the mean of the others given them."""
        mean = known_mean(self.base)
        if mean is None:
            raise NotImplementedError
        return self._completed(mean)

    @property
    def class_probabilities(self) -> Tensor | None:
        """The probabilities of the classes of a number; one for the class of a number that was seen."""
        shares = class_probabilities(self.base)
        if shares is None:
            return None
        return torch.where(self.seen[..., None], one_hot(self.value.long(), shares.shape[-1]).to(shares), shares)

    @property
    def coded(self) -> tuple[int, ...]:
        """The columns that are categories, if the numbers are the columns of a table."""
        mixed = mixed_columns(self.base)
        return () if mixed is None else mixed.coded

    @property
    def column_probabilities(self) -> Tensor:
        """The probabilities of the categories of these columns, ``(..., n, C)``; one for a category that was seen."""
        mixed, at = mixed_columns(self.base), torch.tensor(self.coded, device=self.value.device)
        assert mixed is not None
        shares = mixed.column_probabilities
        value, seen = (tensor.index_select(-1, at) for tensor in (self.value, self.seen.expand(self.value.shape)))
        codes = torch.arange(shares.shape[-1], device=at.device)
        return torch.where(seen[..., None], (value[..., None] == codes).to(shares), shares)

    def _completed(self, other: Tensor) -> Tensor:
        if isinstance(self.base, GAUSSIAN):
            seen = self.seen.to(other.dtype)
            residual = (seen * (self.value - other))[..., None]
            moved = self.base.covariance_matrix @ (seen[..., None] * torch.linalg.solve(self._between, residual))
            other = other + moved[..., 0]
        elif of_each_number(self.base) is None:
            whole = self._whole.reshape(self._whole.shape + (1,) * self.event_dim)
            return torch.where(whole, self.value.to(other.dtype), other)
        return torch.where(self.seen, self.value.to(other.dtype), other)

    @property
    def _between(self) -> Tensor:
        """The matrix S: the covariance of the seen numbers, and unit variances in place of the missing ones."""
        seen = self.seen.to(self.base.loc.dtype)
        covariance = self.base.covariance_matrix * seen[..., None, :] * seen[..., :, None]
        return covariance + torch.diag_embed(1 - seen)

    @property
    def is_broken(self) -> Tensor:
        """True for the events that are seen in part although their numbers depend on each other, of batch shape."""
        if of_each_number(self.base) is not None or isinstance(self.base, GAUSSIAN):
            return torch.zeros_like(self._whole)
        some = self.seen.flatten(self.seen.dim() - self.event_dim).any(-1) if self.event_dim else self.seen
        return some & ~self._whole

    @property
    def _whole(self) -> Tensor:
        """True for the events that have been seen as a whole, of batch shape."""
        return self.seen.flatten(self.seen.dim() - self.event_dim).all(-1) if self.event_dim else self.seen


def of_each_number(fn: Any) -> Any | None:
    """Return the distribution of the numbers of an event one by one; None if they are not independent."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return fn if not fn.event_shape else None
