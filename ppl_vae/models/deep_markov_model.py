"""Deep Markov model of sequences."""

from __future__ import annotations

from typing import Any, Literal

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.networks import (
    BackwardRNN,
    Combiner,
    GatedTransition,
    GaussianChain,
    Likelihood,
    RecurrentCell,
    make_likelihood,
    mlp,
)


class DeepMarkovModel(nn.Module):
    r"""A chain of Gaussian latents with a gated nonlinear transition, each decoded to one step of a sequence.

    .. math::
        z_t \mid z_{t-1} \sim \mathcal N\bigl(\mu_\theta(z_{t-1}), \mathrm{diag}\,\sigma_\theta^2(z_{t-1})\bigr), \qquad
        x_{t,d} \mid z_t \sim p\bigl(\cdot\,; \mathrm{MLP}_\theta(z_t)_d\bigr), \qquad
        q_\phi(z \mid x) = \prod_t \mathcal N\bigl(z_t; \mathrm{combiner}_\phi(z_{t-1}, h_t)\bigr)

    :math:`h_t` is the state of an RNN that reads :math:`x_t, x_{t+1}, \dots` from the end: the posterior of :math:`z_t`
    given :math:`z_{t-1}` depends on these alone. A second RNN can read :math:`x_1, \dots, x_t`. Model and guide each
    have a learned :math:`z_0`. Sequences are ``(N, T, D)``, or ``(N, T)`` of single numbers; entries past the length
    of a sequence do not count.

    Source: Krishnan, Shalit and Sontag, Structured Inference Networks for Nonlinear State Space Models (2017), section
    5 and, for the guide, DKS and ST-LR in section 4.

    Args:
        features: D, the number of numbers of one step. The data do not set it; a piano has 88 keys.
        latent_dim: size of a latent.
        emission: width of the two hidden layers from a latent to a step.
        transition: width of the hidden layers of the gated transition.
        rnn: width of the RNN.
        cell: kind of RNN: gru, or rnn (tanh), which learns more slowly.
        likelihood: likelihood of a number of a step: bernoulli, gaussian (gaussian:0.5, gaussian:decoded),
            categorical:10, poisson, ...; see ``ppl_vae.networks.make_likelihood``.
        reads: steps of a sequence that the guide reads for a latent. "future" reads its step and those after it, as DKS
            in the source. "all" also reads those before it with a second RNN, as ST-LR does.

    Example:
        >>> from ppl_vae.program import Program
        >>> x, lengths = torch.zeros(4, 6, 3), torch.tensor([6, 2, 5, 1])
        >>> Program(DeepMarkovModel(features=3)).bind((x, lengths)).log_weights((x, lengths), num_samples=2).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        features: int = 88,
        latent_dim: int = 64,
        emission: int = 100,
        transition: int = 128,
        rnn: int = 200,
        cell: Literal["gru", "rnn"] = "gru",
        likelihood: str | Likelihood = "bernoulli",
        reads: Literal["future", "all"] = "future",
    ) -> None:
        super().__init__()
        self.likelihood = make_likelihood(likelihood)
        self.emission = mlp([latent_dim, emission, emission, self.likelihood.outputs * features])
        self.transition = GatedTransition(latent_dim, transition)
        self.start, self.guide_start = (nn.Parameter(torch.zeros(latent_dim)) for _ in range(2))
        self.rnn, self.combiner = BackwardRNN(features, rnn, cell), Combiner(latent_dim, rnn)
        self.past = RecurrentCell(features, rnn, cell) if reads == "all" else None

    def model(self, x: Tensor, lengths: Tensor | None = None) -> None:
        pyro.module("dmm", self)
        x, lengths, within = _sequences(x, lengths)
        with pyro.plate("data", len(x), dim=-2):
            z = pyro.sample(
                "z", GaussianChain(self.transition, self.start, num_steps=x.shape[1], lengths=lengths[:, None])
            )
            with pyro.plate("steps", x.shape[1], dim=-1), poutine.mask(mask=within):
                pyro.sample("x", self.likelihood(self.emission(z.squeeze(-3))).to_event(1), obs=x)

    def guide(self, x: Tensor, lengths: Tensor | None = None) -> None:
        pyro.module("dmm", self)
        x, lengths, _ = _sequences(x, lengths)
        states = [self.rnn(x, lengths), *([] if self.past is None else [self.past.read(x)])]
        with pyro.plate("data", len(x), dim=-2):
            context = (h[:, None] for h in states)
            pyro.sample("z", GaussianChain(self.combiner, self.guide_start, *context, lengths=lengths[:, None]))


def _sequences(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Any]:
    """Return sequences ``(B, T, D)``, their lengths ``(B,)``, and True for the steps within them, ``(B, T)``."""
    lengths = torch.full((len(x),), x.shape[1], device=x.device) if lengths is None else lengths
    return x.reshape(*x.shape[:2], -1), lengths, torch.arange(x.shape[1], device=x.device) < lengths[:, None]
