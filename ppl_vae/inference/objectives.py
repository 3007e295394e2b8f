"""Objectives: bounds on the log evidence as functions of log weights, ``(K, B) -> (B,)``, nats per datum."""

from __future__ import annotations

from torch import Tensor

from ppl_vae.program import WeightedDraws


def elbo(draws: WeightedDraws) -> Tensor:
    r"""The evidence lower bound of every datum, with the gradient of ``pyro.infer.Trace_ELBO``.

    .. math::
        \mathcal L(x) = \mathbb E_{q(z \mid x)}\bigl[\log p(x, z) - \log q(z \mid x)\bigr]
        \approx \frac1K \sum_{k=1}^K \log w_k

    Reparameterised sites carry the gradient along the path (Kingma and Welling 2014, section 2.4). For the others the
    score-function term :math:`\log w \, \nabla \log q` is added, whose value is zero here (Ranganath, Gerrish and
    Blei, Black Box Variational Inference, 2014, equation 3).

    Args:
        draws: log weights ``(K, B)`` and the score of the sites that are not reparameterised.

    Returns:
        Tensor: ``(B,)``, nats per datum, higher is better. The value is the bound; its gradient is to be ascended.

    Example:
        >>> import torch
        >>> elbo(WeightedDraws(torch.tensor([[-1.0, -4.0], [-3.0, -4.0]]), None))
        tensor([-2., -4.])
    """
    log_weight, score = draws
    if score is None:
        return log_weight.mean(0)
    return (log_weight + log_weight.detach() * (score - score.detach())).mean(0)
