"""What every estimator of the evidence answers with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ppl_vae.errors import Diverged

BoundSide = Literal["lower", "estimate", "sandwich", "exact"]
"""What an estimate is of the log evidence: on average below it, on neither side for certain, between two, itself."""

Progress = Callable[[int], object]
"""Called with the number of draws, or of steps, that have been done since the last call."""

MOST_BELIEVABLE_ERROR = 0.5
"""The delta method gives the error of a logarithm where the relative error of its argument is small; not above this."""


class Evidence(NamedTuple):
    """An estimate of the log evidence for each of ``B`` data, nats per datum, in double precision."""

    log_evidence: Tensor
    """``(B,)``; minus infinity where every weight is zero."""
    mcse: Tensor
    """Monte Carlo standard error of ``log_evidence``, ``(B,)``; infinite where it cannot be told."""
    ess: Tensor
    """Effective number of draws or chains, ``(B,)``; 0 where every weight is zero."""
    doubtful: Tensor
    """Whether the estimate or its error should not be believed, ``(B,)``, Boolean."""
    bound: BoundSide
    columns: Mapping[str, Tensor] = MappingProxyType({})
    """What else is known of every datum, ``(B,)`` each: ``"elbo"``, ``"pareto_k"``, ``"lower"``, ``"upper"``."""
    curve: Mapping[int, Tensor] = MappingProxyType({})
    """The bound ``(B,)`` of every number of draws, from one to all."""

    def table(self) -> dict[str, Tensor]:
        """All but the curve by name, ``(B,)`` each.

        Example:
            >>> one = torch.ones(3)
            >>> sorted(Evidence(one, one, one, one > 0, "lower", {"elbo": one}).table())
            ['doubtful', 'elbo', 'ess', 'log_evidence', 'mcse']
        """
        return {name: getattr(self, name) for name in ("log_evidence", "mcse", "ess", "doubtful")} | dict(self.columns)


def log_mean(log_sum: Tensor, log_sum_squares: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""The logarithm of a mean of ``count`` weights, its standard error, and their effective number, ``(B,)`` each.

    .. math::
        \log \hat p = \log \frac1K \sum_k w_k, \qquad
        \mathrm{mcse} = \sqrt{\frac{K}{K-1}\Bigl(\frac{\sum_k w_k^2}{(\sum_k w_k)^2} - \frac1K\Bigr)}, \qquad
        \mathrm{ess} = \frac{(\sum_k w_k)^2}{\sum_k w_k^2}

    The standard error is the delta method's; it is infinite for a single weight and where all are zero.

    Args:
        log_sum: :math:`\log \sum_k w_k`.
        log_sum_squares: :math:`\log \sum_k w_k^2`.
        count: ``K``.

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
    """Weights ``(..., B)`` are numbers or zero (minus infinity); raise where they are not.

    Args:
        log_weight: any log weights or log densities.
        first_datum: the row of the batch's first datum, for the message.

    Raises:
        Diverged: one is NaN or plus infinity.

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
