"""The exact evidence, if it is known."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.evidence.estimate import Evidence, refuse_nan


def exact(log_evidence: Tensor, first_datum: int = 0) -> Evidence:
    r"""Return evidence without a Monte Carlo error: a closed form, or a sum over all values of the latents.

    .. math:: \log p(x) = \log \sum_z p(x, z)

    Args:
        log_evidence: the exact log evidence, ``(B,)``, nats per datum.
        first_datum: row of the first datum of the batch, for a message.

    Raises:
        Diverged: if a value is NaN or plus infinity.

    Example:
        >>> exact(torch.tensor([-1.5, -2.0])).mcse.tolist()
        [0.0, 0.0]
    """
    refuse_nan(log_evidence[None], first_datum)
    value = log_evidence.detach().double()
    nothing = torch.zeros_like(value)
    return Evidence(value, nothing, torch.full_like(value, torch.inf), nothing.bool(), "exact")
