"""Simple Monte Carlo: the log evidence from draws of the prior, without a guide."""

from __future__ import annotations

from ppl_vae.evidence.estimate import Evidence
from ppl_vae.evidence.iwae import iwae
from ppl_vae.evidence.weights import Weights


def prior(weights: Weights) -> Evidence:
    r"""Return the logarithm of the average likelihood.

    .. math::
        \log \hat p(x) = \log \frac1K \sum_{k=1}^K p(x \mid z_k), \qquad z_k \sim p(z)

    This follows the definition of the evidence, and shows how that fails. The effective number of draws is

    .. math::
        \frac{\mathrm{ess}}{K} \to \frac1{1 + \chi^2(p(z \mid x) \,\|\, p(z))},

    and if the ``D`` coordinates of the latent are independent, :math:`1 + \chi^2` is a product of ``D`` factors
    above one: the number of draws that is needed grows exponentially with the dimension of the latent. Soon a single
    draw has all the weight, and the estimate is far below the evidence. Its standard error, which is never above one
    nat, does not show how far; ``doubtful`` shows that something is wrong. Better estimates need a guide that draws
    where the posterior is, :func:`~ppl_vae.evidence.iwae.iwae`, or a path from the prior to the posterior. Source of
    the rate: Agapiou, Papaspiliopoulos, Sanz-Alonso and Stuart, Importance Sampling: Intrinsic Dimension and
    Computational Cost (2017), Statistical Science 32(3).

    Args:
        weights: weights p(x | z) of draws z ~ p(z), see :func:`~ppl_vae.evidence.weights.weigh`.

    Returns:
        Evidence: a lower bound on average, nats per datum, ``(B,)``. It is doubtful if the Pareto k of the weights is
        unknown or above its threshold. Column: ``"pareto_k"``. The curve has the bound of 1, 10, 100, ... and ``K``
        draws.

    Example:
        >>> import torch
        >>> from ppl_vae.evidence.weights import weigh
        >>> effective = {}
        >>> for dim in (1, 5, 20):  # z ~ N(0, I), x | z ~ N(z, I / 2), at x = 0
        ...     g = torch.Generator().manual_seed(0)
        ...     log_weights = lambda k: -torch.randn((k, 1, dim), generator=g).square().sum(-1)
        ...     effective[dim] = round(prior(weigh(log_weights, 1000, 1000)).ess.item())
        >>> effective[1] > 2 * effective[5] > 20 * effective[20]
        True
    """
    average = iwae(weights)
    return average._replace(columns={"pareto_k": average.columns["pareto_k"]})  # the mean log weight is not an ELBO
