"""What a program hands out of its draws: tensors with the draws in front and the data behind them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class WeightedDraws(NamedTuple):
    """Log weights of draws from the guide, and what the score-function gradient needs."""

    log_weight: Tensor
    """log p(x, z) - log q(z | x), shape ``(K, B)``, nats."""
    score: Tensor | None
    """Sum of log q over the sites that are not reparameterised, ``(K, B)``; None where every site is."""
    shared: Tensor | float = 0.0
    """What latents that all data share contribute to an objective, nats per datum: minus the divergence of their
    posterior from the prior, divided by the number of data."""


class Draws(NamedTuple):
    """Draws of every site: a name to a tensor ``(K, B, ...)``."""

    latents: dict[str, Tensor]
    observed: dict[str, Tensor]
    """Draws of the observed sites given the latents."""
    means: dict[str, Tensor]
    """Means of the observed sites given the latents; the draw itself where a distribution has no mean."""
    data: dict[str, Tensor]
    """What the observed sites observe, ``(B, ...)``."""
