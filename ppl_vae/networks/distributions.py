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
from torch.nn import functional

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


class Classes(dist.Categorical):
    """One of several classes for each number, which have numbers of classes of their own.

    Args:
        logits: ``(..., n, C)``; minus infinity for a class that a number does not have.
        most: the last class of each number, ``(n,)``.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0, -math.inf], [0.0, 0.0, 0.0]])
        >>> classes = Classes(logits, torch.tensor([1, 2]))
        >>> classes.log_prob(torch.tensor([1.0, 2.0])).exp(), classes.support.check(torch.tensor([2.0, 2.0]))
        (tensor([0.5000, 0.3333]), tensor([False,  True]))
    """

    def __init__(self, logits: Tensor, most: Tensor, validate_args: bool | None = None) -> None:
        self.most = most
        super().__init__(logits=logits, validate_args=validate_args)

    @dist.constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> dist.constraints.Constraint:
        """Return the classes of each number."""
        return dist.constraints.integer_interval(0, self.most)

    def expand(self, batch_shape: Sequence[int], _instance: Classes | None = None) -> Classes:
        """Return the same classes for every datum of a batch."""
        return Classes(self.logits.expand(*batch_shape, self.logits.shape[-1]), self.most, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log probabilities of classes ``(..., n)``, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        index = value.long().clamp(0, self.logits.shape[-1] - 1)
        shape = torch.broadcast_shapes(index.shape, self.logits.shape[:-1])
        return self.logits.expand(*shape, -1).gather(-1, index.expand(shape)[..., None])[..., 0]


class MixedColumns(dist.TorchDistribution):
    r"""Independent numbers, one for each column of a table, where groups of columns have different families.

    .. math:: p(x) = \prod_g \prod_{d \in g} p_g(x_d)

    The density of a group is one call of its family. Numbers of classes (binary ones too) have no mean; ``mean`` has
    their most probable class in its place, and ``column_probabilities`` their probabilities.

    Args:
        parts: a distribution of batch shape ``(..., n)`` for each group.
        order: the columns of the first group, of the second, and so on, ``(D,)``.
        places: the place of each column in this order, ``(D,)``; by default it is computed.

    Example:
        >>> parts = [dist.Normal(torch.zeros(5, 2), 1.0), dist.Bernoulli(torch.full((5, 1), 0.75))]
        >>> mixed = MixedColumns(parts, torch.tensor([0, 2, 1]))
        >>> mixed.log_prob(mixed.sample()).shape, mixed.mean[0].tolist(), mixed.coded, mixed.column_probabilities[0]
        (torch.Size([5, 3]), [0.0, 1.0, 0.0], (1,), tensor([[0.2500, 0.7500]]))
    """

    arg_constraints: ClassVar = {}

    def __init__(
        self,
        parts: Sequence[dist.TorchDistribution],
        order: Tensor,
        places: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.parts, self.order = tuple(parts), order
        self.places = order.argsort() if places is None else places
        self.sizes = [part.batch_shape[-1] for part in self.parts]
        lead = torch.broadcast_shapes(*(part.batch_shape[:-1] for part in self.parts))
        super().__init__(torch.Size((*lead, sum(self.sizes))), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """True if every part has a path for gradients."""
        return all(part.has_rsample for part in self.parts)

    @dist.constraints.dependent_property(event_dim=0)
    def support(self) -> dist.constraints.Constraint:
        """Return the support of each column."""
        return _SupportOfColumns(self)

    def expand(self, batch_shape: Sequence[int], _instance: MixedColumns | None = None) -> MixedColumns:
        """Return the same distribution for every datum of a batch."""
        lead = tuple(batch_shape)[:-1]
        parts = [part.expand(torch.Size((*lead, size))) for part, size in zip(self.parts, self.sizes, strict=True)]
        return MixedColumns(parts, self.order, self.places, validate_args=False)

    def split(self, value: Tensor) -> tuple[Tensor, ...]:
        """Return the numbers of each group, of values ``(..., D)``."""
        return value.index_select(-1, self.order).split(self.sizes, -1)

    def join(self, parts: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return numbers ``(..., D)`` in the order of the columns, given those of each group: the inverse of split."""
        lead = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
        joined = torch.cat([part.to(like.dtype).expand(*lead, -1) for part in parts], -1)
        return joined.index_select(-1, self.places)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of each of the numbers ``(..., D)``, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        pairs = zip(self.parts, self.split(value), strict=True)
        return self.join([part.log_prob(numbers.to(_dtype(part))) for part, numbers in pairs], value)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw the numbers of each group, with a path for gradients if each of them has one."""
        draws = [part.rsample if self.has_rsample else part.sample for part in self.parts]
        return self.join([draw(torch.Size(sample_shape)) for draw in draws], self._like)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw the numbers of each group."""
        return self.join([part.sample(torch.Size(sample_shape)) for part in self.parts], self._like)

    @property
    def mean(self) -> Tensor:
        """The mean of each number, and the most probable class of a number that is one."""
        shares = [_shares(part) for part in self.parts]
        means = [
            part.mean if share is None else share.argmax(-1) for part, share in zip(self.parts, shares, strict=True)
        ]
        return self.join(means, self._like).expand(self.batch_shape)

    @property
    def coded(self) -> tuple[int, ...]:
        """The columns whose numbers are classes, in their order."""
        columns = self.order.split(self.sizes)
        coded = [of_part for part, of_part in zip(self.parts, columns, strict=True) if _shares(part) is not None]
        return tuple(sorted(column for of_part in coded for column in of_part.tolist()))

    @property
    def column_probabilities(self) -> Tensor | None:
        """The probabilities of the classes of the ``coded`` columns, ``(..., n, C)``; None if there is no such column.

        C is the largest number of classes, and a class that a column does not have has the probability zero.
        """
        shares = [_shares(part) for part in self.parts]
        coded = [share for share in shares if share is not None]
        if not coded:
            return None
        most, lead = max(share.shape[-1] for share in coded), self.batch_shape[:-1]
        padded = [functional.pad(share, (0, most - share.shape[-1])).expand(*lead, -1, -1) for share in coded]
        pairs = zip(self.order.split(self.sizes), shares, strict=True)
        columns = torch.cat([of_part for of_part, share in pairs if share is not None])
        return torch.cat([share.to(self._like.dtype) for share in padded], -2).index_select(-2, columns.argsort())

    @property
    def _like(self) -> Tensor:
        """An empty tensor of the type of the numbers; a part may be more precise."""
        dtypes = [_dtype(part) for part in self.parts]
        return torch.empty(0, dtype=min(dtypes, key=lambda dtype: torch.finfo(dtype).bits), device=self.order.device)


class _SupportOfColumns(dist.constraints.Constraint):
    """The support of each number of ``MixedColumns``."""

    def __init__(self, columns: MixedColumns) -> None:
        self.columns = columns
        self.is_discrete = all(_support(part).is_discrete for part in columns.parts)

    def check(self, value: Tensor) -> Tensor:
        """Return True for the numbers that can be drawn."""
        columns = self.columns
        pairs = zip(columns.parts, columns.split(value), strict=True)
        return columns.join(
            [_support(part).check(numbers) for part, numbers in pairs], value.new_empty(0, dtype=torch.bool)
        )


def _support(part: dist.TorchDistribution) -> dist.constraints.Constraint:
    support = part.support
    assert support is not None
    return support


def _dtype(part: dist.TorchDistribution) -> torch.dtype:
    """Return the type of the parameters of a distribution."""
    inner = part.base_dist if hasattr(part, "base_dist") else part
    parameters = (inner.__dict__.get(name) for name in inner.arg_constraints)
    return next(parameter.dtype for parameter in parameters if parameter is not None)


def _shares(part: dist.TorchDistribution) -> Tensor | None:
    """Return the probabilities of the classes of a distribution of classes, ``(..., n, C)``; None for another one."""
    if isinstance(part, dist.Bernoulli):
        return torch.stack([1 - part.probs, part.probs], -1)
    return part.probs if isinstance(part, dist.Categorical) else None
