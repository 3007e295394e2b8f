"""New counts with the totals of data: what a multinomial draws if a program states one total for all data."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.program.partly_observed import PartlyObserved

COUNTS = (torch.distributions.Multinomial, dist.DirichletMultinomial)


class WithTotals(dist.TorchDistribution):
    """A multinomial, or one with a Dirichlet prior, of which each datum has its own total.

    PyTorch's multinomial draws one total for all data, although its density is that of the total of the value. A
    program therefore states the largest total of its batch, and new data would all be as long as the longest.

    Args:
        base: the multinomial.
        totals: the total of each datum, of the batch shape of ``base`` or one that broadcasts with it.

    Example:
        >>> counts = WithTotals(dist.Multinomial(9, torch.tensor([0.25, 0.75])), torch.tensor([4.0, 8.0]))
        >>> counts.sample((3,)).sum(-1)[0], counts.mean
        (tensor([4., 8.]), tensor([[1., 3.],
                [2., 6.]]))
    """

    arg_constraints: ClassVar = {}

    def __init__(self, base: Any, totals: Tensor) -> None:
        shape = torch.broadcast_shapes(base.batch_shape, totals.shape)
        self.base, self.totals = base.expand(shape), totals.expand(shape)
        super().__init__(shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the multinomial."""
        return self.base.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> WithTotals:
        """Return the distribution with a larger batch shape."""
        return WithTotals(self.base.expand(batch_shape), self.totals.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of counts, in nats; that of a multinomial is for the total of the counts."""
        return self.base.log_prob(value)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw counts, one trial after the other as PyTorch does."""
        number, most = torch.Size(sample_shape), int(self.totals.max())
        if isinstance(self.base, dist.DirichletMultinomial):
            shares, shape = dist.Dirichlet(self.base.concentration).sample(number), (most,)
        else:
            shares, shape = self.base.probs, (most, *number)
        trials = torch.distributions.Categorical(shares, validate_args=False).sample(torch.Size(shape)).movedim(0, -1)
        within = torch.arange(most, device=trials.device) < self.totals[..., None]
        counts = shares.new_zeros(number + self.batch_shape + self.event_shape)
        return counts.scatter_add(-1, trials, within.to(shares).expand(trials.shape))

    @property
    def mean(self) -> Tensor:
        """The total of each datum, times the probabilities."""
        dirichlet = isinstance(self.base, dist.DirichletMultinomial)
        shares = dist.Dirichlet(self.base.concentration).mean if dirichlet else self.base.probs
        return self.totals[..., None] * shares


def with_totals(fn: Any, data: Tensor) -> Any:
    """Return a distribution whose multinomials draw the totals of the data; other distributions stay as they are."""
    if isinstance(fn, torch.distributions.Independent):
        base = with_totals(fn.base_dist, data)
        return fn if base is fn.base_dist else base.to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, PartlyObserved):
        base = with_totals(fn.base, data)
        return fn if base is fn.base else PartlyObserved(base, fn.value, fn.seen)
    return WithTotals(fn, data.sum(-1)) if isinstance(fn, COUNTS) else fn
