"""Sequential Monte Carlo: the log evidence of sequences from particles that follow a chain of latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.evidence.ais import mean_of_chains
from ppl_vae.evidence.estimate import MOST_BELIEVABLE_ERROR, Evidence, Progress, refuse_nan

Extend = Callable[[Tensor | None, int], tuple[Tensor, Tensor]]
"""A function from particles ``(R K, B, ...)`` after a step, None before the first, and the number of the next step. It
returns the particles after that step, and their log weights of it, ``(R K, B)``."""

RESAMPLING_SHARE = 0.5
"""Effective share of the particles below which they are resampled: Doucet and Johansen (2009), section 3.5."""


class Filters(NamedTuple):
    """Independent particle filters of every datum."""

    extend: Extend
    """Function that moves all particles of all filters by a step."""
    num_steps: int
    """``T``, the number of steps of the longest sequence."""
    num_filters: int = 10
    """``R``, the number of filters, whose spread is the error."""
    first_datum: int = 0
    """Row of the first datum of the batch, for messages."""
    progress: Progress | None = None
    """Function that is called with 1 for every step."""


@torch.no_grad()
def smc(filters: Filters) -> Evidence:
    r"""Carry particles along a chain, resample them on the way, and multiply the means of their weights.

    .. math::
        w_{t,k} = \frac{p(z_{t,k} \mid z_{t-1,a_k})\, p(x_t \mid z_{t,k})}{q(z_{t,k} \mid z_{t-1,a_k}, x)}, \qquad
        \log \hat p_r(x) = \sum_{t=1}^T \log \frac1K \sum_{k=1}^K w_{t,k}, \qquad
        \log \hat p(x) = \log \frac1R \sum_{r=1}^R \hat p_r(x)

    :math:`a_k` is the ancestor of particle k. Particles are drawn anew in proportion to their weights, by systematic
    resampling, when their effective number falls below half of them; until then, weights of several steps are
    multiplied. The mean of :math:`\hat p_r(x)` is the evidence, so that the estimate is on average a lower bound. The
    weights of importance sampling multiply over all steps, and the number of draws that is needed grows exponentially
    with the length. That of a filter grows in proportion to it. With one step, this is importance sampling.

    Source: Doucet and Johansen, A tutorial on particle filtering and smoothing (2009), sections 3.4 and 3.5; the
    estimate as a bound: Maddison et al., Filtering Variational Objectives (2017).

    Args:
        filters: the particle filters.

    Returns:
        Evidence: a lower bound on average, nats per datum, ``(B,)``. The standard error and the effective number are
        those of the R filters. An estimate is doubtful if its error is above 0.5 nats or unknown. Column:
        ``"lowest_share"``, the smallest effective share of the particles at any step, averaged over the filters.

    Raises:
        Diverged: if a weight is NaN or plus infinity.

    Example:
        >>> def extend(particles, step):  # six particles of three data, each with the same weight
        ...     return torch.randn(6, 3, 2), torch.full((6, 3), -0.5)
        >>> estimate = smc(Filters(extend, num_steps=4, num_filters=2))
        >>> [values.round(decimals=3).tolist() for values in (estimate.log_evidence, estimate.columns["lowest_share"])]
        [[-2.0, -2.0, -2.0], [1.0, 1.0, 1.0]]
    """
    particles, shares = None, []
    log_weight = log_evidence = torch.zeros((), dtype=torch.double)
    for step in range(filters.num_steps):
        particles, increment = filters.extend(particles, step)
        refuse_nan(increment, filters.first_datum)
        log_weight = log_weight + increment.double().unflatten(0, (filters.num_filters, -1))  # (R, K, B)
        log_mean_weight, _, effective = mean_of_chains(log_weight.movedim(1, 0))
        shares.append(effective / log_weight.shape[1])
        poor = shares[-1] < RESAMPLING_SHARE
        if step < filters.num_steps - 1 and poor.any():
            log_evidence = log_evidence + torch.where(poor, log_mean_weight, 0.0)
            particles = _take(particles, _resample(log_weight, poor))
            log_weight = log_weight.masked_fill(poor[:, None], 0.0)
        if filters.progress is not None:
            filters.progress(1)
    log_evidence = log_evidence + mean_of_chains(log_weight.movedim(1, 0))[0]  # (R, B)
    mean, mcse, ess = mean_of_chains(log_evidence)
    lowest = torch.stack(shares).amin(0).mean(0)
    return Evidence(mean, mcse, ess, ~(mcse <= MOST_BELIEVABLE_ERROR), "lower", columns={"lowest_share": lowest})


def _resample(log_weight: Tensor, poor: Tensor) -> Tensor:
    """Return the number of each particle's ancestor, ``(R, K, B)``; itself in filters that are not poor."""
    num_filters, num_particles, num_data = log_weight.shape
    shares = log_weight.softmax(1).nan_to_num(1 / num_particles)  # all weights may be zero
    up_to = shares.movedim(1, -1).cumsum(-1)
    places = torch.arange(num_particles, dtype=torch.double, device=log_weight.device)
    offset = torch.rand(num_filters, num_data, 1, dtype=torch.double, device=log_weight.device)
    drawn = torch.searchsorted(up_to / up_to[..., -1:], (places + offset) / num_particles, right=True)
    drawn = drawn.clamp(max=num_particles - 1)
    return torch.where(poor[..., None], drawn, places.long()).movedim(-1, 1)


def _take(particles: Tensor, ancestors: Tensor) -> Tensor:
    """Return the ancestors ``(R, K, B)`` of particles ``(R K, B, ...)``."""
    by_filter = particles.unflatten(0, ancestors.shape[:2]).flatten(3)
    return by_filter.gather(1, ancestors[..., None].expand_as(by_filter)).reshape(particles.shape)
