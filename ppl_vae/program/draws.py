"""Draws of a program and their log weights, as tensors with the draws in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class WeightedDraws(NamedTuple):
    """Log weights of draws from the guide, and what the score-function gradient needs."""

    log_weight: Tensor
    """log p(x, z) - log q(z | x), shape ``(K, B)``, nats."""
    score: Tensor | None
    """Sum of log q over the sites that are not reparameterised, ``(K, B)``; None if every site is."""
    shared: Tensor | float = 0.0
    """The part of an objective that comes from latents which all data share, nats per datum: minus the divergence of
    their posterior from the prior, divided by the number of data."""


class Draws(NamedTuple):
    """Draws of every site, a tensor ``(K, B, ...)`` by name."""

    latents: dict[str, Tensor]
    observed: dict[str, Tensor]
    """Draws of the observed sites given the latents."""
    means: dict[str, Tensor]
    """Means of the observed sites given the latents; the draw itself if a distribution has no known mean, and the
    probabilities of the classes, ``(K, B, ..., C)``, if it is a categorical."""
    data: dict[str, Tensor]
    """The data of the observed sites, ``(B, ...)``."""


def joined_draws(parts: Sequence[Any]) -> Any:
    """Join what several runs computed: tensors with the draws in front, and tuples and dictionaries of them.

    Example:
        >>> joined_draws([(torch.zeros(1, 3), {"z": torch.ones(1, 3)})] * 5)[1]["z"].shape
        torch.Size([5, 3])
    """
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, dict):
        return {key: joined_draws([part[key] for part in parts]) for key in first}
    if isinstance(first, Draws):
        latents, observed, means = (joined_draws([part[i] for part in parts]) for i in range(3))
        return Draws(latents, observed, means, first.data)
    return tuple(joined_draws([part[i] for part in parts]) for i in range(len(first)))
