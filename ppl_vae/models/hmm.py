"""Hidden Markov model of sequences."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.networks import Likelihood, make_likelihood


class HMM(nn.Module):
    r"""A chain of discrete states, each with its own distribution of the observation at a step.

    .. math::
        s_1 \sim \mathrm{Categorical}(\pi), \qquad s_t \mid s_{t-1} \sim \mathrm{Categorical}(A_{s_{t-1}}), \qquad
        x_{t,d} \mid s_t \sim p\bigl(\cdot\,; \theta_{s_t, d}\bigr)

    The states are summed out, so that there is no guide and the evidence is exact. Sequences are ``(N, T, D)``, or
    ``(N, T)`` of single numbers; the entries past the length of a sequence do not count.

    Source: Rabiner, A Tutorial on Hidden Markov Models (1989), sections II and III.A; of music: Boulanger-Lewandowski,
    Bengio and Vincent, Modeling Temporal Dependencies in High-Dimensional Sequences (2012).

    Args:
        features: D, the number of numbers of one step. The data do not set it; a piano has 88 keys.
        num_states: number of states.
        likelihood: likelihood of a number of a step: bernoulli, gaussian (gaussian:decoded has a scale for each state
            and number), categorical:10, poisson, ...; see ``ppl_vae.networks.make_likelihood``.

    Example:
        >>> from ppl_vae.program import Program
        >>> x, lengths = torch.zeros(4, 6, 3), torch.tensor([6, 2, 5, 1])
        >>> Program(HMM(features=3)).bind((x, lengths)).log_evidence((x, lengths)).shape
        torch.Size([4])
    """

    def __init__(self, features: int = 88, num_states: int = 16, likelihood: str | Likelihood = "bernoulli") -> None:
        super().__init__()
        self.likelihood = make_likelihood(likelihood)
        self.initial = nn.Parameter(torch.zeros(num_states))
        self.transition = nn.Parameter(torch.zeros(num_states, num_states))
        self.emission = nn.Parameter(torch.randn(num_states, self.likelihood.outputs * features))

    def model(self, x: Tensor, lengths: Tensor | None = None) -> None:
        pyro.module("hmm", self)
        x = x.reshape(*x.shape[:2], -1)
        with pyro.plate("data", len(x)):
            logits: Tensor = self.initial
            for t in pyro.markov(range(x.shape[1])):
                within: Any = True if lengths is None else t < lengths
                with poutine.mask(mask=within):
                    state = pyro.sample(f"state_{t}", dist.Categorical(logits=logits))
                    pyro.sample(f"x_{t}", self.likelihood(self.emission[state]).to_event(1), obs=x[:, t])
                logits = self.transition[state]

    def log_evidence(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return log p(x) by a parallel scan over the steps: ``(B,)``, nats."""
        x = x.reshape(*x.shape[:2], -1)
        ends = torch.full((len(x),), x.shape[1], device=x.device) if lengths is None else lengths
        step, stay = torch.arange(x.shape[1], device=x.device), torch.eye(len(self.initial)).to(x).log()
        within = step < ends[:, None]
        moves = torch.where((within & (step > 0))[..., None, None], self.transition.log_softmax(-1), stay)
        emitted = self.likelihood(self.emission).to_event(1).expand((*within.shape, len(self.initial)))
        return dist.DiscreteHMM(self.initial, moves, emitted.mask(within[..., None])).log_prob(x)
