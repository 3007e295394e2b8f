"""Objectives: bounds on the log evidence as functions of log weights, ``(K, B) -> (B,)``, nats per datum."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from ppl_vae.errors import InputError, nearest
from ppl_vae.program import ObjectiveTerms, PathDraws, WeightedDraws

Bound = Literal["elbo", "iwae"]
"""The name of the bound that training ascends: the ELBO, or that of the importance-weighted autoencoder."""
Gradient = Literal["reparam", "score-function"]
"""The name of a gradient: along the path of the draws wherever they have one, or the score function for all."""
Baseline = Literal["leave-one-out", "decaying-average", "none"]
"""The name of the baseline that the score-function gradient subtracts from its learning signal, the log weight."""
DECAY = 0.9
"""The share of a decaying average that is kept from one step to the next."""


def elbo(draws: WeightedDraws, baseline: Tensor | None = None) -> Tensor:
    r"""Return the evidence lower bound of every datum, with the gradient of ``pyro.infer.Trace_ELBO``.

    .. math::
        \mathcal L(x) = \mathbb E_{q(z \mid x)}\bigl[\log p(x, z) - \log q(z \mid x)\bigr]
        \approx \frac1K \sum_{k=1}^K \log w_k

    Reparameterised sites carry the gradient along the path (Kingma and Welling 2014, section 2.4). For the others the
    score-function term :math:`(\log w - b) \, \nabla \log q` is added, whose value is zero here (Ranganath, Gerrish and
    Blei, Black Box Variational Inference, 2014, equation 3). Its expectation is the same for every baseline b that does
    not depend on the draw, since :math:`\mathbb E_q[\nabla \log q] = 0`; its variance is not.

    Args:
        draws: log weights ``(K, B)`` and the score of the sites that are not reparameterised.
        baseline: b in nats, of a shape that broadcasts to ``(K, B)``. It is held constant. None is zero.

    Returns:
        Tensor: the bound, ``(B,)``, nats per datum; higher is better. Its gradient is to be ascended.

    Example:
        >>> elbo(WeightedDraws(torch.tensor([[-1.0, -4.0], [-3.0, -4.0]]), None))
        tensor([-2., -4.])
    """
    log_weight, score = draws.log_weight, draws.score
    if score is None:
        return log_weight.mean(0)
    signal = log_weight.detach() if baseline is None else log_weight.detach() - baseline.detach()
    return (log_weight + signal * (score - score.detach())).mean(0)


def iwae(draws: PathDraws) -> tuple[Tensor, Tensor]:
    r"""Return the importance-weighted bound of every datum, with its doubly reparameterised gradient.

    .. math::
        \mathcal L_K(x) = \mathbb E \log \frac1K \sum_{k=1}^K w_k, \qquad
        \nabla_\theta = \sum_k \tilde w_k\, \partial_\theta \log p_\theta(x, z_k), \qquad
        \nabla_\phi = \sum_k \tilde w_k^2\, \frac{\partial \log w_k}{\partial z_k}
        \frac{\partial z_k}{\partial \phi}, \qquad
        \tilde w_k = \frac{w_k}{\sum_j w_j}

    The signal-to-noise ratio of this gradient in phi grows with K, whereas that of the bound's plain gradient falls. If
    a guide has parameters of the model, these get both terms.

    Source: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders (2016), equation 8, for the bound; Tucker
    et al., Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives (2019), equation 8, for the gradient.

    Args:
        draws: ``K`` draws for each datum.

    Returns:
        tuple: the bound ``(B,)``, nats per datum, higher is better; and the surrogate to ascend, ``(B,)``, whose value
        has no meaning.

    Example:
        >>> draws = PathDraws(torch.tensor([[-1.0, -4.0], [-3.0, -4.0]]), lambda weights: weights.sum(0))
        >>> iwae(draws)[0]
        tensor([-1.5662, -4.0000])
    """
    log_weight = draws.log_weight
    return log_weight.logsumexp(0) - math.log(len(log_weight)), draws.surrogate(log_weight.softmax(0))


def tempered(terms: ObjectiveTerms, kl_weight: float | Tensor = 1.0, free_bits: float = 0.0) -> WeightedDraws:
    r"""Return draws whose ``elbo`` has the gradient of an objective that weights the divergence.

    .. math::
        \mathbb E_q \log p(x \mid z) - \beta \sum_j \max\bigl(\lambda,\ \overline{\mathrm{KL}}_j\bigr)

    :math:`\overline{\mathrm{KL}}_j` is the mean over the batch of the divergence of latent dimension j, or of all
    dimensions together if they depend on each other; then each of them has :math:`\lambda`. The maximum acts through
    its gradient alone: a divergence below it has no gradient.

    Source: Higgins et al., beta-VAE (2017), equation 4; Kingma et al., Improving Variational Inference with Inverse
    Autoregressive Flow (2016), appendix C.8, for the free bits.

    Args:
        terms: the terms of the objective of draws from the guide.
        kl_weight: the weight beta.
        free_bits: lambda in nats per latent dimension.

    Example:
        >>> from ppl_vae.program import Divergence
        >>> terms = ObjectiveTerms(torch.zeros(1, 2), (Divergence(torch.tensor([[[0.1, 3.0], [0.3, 5.0]]]), 1),), None)
        >>> tempered(terms, kl_weight=2.0).log_weight, tempered(terms, free_bits=0.5).log_weight
        (tensor([[ -6.2000, -10.6000]]), tensor([[-3., -5.]]))
    """
    total = torch.zeros_like(terms.log_likelihood)
    for values, size in terms.divergences:
        if free_bits > 0:
            values = values * (values.detach().mean((0, 1)) > free_bits * size)
        total = total + values.flatten(2).sum(-1) if values.dim() > 2 else total + values
    return WeightedDraws(terms.log_likelihood - kl_weight * total, terms.score, terms.shared)


def leave_one_out(log_weight: Tensor) -> Tensor:
    r"""Return the baseline of each draw of a datum: the mean log weight of the other draws.

    .. math:: b_k = \frac{1}{K - 1} \sum_{j \ne k} \log w_j

    Source: Kool, van Hoof and Welling, Buy 4 REINFORCE Samples, Get a Baseline for Free! (2019); before it, for a
    bound of several draws, Mnih and Rezende, Variational Inference for Monte Carlo Objectives (2016).

    Args:
        log_weight: log weights ``(K, B)``, nats.

    Returns:
        Tensor: the baselines ``(K, B)``, nats, detached.

    Raises:
        InputError: there is only one draw.

    Example:
        >>> leave_one_out(torch.tensor([[1.0], [2.0], [6.0]]))[:, 0].tolist()
        [4.0, 3.5, 1.5]
    """
    num_draws, log_weight = len(log_weight), log_weight.detach()
    if num_draws < 2:
        raise InputError(
            f"the leave-one-out baseline needs two draws or more of each datum, got {num_draws}: num_particles=2, "
            "or baseline='decaying-average'"
        )
    return (log_weight.sum(0) - log_weight) / (num_draws - 1)


class DecayingAverage:
    r"""A baseline that averages the learning signals of the steps before.

    .. math:: b_{t+1} = \beta\, b_t + (1 - \beta)\, \ell_t

    A signal that is not finite is ignored.

    Source: Mnih and Gregor, Neural Variational Inference and Learning in Belief Networks (2014);
    ``pyro.infer.TraceGraph_ELBO`` has the same with ``use_decaying_avg_baseline``, but starts from zero.

    Args:
        start: the first average, of any shape, from additional draws. From zero, the learning signal of the first
            gradients would have its full size, from which Adam needs many steps to recover.
        decay: the factor beta.

    Example:
        >>> average = DecayingAverage(torch.tensor(-100.0))
        >>> average.update(torch.tensor(-90.0))
        >>> average.update(torch.tensor(-torch.inf))
        >>> round(average.value.item(), 4)
        -99.0
    """

    def __init__(self, start: Tensor, decay: float = DECAY) -> None:
        self.value, self.decay = torch.where(start.detach().isfinite(), start.detach(), 0.0), decay

    def update(self, signal: Tensor) -> None:
        """Update the average with the learning signal of a step, after its gradient."""
        new = torch.lerp(signal.detach(), self.value, self.decay)
        self.value = torch.where(new.isfinite(), new, self.value)


def check_gradient(gradient: Gradient, baseline: Baseline, num_particles: int) -> None:
    """Raise ``InputError`` if a name is unknown, or if leave-one-out has only one draw."""
    for what, name, known in (("gradient", gradient, Gradient), ("baseline", baseline, Baseline)):
        if name not in get_args(known):
            raise InputError(f"{what}={name!r} is unknown; {nearest(str(name), get_args(known))}")
    if gradient == "score-function" and baseline == "leave-one-out":
        leave_one_out(torch.zeros(num_particles, 1))
