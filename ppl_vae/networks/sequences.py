"""Networks for sequences: the gated transition and the combiner of a deep Markov model, and an RNN in reverse."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.networks.perceptrons import mlp
from ppl_vae.networks.recurrence import recur


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
    r"""A network from the previous latent and the states of one RNN, or of several, to a Gaussian over a latent.

    .. math::
        c = \tfrac 1 {1 + R} \Bigl(\tanh(W z_{t-1} + b) + \sum_{r=1}^R h_t^{(r)}\Bigr), \qquad
        \mu = W_\mu c + b_\mu, \quad \sigma = \mathrm{softplus}(W_\sigma c + b_\sigma)

    Source: Krishnan, Shalit and Sontag, Structured Inference Networks for Nonlinear State Space Models (2017), section
    4, the combiner of DKS (R = 1) and of ST-LR (R = 2).

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

    def forward(self, z: Tensor, *states: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, given the previous latent and states of RNNs, ``(..., hidden)`` each."""
        combined = sum(states, self.latent(z).tanh()) / (1 + len(states))
        loc, raw = self.gaussian(combined).chunk(2, -1)
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


class RecurrentCell(nn.Module):
    r"""The step of an RNN whose input has been multiplied by its weights beforehand, for all steps at once.

    .. math:: h_t = \tanh(x_t + W h_{t-1} + b) \quad \text{or the update of a GRU}, \qquad x_t = V s_t + a

    Its parameters have the names and the first values of ``nn.RNN`` and ``nn.GRU``.

    Args:
        features: number of numbers of one step.
        hidden: width of the state.
        kind: ``gru``, or ``rnn`` (tanh).

    Example:
        >>> cell, s = RecurrentCell(4, 8, "gru"), torch.zeros(5, 2, 4)
        >>> cell(torch.zeros(2, 8), cell.products(s)[0]).shape
        torch.Size([2, 8])
    """

    def __init__(self, features: int, hidden: int, kind: Literal["gru", "rnn"]) -> None:
        super().__init__()
        self.hidden, self.kind = hidden, kind
        self.weight_ih_l0: nn.Parameter
        self.weight_hh_l0: nn.Parameter
        self.bias_ih_l0: nn.Parameter
        self.bias_hh_l0: nn.Parameter
        for name, parameter in {"rnn": nn.RNN, "gru": nn.GRU}[kind](features, hidden).named_parameters():
            self.register_parameter(name, parameter)

    def products(self, x: Tensor) -> Tensor:
        """Return the products of inputs ``(..., features)`` and their weights."""
        return functional.linear(x, self.weight_ih_l0, self.bias_ih_l0)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """Return the next state ``(n, hidden)``, given a state and the products of the step's input."""
        of_state = functional.linear(h, self.weight_hh_l0, self.bias_hh_l0)
        if self.kind == "rnn":
            return (x + of_state).tanh()
        sizes = [2 * self.hidden, self.hidden]
        (gates, new), (gates_of_state, new_of_state) = x.split(sizes, -1), of_state.split(sizes, -1)
        reset, kept = (gates + gates_of_state).sigmoid().chunk(2, -1)
        return torch.lerp((new + reset * new_of_state).tanh(), h, kept)

    def read(self, x: Tensor) -> Tensor:
        """Return the states ``(B, T, hidden)`` after every step of sequences ``(B, T, features)``."""
        products = self.products(x).movedim(1, 0)
        return recur(self, products.new_zeros(len(x), self.hidden), products).movedim(0, 1)


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
        self.rnn = RecurrentCell(features, hidden, cell)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the state at every step, ``(B, T, hidden)``, of sequences ``(B, T, features)``."""
        return reversed_within(self.rnn.read(reversed_within(x, lengths)), lengths)
