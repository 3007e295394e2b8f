"""Hamiltonian Monte Carlo along a path of densities: many chains for each of many data, all in one tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LogDensities = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Of ``u`` ``(C, B, D)``: log start density and log target density, ``(C, B)`` each, differentiable in ``u``."""

Beta = float | Tensor
"""An inverse temperature; a scalar tensor is one that a graph reads anew in every run."""

JITTER = 0.5
"""A trajectory's steps are longer or shorter by up to this fraction: two equal ones lead from u to about -u in a
Gaussian, if they are as long as the acceptance lets them be, and that mixes badly."""


class ChainState(NamedTuple):
    """Where the chains are, with all that any tempered density and its gradient are made of."""

    u: Tensor
    """``(C, B, D)``."""
    log_start: Tensor
    """``(C, B)``."""
    log_target: Tensor
    """``(C, B)``."""
    grad_start: Tensor
    """``(C, B, D)``."""
    grad_target: Tensor
    """``(C, B, D)``."""

    def log_density(self, beta: Beta) -> Tensor:
        """The tempered log density, ``(C, B)``."""
        return _between(self.log_start, self.log_target, beta)

    def grad(self, beta: Beta) -> Tensor:
        """Its gradient, ``(C, B, D)``."""
        return _between(self.grad_start, self.grad_target, beta)


def evaluate(log_densities: LogDensities, u: Tensor) -> ChainState:
    """Both log densities and their gradients at ``u``; nothing else gets a gradient, and no graph is left behind.

    Args:
        log_densities: the start and the target.
        u: ``(C, B, D)``.

    Example:
        >>> point = evaluate(lambda u: (-u.square().sum(-1), -3 * u.sum(-1)), torch.tensor([[[1.0, 2.0]]]))
        >>> point.grad(0.0), point.grad(1.0)
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
    log_densities: LogDensities, point: ChainState, momentum: Tensor, beta: Beta, step_size: Tensor, num_leapfrog: int
) -> tuple[ChainState, Tensor]:
    r"""Follow Hamilton's equations for ``L`` leapfrog steps; with the momentum turned round, they lead back.

    .. math::
        p \leftarrow p + \tfrac\epsilon2 \nabla \log f_\beta(u), \qquad
        u \leftarrow u + \epsilon p, \qquad
        p \leftarrow p + \tfrac\epsilon2 \nabla \log f_\beta(u)

    Source: Neal, MCMC using Hamiltonian dynamics (2011), section 2.3. ``log_densities`` is only ever asked
    for finite ``u``: a trajectory that has left the numbers goes on from its start, with a momentum that is not finite.

    Args:
        log_densities: the start and the target.
        point: where the trajectories begin.
        momentum: ``(C, B, D)``.
        beta: the temperature, from 0 (start) to 1 (target).
        step_size: of every trajectory, ``(C, B)``.
        num_leapfrog: ``L``.

    Returns:
        tuple[ChainState, Tensor]: the end of the trajectories, and the momentum there.

    Example:
        >>> target = lambda u: (-u.square().sum(-1) / 2, -u.square().sum(-1) / 2)
        >>> begin, p = evaluate(target, torch.ones(1, 1, 1)), torch.zeros(1, 1, 1)
        >>> end, p = leapfrog(target, begin, p, 1.0, torch.full((1, 1), 0.1), num_leapfrog=31)
        >>> round(end.u.item(), 2)  # half a period of the pendulum
        -1.0
    """
    step, u = step_size[..., None], point.u
    here = point
    momentum = momentum + step / 2 * here.grad(beta)
    for n in range(1, num_leapfrog + 1):
        u = u + step * momentum
        here = evaluate(log_densities, torch.where(u.isfinite(), u, point.u))
        momentum = momentum + (step if n < num_leapfrog else step / 2) * here.grad(beta)
    return here, momentum


Propose = Callable[[LogDensities, ChainState, float, Tensor, int], tuple[ChainState, Tensor]]
"""``trajectory``, or what gives the same."""


@torch.no_grad()
def trajectory(
    log_densities: LogDensities, point: ChainState, beta: Beta, step_size: Tensor, num_leapfrog: int
) -> tuple[ChainState, Tensor]:
    """Where a transition would lead every chain, and the probability with which it is to go there, ``(C, B)``.

    Args:
        log_densities: the start and the target.
        point: where the chains are.
        beta: the temperature, from 0 (start) to 1 (target).
        step_size: one for each datum, ``(B,)``.
        num_leapfrog: ``L``, leapfrog steps.
    """
    jitter = 1 - JITTER + 2 * JITTER * torch.rand_like(point.log_start)
    momentum = torch.randn_like(point.u)
    energy = momentum.square().sum(-1) / 2 - point.log_density(beta)
    end, momentum = leapfrog(log_densities, point, momentum, beta, step_size * jitter, num_leapfrog)
    energy_there = momentum.square().sum(-1) / 2 - end.log_density(beta)
    acceptance = (energy - energy_there).clamp(max=0).exp().masked_fill(~energy_there.isfinite(), 0)
    return end, acceptance


@torch.no_grad()
def move(
    log_densities: LogDensities,
    point: ChainState,
    beta: float,
    step_size: Tensor,
    num_leapfrog: int,
    propose: Propose | None = None,
) -> tuple[ChainState, Tensor]:
    r"""One transition of Hamiltonian Monte Carlo of every chain: it leaves the tempered density invariant.

    .. math::
        \log f_\beta(u) = (1 - \beta) \log f_0(u) + \beta \log f_1(u), \qquad
        a = \min\bigl(1, \exp(H(u, p) - H(u', p'))\bigr), \qquad
        H(u, p) = \tfrac12 p^\top p - \log f_\beta(u)

    The momentum is drawn afresh and the step sizes' jitter does not look at the chain, so the transition is reversible.
    A trajectory that ends where its energy is not finite is rejected.

    Args:
        log_densities: the start and the target.
        point: where the chains are.
        beta: the temperature, from 0 (start) to 1 (target).
        step_size: one for each datum, ``(B,)``.
        num_leapfrog: ``L``, leapfrog steps of a trajectory.
        propose: what is ``trajectory``, computed in another way.

    Returns:
        tuple[ChainState, Tensor]: where the chains are now, and the probability ``(C, B)`` with which each was to move.

    Example:
        >>> flat = lambda u: (0 * u.sum(-1), 0 * u.sum(-1))
        >>> begin = evaluate(flat, torch.zeros(4, 2, 3))
        >>> end, acceptance = move(flat, begin, 0.5, torch.ones(2), num_leapfrog=5)
        >>> acceptance.unique(), bool((end.u != begin.u).all())
        (tensor([1.]), True)
    """
    end, acceptance = (propose or trajectory)(log_densities, point, beta, step_size, num_leapfrog)
    accepted = torch.rand_like(acceptance) < acceptance
    chosen = (
        torch.where(accepted if a.dim() == 2 else accepted[..., None], a, b) for a, b in zip(end, point, strict=True)
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
    if not value.requires_grad:  # a constant, such as minus infinity everywhere
        return torch.zeros_like(u)
    return torch.autograd.grad(value.sum(), u, retain_graph=True, materialize_grads=True)[0]
