"""Draws of a program and their log weights, as tensors with the draws in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    shares: dict[str, Tensor]
    """The probabilities of the categories of the columns of a table that have some, ``(K, B, n, C)``; see
    ``coded_columns``. In the means they have the most probable category."""


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
        latents, observed, means, shares = (joined_draws([part[i] for part in parts]) for i in (0, 1, 2, 4))
        return Draws(latents, observed, means, first.data, shares)
    return tuple(joined_draws([part[i] for part in parts]) for i in range(len(first)))


def with_modes(mean: Tensor, shares: Tensor | None, coded: Sequence[int]) -> Tensor:
    """Return averaged means ``(B, D)`` with the most probable category in place of an average of categories.

    Args:
        mean: the averages.
        shares: the averaged probabilities of the categories of some columns, ``(B, n, C)``.
        coded: the positions of these columns.

    Example:
        >>> with_modes(torch.tensor([[0.5, 1.3]]), torch.tensor([[[0.5, 0.1, 0.4]]]), (1,))
        tensor([[0.5000, 0.0000]])
    """
    if shares is None:
        return mean
    place = torch.tensor(coded, device=mean.device)
    return mean.index_copy(-1, place, shares.argmax(-1).to(mean.dtype))


def averages(draws: Draws, coded: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return the means of the observed sites, averaged over the draws, with the most probable categories of a table.

    Args:
        draws: the draws.
        coded: the columns that are categories, see ``coded_columns``.
    """
    real = torch.get_default_dtype()  # labels are whole numbers
    means = {name: mean.mean(0, dtype=None if mean.is_floating_point() else real) for name, mean in draws.means.items()}
    return {
        name: with_modes(mean, draws.shares[name].mean(0) if name in coded else None, coded.get(name, ()))
        for name, mean in means.items()
    }
