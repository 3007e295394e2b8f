"""The importance-weighted bound: the log evidence from draws of a proposal such as the guide."""

from __future__ import annotations

import math

from ppl_vae.evidence.estimate import Evidence, log_mean
from ppl_vae.evidence.pareto import believable, pareto_k
from ppl_vae.evidence.weights import Weights


def iwae(weights: Weights) -> Evidence:
    r"""Return the logarithm of the average importance weight.

    .. math::
        \log \hat p(x) = \log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad z_k \sim q(z \mid x)

    Its expectation is the bound :math:`\mathcal L_K \le \log p(x)` of Burda, Grosse and Salakhutdinov, Importance
    Weighted Autoencoders (2016), equation 8; it rises with ``K``. The standard error and the effective number of
    draws are those of :func:`~ppl_vae.evidence.estimate.log_mean`. They only know the weights that were drawn, which
    are small if the guide misses a part of the posterior. So the tail of the weights is examined too.

    Args:
        weights: importance weights of draws from the proposal, see :func:`~ppl_vae.evidence.weights.weigh`.

    Returns:
        Evidence: a lower bound, nats per datum, ``(B,)``. It is doubtful if the Pareto k of the weights is unknown or
        above its threshold. Columns: ``"elbo"`` of the same draws, its standard error ``"elbo_mcse"``, and
        ``"pareto_k"``. If latents are summed out of the weights, ``"elbo_collapsed"`` and its error are the mean
        log weight, which lies above the ELBO. The curve has the bound of 1, 10, 100, ... and ``K`` draws.

    Example:
        >>> import torch
        >>> from ppl_vae.evidence.weights import weigh
        >>> log_weights = lambda k: torch.full((k, 2), -1.5)  # the proposal is the posterior
        >>> estimate = iwae(weigh(log_weights, num_samples=100, draws_per_pass=30))
        >>> estimate.log_evidence, estimate.ess.round()
        (tensor([-1.5000, -1.5000], dtype=torch.float64), tensor([100., 100.], dtype=torch.float64))
        >>> estimate.doubtful.tolist()
        [False, False]
    """
    k = pareto_k(weights.tail, weights.num_samples)
    log_evidence, mcse, ess = log_mean(weights.log_sum, weights.log_sum_squares, weights.num_samples)
    root = math.sqrt(weights.num_samples)
    columns = {"elbo": weights.elbo, "elbo_mcse": weights.elbo_spread / root}
    if weights.collapsed:
        columns |= {"elbo_collapsed": weights.curve[1], "elbo_collapsed_mcse": weights.spread / root}
    return Evidence(
        log_evidence,
        mcse,
        ess,
        doubtful=~believable(k, weights.num_samples),
        bound="lower",
        columns=columns | {"pareto_k": k},
        curve=weights.curve,
    )
