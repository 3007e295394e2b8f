"""Bidirectional Monte Carlo: the log evidence of simulated data between a lower and an upper bound."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.evidence.ais import Chains, mean_of_chains
from ppl_vae.evidence.estimate import MOST_BELIEVABLE_ERROR, Evidence

NUM_MOVES = 10
"""Number of transitions of the reverse chains at the target before they are annealed; they leave their common start."""

WIDEST_SANDWICH = 1.0
"""Largest difference between the bounds, in nats, for which the chains are believed to have followed the path."""


@torch.no_grad()
def bdmc(chains: Chains, exact: Tensor) -> Evidence:
    r"""Anneal from the start density to the target, and from an exact draw of the target back.

    .. math::
        \text{lower} = \log \frac1C \sum_{c=1}^C w_c, \qquad
        \text{upper} = -\log \frac1C \sum_{c=1}^C \frac1{w'_c}, \qquad
        \mathrm E[\text{lower}] \le \log p(x) \le \mathrm E[\text{upper}]

    The forward chains are those of :func:`~ppl_vae.evidence.ais.ais`. A reverse chain begins with a draw of the
    posterior and goes :math:`u_{T-1}, \dots, u_0`. Its transition at :math:`\beta_t` from :math:`u_t` to
    :math:`u_{t-1}` has the step size with which a forward chain goes from :math:`u_{t-1}` to :math:`u_t`. The
    transitions are reversible. So a reverse chain is a forward chain backwards in time, and
    :math:`\mathrm E[1 / w'] = 1 / p(x)`. Simulated data come with one draw of their posterior: the latent from which
    they were simulated. All reverse chains of a datum begin there, and each first moves at the target.

    Source: Grosse, Ghahramani and Adams, Sandwiching the marginal likelihood using bidirectional Monte Carlo (2015).

    Args:
        chains: the start density, the target, and how the chains go from one to the other.
        exact: latent from which each datum was simulated, ``(B, D)``, in unconstrained space.

    Returns:
        Evidence: the middle of both bounds, nats per datum, ``(B,)``. The standard error is half the root of the sum
        of the squared errors of both sides. The reverse chains share their start and can agree without being right, so
        the spread over data is the safer error. The effective number is the smaller one of both sides. An estimate is
        doubtful if the bounds are more than a nat apart, or if its error is above 0.5 nats or unknown. Columns:
        ``"lower"`` and ``"upper"``, which can be in the wrong order by their Monte Carlo error, and ``"acceptance"``,
        the mean over both directions.

    Raises:
        InputError: if a setting is impossible.
        Diverged: if the weight of a chain is NaN or plus infinity, or ``exact`` is impossible under the target.

    Example:
        >>> from ppl_vae.evidence.ais import Annealing
        >>> log_start = lambda u: torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(-1)
        >>> log_densities = lambda u: (log_start(u), log_start(u) - 1.5)  # starts at the posterior
        >>> draw = lambda num_chains: torch.randn(num_chains, 3, 2)
        >>> estimate = bdmc(Chains(draw, log_densities, Annealing(10, 4)), torch.randn(3, 2))
        >>> (estimate.columns["upper"] - estimate.columns["lower"]).abs().max() < 1e-5
        tensor(True)
    """
    steps = chains.adapt()
    log_weight, acceptance, _ = chains.forward(steps)
    lower, mcse_lower, ess_lower = mean_of_chains(log_weight)
    log_weight, acceptance_back, _ = chains.backward(exact, steps, NUM_MOVES)
    minus_upper, mcse_upper, ess_upper = mean_of_chains(log_weight)
    upper = -minus_upper
    mcse = torch.hypot(mcse_lower, mcse_upper) / 2
    return Evidence(
        (lower + upper) / 2,
        mcse,
        torch.minimum(ess_lower, ess_upper),
        doubtful=~((upper - lower <= WIDEST_SANDWICH) & (mcse <= MOST_BELIEVABLE_ERROR)),
        bound="sandwich",
        columns={"lower": lower, "upper": upper, "acceptance": (acceptance + acceptance_back) / 2},
    )
