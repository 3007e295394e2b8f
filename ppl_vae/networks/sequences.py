"""Networks for sequences: the gated transition and the combiner of a deep Markov model, and an RNN in reverse."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.networks.perceptrons import mlp


class GatedTransition(nn.Module):
    r"""A network from a latent to the Gaussian of the next: a gate mixes a linear map and an MLP, number by number.

    .. math::
        g = \mathrm{sigmoid}\bigl(\mathrm{MLP}_g(z)\bigr), \quad h = \mathrm{MLP}_h(z), \quad
        \mu = (1 - g) \odot (W z + b) + g \odot h, \quad \sigma = \mathrm{softplus}\bigl(V\,\mathrm{relu}(h) + c\bigr)

    The linear map begins as the identity. Source: Krishnan, Shalit and Sontag, Structured Inference Networks for
    Nonlinear State Space Models (2017), section 5; sigma is a standard deviation, as in Pyro's tutorial.

    Args:
        latent_dim: size of a latent.
        hidden: width of the hidden layers of both MLPs.
        min_scale: smallest standard deviation.

    Example:
        >>> loc, scale = GatedTransition(3, 8)(torch.zeros(5, 2, 3))
        >>> loc.shape, scale.shape
        (torch.Size([5, 2, 3]), torch.Size([5, 2, 3]))
    """

    def __init__(self, latent_dim: int, hidden: int, *, min_scale: float = 1e-3) -> None:
        super().__init__()
        self.gate = mlp([latent_dim, hidden, latent_dim])
        self.proposed = mlp([latent_dim, hidden, latent_dim])
        self.linear = nn.Linear(latent_dim, latent_dim)
        self.scale = nn.Linear(latent_dim, latent_dim)
        self.min_scale = min_scale
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the next latent, ``(..., latent_dim)`` each."""
        gate, proposed = self.gate(z).sigmoid(), self.proposed(z)
        loc = torch.lerp(self.linear(z), proposed, gate)
        return loc, functional.softplus(self.scale(proposed.relu())) + self.min_scale


class Combiner(nn.Module):
    r"""A network from the previous latent and the state of an RNN to a Gaussian over a latent.

    .. math::
        c = \tfrac 1 2 \bigl(\tanh(W z_{t-1} + b) + h_t\bigr), \qquad
        \mu = W_\mu c + b_\mu, \quad \sigma = \mathrm{softplus}(W_\sigma c + b_\sigma)

    Source: Krishnan, Shalit and Sontag, Structured Inference Networks for Nonlinear State Space Models (2017), section
    4, the combiner of DKS.

    Args:
        latent_dim: size of a latent.
        hidden: width of the RNN.
        min_scale: smallest standard deviation.

    Example:
        >>> loc, scale = Combiner(3, 8)(torch.zeros(5, 2, 3), torch.zeros(2, 8))
        >>> loc.shape, scale.shape
        (torch.Size([5, 2, 3]), torch.Size([5, 2, 3]))
    """

    def __init__(self, latent_dim: int, hidden: int, *, min_scale: float = 1e-3) -> None:
        super().__init__()
        self.latent = nn.Linear(latent_dim, hidden)
        self.gaussian = nn.Linear(hidden, 2 * latent_dim)
        self.min_scale = min_scale

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, given the previous latent and the state of the RNN, ``(..., hidden)``."""
        loc, raw = self.gaussian((self.latent(z).tanh() + h) / 2).chunk(2, -1)
        return loc, functional.softplus(raw) + self.min_scale


def reversed_within(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence within its length; the values past its end stay in place.

    Args:
        x: padded sequences, ``(B, T, ...)``.
        lengths: length of each sequence, ``(B,)``.

    Example:
        >>> reversed_within(torch.tensor([[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]]), torch.tensor([3, 5]))
        tensor([[3, 2, 1, 0, 0],
                [5, 4, 3, 2, 1]])
    """
    step = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths[:, None] - 1 - step
    order = torch.where(mirrored >= 0, mirrored, step)
    return x.gather(1, order.reshape(order.shape + (1,) * (x.dim() - 2)).expand(x.shape))


class BackwardRNN(nn.Module):
    r"""An RNN that reads each sequence from its end: its state at a step depends on that step and the later ones.

    .. math:: h_t = f(h_{t+1}, x_t), \qquad h_{T_i + 1} = 0

    A sequence is reversed within its length, so that no state depends on its padding.

    Args:
        features: number of numbers of one step.
        hidden: width of the state.
        cell: kind of RNN: ``gru``, or ``rnn`` (tanh).

    Example:
        >>> h = BackwardRNN(4, 8)(torch.zeros(2, 5, 4), torch.tensor([5, 3]))
        >>> h.shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, features: int, hidden: int, cell: Literal["gru", "rnn"] = "gru") -> None:
        super().__init__()
        self.rnn = {"rnn": nn.RNN, "gru": nn.GRU}[cell](features, hidden, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the state at every step, ``(B, T, hidden)``, of sequences ``(B, T, features)``."""
        states, _ = self.rnn(reversed_within(x, lengths))
        return reversed_within(states, lengths)
