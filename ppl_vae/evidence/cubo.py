"""The chi upper bound on the log evidence, from the same draws as the importance-weighted bound."""

from __future__ import annotations

from ppl_vae.evidence.estimate import Evidence, log_mean
from ppl_vae.evidence.pareto import believable, pareto_k
from ppl_vae.evidence.weights import Weights


def cubo(weights: Weights) -> Evidence:
    r"""Return half the logarithm of the average squared importance weight.

    .. math::
        \mathrm{CUBO}_2 = \tfrac12 \log \mathbb E_{q(z \mid x)}\biggl[\biggl(\frac{p(x, z)}{q(z \mid x)}\biggr)^2\biggr]
        = \log p(x) + \tfrac12 \log\bigl(1 + \chi^2(p(z \mid x) \,\|\, q(z \mid x))\bigr) \ge \log p(x)

    Dieng, Tran, Ranganath, Paisley and Blei, Variational Inference via chi Upper Bound Minimization (2017), whose ``n``
    is two here. The expectation is above the evidence. The logarithm of an average of ``K`` squared weights is too
    low, and the more so the heavier their tail is. It may be below the evidence, so this is an estimate and not a
    bound. If a Gaussian guide has at most half the variance of the posterior, :math:`\mathrm{CUBO}_2` is infinite,
    and a finite sample shows this by its tail only.

    Args:
        weights: importance weights of draws from the proposal, see :func:`~ppl_vae.evidence.weights.weigh`.

    Returns:
        Evidence: an estimate, nats per datum, ``(B,)``. The standard error is half the error of the logarithm of the
        average squared weight, and the effective number of draws belongs to the squared weights. An estimate is
        doubtful if the Pareto k of the squared weights, about twice the k of the weights, is unknown or above its
        threshold. Column: ``"pareto_k"`` of the squared weights.

    Example:
        >>> import torch
        >>> from ppl_vae.evidence.weights import weigh
        >>> log_weights = lambda k: torch.full((k, 2), -1.5)  # a proposal that is the posterior
        >>> estimate = cubo(weigh(log_weights, num_samples=100, draws_per_pass=30))
        >>> estimate.log_evidence, estimate.bound
        (tensor([-1.5000, -1.5000], dtype=torch.float64), 'estimate')
    """
    k = pareto_k(2 * weights.tail, weights.num_samples)
    log_square, error, ess = log_mean(weights.log_sum_squares, weights.log_sum_fourths, weights.num_samples)
    return Evidence(
        log_square / 2,
        error / 2,
        ess,
        doubtful=~believable(k, weights.num_samples),
        bound="estimate",
        columns={"pareto_k": k},
    )
