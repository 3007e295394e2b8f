"""Hamiltonian Monte Carlo along a path of densities, with many chains for each of many data in one tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LogDensities = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A differentiable function from ``u`` ``(C, B, D)`` to the log start and log target densities, ``(C, B)`` each."""

Beta = float | Tensor
"""An inverse temperature; a graph reads a scalar tensor anew in every run."""

JITTER = 0.5
"""Largest fraction by which the steps of a trajectory are longer or shorter. Without it, two of the longest steps that
are accepted would lead from u to about -u in a Gaussian, which mixes badly."""


class ChainState(NamedTuple):
    """The positions of chains, with both log densities and their gradients there."""

    u: Tensor
    """Positions, ``(C, B, D)``."""
    log_start: Tensor
    """Log start density, ``(C, B)``."""
    log_target: Tensor
    """Log target density, ``(C, B)``."""
    grad_start: Tensor
    """Gradient of the log start density, ``(C, B, D)``."""
    grad_target: Tensor
    """Gradient of the log target density, ``(C, B, D)``."""

    def log_density(self, beta: Beta) -> Tensor:
        """Return the tempered log density, ``(C, B)``."""
        return _between(self.log_start, self.log_target, beta)

    def grad(self, beta: Beta) -> Tensor:
        """Return the gradient of the tempered log density, ``(C, B, D)``."""
        return _between(self.grad_start, self.grad_target, beta)


def evaluate(log_densities: LogDensities, u: Tensor) -> ChainState:
    """Compute both log densities and their gradients at ``u``, and no other gradient.

    Args:
        log_densities: the start density and the target.
        u: positions, ``(C, B, D)``.

    Example:
        >>> state = evaluate(lambda u: (-u.square().sum(-1), -3 * u.sum(-1)), torch.tensor([[[1.0, 2.0]]]))
        >>> state.grad(0.0), state.grad(1.0)
        (tensor([[[-2., -4.]]]), tensor([[[-3., -3.]]]))
    """
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        log_start, log_target = log_densities(u)
        grad_target = _gradient(log_target, u)
        grad_start = _gradient(log_start, u)
    return ChainState(u.detach(), log_start.detach(), log_target.detach(), grad_start, grad_target)


@torch.no_grad()
def leapfrog(
    log_densities: LogDensities, state: ChainState, momentum: Tensor, beta: Beta, step_size: Tensor, num_leapfrog: int
) -> tuple[ChainState, Tensor]:
    r"""Follow Hamilton's equations for ``L`` leapfrog steps; with the momentum reversed, they lead back.

    .. math::
        p \leftarrow p + \tfrac\epsilon2 \nabla \log f_\beta(u), \qquad
        u \leftarrow u + \epsilon p, \qquad
        p \leftarrow p + \tfrac\epsilon2 \nabla \log f_\beta(u)

    Source: Neal, MCMC using Hamiltonian dynamics (2011), section 2.3. ``log_densities`` is only called
    with finite ``u``: a trajectory whose ``u`` is not finite continues from its start with a momentum that is not.

    Args:
        log_densities: the start density and the target.
        state: states in which the trajectories begin.
        momentum: momenta, ``(C, B, D)``.
        beta: the temperature, from 0 (start) to 1 (target).
        step_size: step size of every trajectory, ``(C, B)``.
        num_leapfrog: ``L``, the number of leapfrog steps.

    Returns:
        tuple[ChainState, Tensor]: the states and the momenta at the end of the trajectories.

    Example:
        >>> target = lambda u: (-u.square().sum(-1) / 2, -u.square().sum(-1) / 2)
        >>> begin, p = evaluate(target, torch.ones(1, 1, 1)), torch.zeros(1, 1, 1)
        >>> end, p = leapfrog(target, begin, p, 1.0, torch.full((1, 1), 0.1), num_leapfrog=31)
        >>> round(end.u.item(), 2)  # half a period of the pendulum
        -1.0
    """
    step, u = step_size[..., None], state.u
    end = state
    momentum = momentum + step / 2 * end.grad(beta)
    for n in range(1, num_leapfrog + 1):
        u = u + step * momentum
        end = evaluate(log_densities, torch.where(u.isfinite(), u, state.u))
        momentum = momentum + (step if n < num_leapfrog else step / 2) * end.grad(beta)
    return end, momentum


Propose = Callable[[LogDensities, ChainState, float, Tensor, int], tuple[ChainState, Tensor]]
"""The type of ``trajectory``."""


@torch.no_grad()
def trajectory(
    log_densities: LogDensities, state: ChainState, beta: Beta, step_size: Tensor, num_leapfrog: int
) -> tuple[ChainState, Tensor]:
    """Return the states to which a transition would lead, and the probabilities ``(C, B)`` of accepting them.

    Args:
        log_densities: the start density and the target.
        state: states of the chains.
        beta: the temperature, from 0 (start) to 1 (target).
        step_size: step size for each datum, ``(B,)``.
        num_leapfrog: ``L``, the number of leapfrog steps.
    """
    jitter = 1 - JITTER + 2 * JITTER * torch.rand_like(state.log_start)
    momentum = torch.randn_like(state.u)
    energy = momentum.square().sum(-1) / 2 - state.log_density(beta)
    end, momentum = leapfrog(log_densities, state, momentum, beta, step_size * jitter, num_leapfrog)
    end_energy = momentum.square().sum(-1) / 2 - end.log_density(beta)
    acceptance = (energy - end_energy).clamp(max=0).exp().masked_fill(~end_energy.isfinite(), 0)
    return end, acceptance


@torch.no_grad()
def move(
    log_densities: LogDensities,
    state: ChainState,
    beta: float,
    step_size: Tensor,
    num_leapfrog: int,
    propose: Propose | None = None,
) -> tuple[ChainState, Tensor]:
    r"""Make one transition of Hamiltonian Monte Carlo of every chain, which leaves the tempered density invariant.

    .. math::
        \log f_\beta(u) = (1 - \beta) \log f_0(u) + \beta \log f_1(u), \qquad
        a = \min\bigl(1, \exp(H(u, p) - H(u', p'))\bigr), \qquad
        H(u, p) = \tfrac12 p^\top p - \log f_\beta(u)

    The momentum is drawn anew and the jitter of the step sizes does not depend on the chain, so the transition is
    reversible. A trajectory is rejected if its energy at the end is not finite.

    Args:
        log_densities: the start density and the target.
        state: states of the chains.
        beta: the temperature, from 0 (start) to 1 (target).
        step_size: step size for each datum, ``(B,)``.
        num_leapfrog: ``L``, the number of leapfrog steps of a trajectory.
        propose: function that computes the trajectories; by default ``trajectory``.

    Returns:
        tuple[ChainState, Tensor]: the new states, and the probabilities ``(C, B)`` with which chains accept a move.

    Example:
        >>> flat = lambda u: (0 * u.sum(-1), 0 * u.sum(-1))
        >>> begin = evaluate(flat, torch.zeros(4, 2, 3))
        >>> end, acceptance = move(flat, begin, 0.5, torch.ones(2), num_leapfrog=5)
        >>> acceptance.unique(), bool((end.u != begin.u).all())
        (tensor([1.]), True)
    """
    end, acceptance = (propose or trajectory)(log_densities, state, beta, step_size, num_leapfrog)
    accepted = torch.rand_like(acceptance) < acceptance
    chosen = (
        torch.where(accepted if a.dim() == 2 else accepted[..., None], a, b) for a, b in zip(end, state, strict=True)
    )
    return ChainState(*chosen), acceptance


def _between(start: Tensor, target: Tensor, beta: Beta) -> Tensor:
    if isinstance(beta, Tensor):
        between = (1 - beta) * start + beta * target
        return torch.where(beta == 0, start, torch.where(beta == 1, target, between))
    if beta in (0, 1):  # zero times infinity is not zero
        return target if beta else start
    return (1 - beta) * start + beta * target


def _gradient(value: Tensor, u: Tensor) -> Tensor:
    if not value.requires_grad:  # for a constant, such as minus infinity everywhere
        return torch.zeros_like(u)
    return torch.autograd.grad(value.sum(), u, retain_graph=True, materialize_grads=True)[0]
