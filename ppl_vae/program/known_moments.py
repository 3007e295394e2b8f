"""Mean, variance and class probabilities of a distribution, if they are known in closed form."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import MaskedDistribution
from torch import Tensor


def known_mean(fn: Any) -> Tensor | None:
    """Return the mean of a distribution; None if it is not known in closed form."""
    try:
        mean = fn.mean
    except (NotImplementedError, AttributeError):
        return None
    return None if torch.isnan(mean).all() else mean  # as torch returns for a Categorical


def class_probabilities(fn: Any) -> Tensor | None:
    """Return the probabilities of the classes of a Categorical or an ordered one, ``(..., C)``; None for others.

    Example:
        >>> import pyro.distributions as dist
        >>> class_probabilities(dist.Categorical(torch.tensor([[0.25, 0.75]])).to_event(1))
        tensor([[0.2500, 0.7500]])
    """
    while isinstance(fn, torch.distributions.Independent | MaskedDistribution):
        fn = fn.base_dist
    if isinstance(fn, torch.distributions.MixtureSameFamily):
        shares, weights = class_probabilities(fn.component_distribution), fn.mixture_distribution.probs
        if shares is None:
            return None
        extra = (1,) * (shares.dim() - weights.dim())
        return (weights.reshape(weights.shape + extra) * shares).sum(weights.dim() - 1)
    if isinstance(fn, torch.distributions.Categorical):
        return fn.probs
    return getattr(fn, "class_probabilities", None)


def mixed_columns(fn: Any) -> Any | None:
    """Return the distribution of the columns of a table in which some are categories; None if there is none.

    It has the positions of those columns, ``coded``, and their ``column_probabilities``, ``(..., n, C)``.

    Example:
        >>> import pyro.distributions as dist
        >>> from ppl_vae.networks import MixedColumns
        >>> mixed = MixedColumns([dist.Normal(torch.zeros(2), 1.0), dist.Bernoulli(torch.ones(1))], torch.arange(3))
        >>> mixed_columns(mixed.to_event(1)).coded, mixed_columns(dist.Normal(0.0, 1.0))
        ((2,), None)
    """
    while fn is not None and not hasattr(fn, "coded"):
        fn = getattr(fn, "base_dist", None)
    return fn if fn is not None and fn.coded else None


def known_variance(fn: Any) -> Tensor | None:
    """Return the variance of a distribution; None if it is not known in closed form."""
    try:
        variance = fn.variance
    except (NotImplementedError, AttributeError):
        return None
    return variance if torch.isfinite(variance).all() else None
