"""The result of every estimator of the evidence, and the functions that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ppl_vae.display.readable import readable
from ppl_vae.errors import Diverged

BoundSide = Literal["lower", "estimate", "sandwich", "exact"]
"""The side of the log evidence on which an estimate is: on average below, unknown, between two bounds, exact."""

Progress = Callable[[int], object]
"""A function that is called with the number of draws, or of steps, since the last call."""

MOST_BELIEVABLE_ERROR = 0.5
"""Largest error of a logarithm for which the delta method can be trusted; it needs a small relative error."""


@readable
class Evidence(NamedTuple):
    """An estimate of the log evidence for each of ``B`` data, nats per datum, in double precision."""

    log_evidence: Tensor
    """The estimate, ``(B,)``; minus infinity if every weight is zero."""
    mcse: Tensor
    """Monte Carlo standard error of ``log_evidence``, ``(B,)``; infinite if it is unknown."""
    ess: Tensor
    """Effective number of draws or chains, ``(B,)``; 0 if every weight is zero."""
    doubtful: Tensor
    """True if the estimate or its error should not be believed, ``(B,)``."""
    bound: BoundSide
    """The side of the log evidence on which the estimate is."""
    columns: Mapping[str, Tensor] = MappingProxyType({})
    """Further numbers for every datum, ``(B,)`` each: ``"elbo"``, ``"pareto_k"``, ``"lower"``, ``"upper"``."""
    curve: Mapping[int, Tensor] = MappingProxyType({})
    """The bound ``(B,)`` by number of draws, from one to all."""

    def table(self) -> dict[str, Tensor]:
        """Return everything but the curve by name, ``(B,)`` each.

        Example:
            >>> one = torch.ones(3)
            >>> sorted(Evidence(one, one, one, one > 0, "lower", {"elbo": one}).table())
            ['doubtful', 'elbo', 'ess', 'log_evidence', 'mcse']
        """
        return {name: getattr(self, name) for name in ("log_evidence", "mcse", "ess", "doubtful")} | dict(self.columns)

    def content(self) -> dict[str, Any]:
        """Return all fields by name, those that are mappings as dictionaries."""
        return {**self._asdict(), "columns": dict(self.columns), "curve": dict(self.curve)}


def log_mean(log_sum: Tensor, log_sum_squares: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the logarithm of a mean of weights, its standard error and the effective number of weights.

    .. math::
        \log \hat p = \log \frac1K \sum_k w_k, \qquad
        \mathrm{mcse} = \sqrt{\frac{K}{K-1}\Bigl(\frac{\sum_k w_k^2}{(\sum_k w_k)^2} - \frac1K\Bigr)}, \qquad
        \mathrm{ess} = \frac{(\sum_k w_k)^2}{\sum_k w_k^2}

    The standard error is that of the delta method; it is infinite for a single weight, and if all weights are zero.

    Args:
        log_sum: :math:`\log \sum_k w_k`, ``(B,)``.
        log_sum_squares: :math:`\log \sum_k w_k^2`, ``(B,)``.
        count: ``K``, the number of weights.

    Returns:
        tuple[Tensor, Tensor, Tensor]: the three numbers, ``(B,)`` each.

    Example:
        >>> log_weights = torch.tensor([[0.0], [0.0], [0.0], [0.0]], dtype=torch.double)
        >>> [t.item() for t in log_mean(log_weights.logsumexp(0), (2 * log_weights).logsumexp(0), 4)]
        [0.0, 0.0, 4.0]
    """
    nothing = log_sum == -math.inf
    concentration = (log_sum_squares - 2 * log_sum).exp().masked_fill(nothing, math.inf)  # 1 / ess
    if count > 1:
        variance = (concentration - 1 / count).clamp(min=0) * count / (count - 1)
    else:
        variance = torch.full_like(log_sum, math.inf)
    return log_sum - math.log(count), variance.sqrt(), 1 / concentration


def refuse_nan(log_weight: Tensor, first_datum: int = 0) -> None:
    """Refuse log weights ``(..., B)`` that are NaN or plus infinity; minus infinity is a weight of zero.

    Args:
        log_weight: any log weights or log densities.
        first_datum: row of the first datum of the batch, for the message.

    Raises:
        Diverged: if a log weight is NaN or plus infinity.

    Example:
        >>> refuse_nan(torch.tensor([[-1.0, math.nan]]), first_datum=64)
        Traceback (most recent call last):
        ppl_vae.errors.Diverged: the log weights of datum 65 are nan: ...
    """
    bad = log_weight.isnan() | (log_weight == math.inf)
    if bad.any():
        datum = int(bad.flatten(0, -2).any(0).nonzero()[0])
        value = log_weight[..., datum][bad[..., datum]][0].item()
        raise Diverged(
            f"the log weights of datum {first_datum + datum} are {value}: a network or a density of the program is "
            f"not finite there; look at its parameters, and bound what it takes the log or the exp of"
        )
