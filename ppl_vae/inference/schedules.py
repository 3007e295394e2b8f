"""The course of the learning rate over a training, as functions of the share of it that is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

Schedule = Literal["cosine", "constant", "one-cycle", "milestones", "plateau"]
ONE_CYCLE_PEAK = 0.3
"""The share of the training at which one cycle has its peak."""
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 25e4
"""The rate at the start and at the end of one cycle, as a share of that at its peak."""
STAGES = 8
"""Number of stages between milestones; each is three times as long as the one before."""
PLATEAU_WAIT = 5
"""Number of validations without improvement after which the rate is halved."""
STAIRS = 32
"""Largest number of equal steps in which the rate rises in the warm-up."""


def cosine_share(done: float) -> float:
    """Return the share of the rate that half a cosine leaves, from one to zero.

    Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2017), equation 5, without
    restarts.
    """
    return (1 + math.cos(math.pi * done)) / 2


def one_cycle_share(done: float) -> float:
    """Return the share of the peak rate in one cycle: it rises from 4 % of it, and then falls to nearly zero.

    Source: Smith and Topin, Super-Convergence (2018); the shape is that of ``torch.optim.lr_scheduler.OneCycleLR``.

    Example:
        >>> [round(one_cycle_share(done), 3) for done in (0.0, 0.3, 1.0)]
        [0.04, 1.0, 0.0]
    """
    if done < ONE_CYCLE_PEAK:
        return 1 + (ONE_CYCLE_START - 1) * cosine_share(done / ONE_CYCLE_PEAK)
    return ONE_CYCLE_END + (1 - ONE_CYCLE_END) * cosine_share((done - ONE_CYCLE_PEAK) / (1 - ONE_CYCLE_PEAK))


def milestone_share(done: float) -> float:
    r"""Return the share of the rate after milestones: :math:`10^{-i/7}` in stage i, which is :math:`3^i` units long.

    A training of 3280 epochs has stages of 1, 3, 9, ..., 2187 epochs.

    Source: Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders (2016), section 5.

    Example:
        >>> [round(milestone_share(epoch / 3280), 3) for epoch in (0, 1, 3, 4, 3279)]
        [1.0, 0.72, 0.72, 0.518, 0.1]
    """
    whole = (3**STAGES - 1) / 2
    stage = sum(done * whole >= (3**number - 1) / 2 - 1e-9 for number in range(1, STAGES))
    return 10 ** (-stage / (STAGES - 1))


def plateau_share(bounds: Sequence[float]) -> float:
    """Return the share of the rate after validations: it is halved after five of them without improvement.

    The rule is that of ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with ``factor=0.5, patience=4, threshold=0``.

    Example:
        >>> plateau_share([-90.0] + 5 * [-91.0]), plateau_share([-90.0] + 4 * [-91.0] + [-89.0])
        (0.5, 1.0)
    """
    share, best, waited = 1.0, -math.inf, 0
    for bound in bounds:
        best, waited = (bound, 0) if bound > best else (best, waited + 1)
        if waited == PLATEAU_WAIT:
            share, waited = share / 2, 0
    return share


def stair_of(warmup_steps: int) -> int:
    """Return the number of gradient steps for which the rate is constant in a warm-up."""
    return -(-warmup_steps // STAIRS)


def warmup_share(taken: int, warmup_steps: int) -> float:
    """Return the share of the rate in the warm-up: it rises in at most 32 equal steps to one.

    Args:
        taken: number of gradient steps that are done.
        warmup_steps: number of steps of the warm-up; 0 has none.

    Example:
        >>> [warmup_share(taken, 64) for taken in (0, 1, 2, 33, 62, 64)]
        [0.03125, 0.03125, 0.0625, 0.53125, 1.0, 1.0]
    """
    if taken >= warmup_steps:
        return 1.0
    stair = stair_of(warmup_steps)
    return min(1.0, (taken // stair + 1) * stair / warmup_steps)


SHARES: dict[str, Callable[[float], float]] = {
    "cosine": cosine_share,
    "constant": lambda done: 1.0,
    "one-cycle": one_cycle_share,
    "milestones": milestone_share,
}
"""The schedules that are functions of the share of the training that is done."""
