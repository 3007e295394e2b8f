"""Importance sampling: the log evidence of every datum, from draws of a proposal such as the guide."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Evidence(NamedTuple):
    """An estimate of the log evidence for each of ``B`` data, nats per datum."""

    log_evidence: Tensor
    """``(B,)``; on average a lower bound, which rises with ``K``."""
    mcse: Tensor
    """Monte Carlo standard error of ``log_evidence``, ``(B,)``; infinite for a single draw, which cannot tell."""
    ess: Tensor
    """Effective number of draws, ``(B,)``, between 1 and ``K``; 0 where every weight is zero."""
    elbo: Tensor
    """The ELBO from the same draws, ``(B,)``."""


@torch.no_grad()
def importance_sampling(log_weights: Callable[[int], Tensor], num_samples: int, draws_per_pass: int) -> Evidence:
    r"""Average the importance weights of ``K`` draws; memory does not grow with ``K``.

    .. math::
        \log \hat p(x) = \log \frac1K \sum_{k=1}^K w_k, \qquad
        \mathrm{mcse} = \sqrt{\frac{K}{K-1}\Bigl(\frac{\sum_k w_k^2}{(\sum_k w_k)^2} - \frac1K\Bigr)}, \qquad
        \mathrm{ess} = \frac{(\sum_k w_k)^2}{\sum_k w_k^2}

    The expectation of the estimate is the bound :math:`\mathcal L_K \le \log p(x)` of Burda, Grosse and Salakhutdinov,
    Importance Weighted Autoencoders (2016), equation 8. The standard error is the delta method's.

    Args:
        log_weights: gives ``(k, B)`` log weights, log p(x, z) - log q(z | x), of ``k`` fresh draws.
        num_samples: ``K``, draws per datum.
        draws_per_pass: at most this many at once.

    Returns:
        Evidence: four tensors ``(B,)`` in double precision, nats per datum.

    Example:
        >>> log_weights = lambda k: torch.full((k, 3), -1.5)  # a proposal that is the posterior
        >>> estimate = importance_sampling(log_weights, num_samples=100, draws_per_pass=30)
        >>> estimate.log_evidence, estimate.ess.round()
        (tensor([-1.5000, -1.5000, -1.5000], dtype=torch.float64), tensor([100., 100., 100.], dtype=torch.float64))
    """
    log_weight = log_weights(min(draws_per_pass, num_samples)).double()
    done, total = len(log_weight), log_weight.sum(0)
    log_sum, log_sum_squares = log_weight.logsumexp(0), (2 * log_weight).logsumexp(0)
    while done < num_samples:
        log_weight = log_weights(min(draws_per_pass, num_samples - done)).double()
        log_sum = torch.logaddexp(log_sum, log_weight.logsumexp(0))
        log_sum_squares = torch.logaddexp(log_sum_squares, (2 * log_weight).logsumexp(0))
        total = total + log_weight.sum(0)
        done += len(log_weight)
    nothing = log_sum == -math.inf
    concentration = (log_sum_squares - 2 * log_sum).exp().masked_fill(nothing, math.inf)  # 1 / ess
    if num_samples > 1:
        variance = (concentration - 1 / num_samples).clamp(min=0) * num_samples / (num_samples - 1)
    else:
        variance = torch.full_like(log_sum, math.inf)
    return Evidence(log_sum - math.log(num_samples), variance.sqrt(), 1 / concentration, total / num_samples)
