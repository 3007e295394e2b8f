"""Local variational inference: the lambda of every datum ascends the ELBO of this datum alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ppl_vae.compile.compiler import Compiler
from ppl_vae.compile.graph import Outputs
from ppl_vae.inference.adam import AdamState, Rates, adam
from ppl_vae.inference.families import Family
from ppl_vae.inference.objectives import Baseline, DecayingAverage, Gradient, check_gradient, elbo, leave_one_out
from ppl_vae.program import Batch, WeightedDraws

BETAS = (0.5, 0.99)
"""Adam's decays. With its usual momentum of 0.9, twenty steps overshoot: a nat of ELBO on the digits."""
WINDOW = 25
"""Number of steps after which each datum is checked for convergence."""
CALM = 2
"""Number of windows without a change of the ELBO after which a datum has converged."""
LAST = 0.01
"""The share of the learning rate at which the schedule ends."""
STEADY = 0.75
"""The largest learning rate of numbers that are neither locations nor scales, times ``D`` over the root of ``K``."""


class LocalSteps(NamedTuple):
    """The settings of the steps in lambda."""

    num_steps: int = 20
    """The largest number of steps."""
    learning_rate: float = 0.1
    """The learning rate of Adam at the start."""
    num_particles: int = 1
    """The number of draws per datum and step, ``K``."""
    gradient: Gradient = "reparam"
    """``"reparam"`` is the formula of ``refine``; ``"score-function"`` is the other one there."""
    baseline: Baseline = "leave-one-out"
    """What the score function subtracts. ``"leave-one-out"`` is the mean of the other draws of the datum, which needs
    two particles or more. ``"decaying-average"`` is that of the datum's log weights since the call, which begins with
    additional draws. ``"none"`` is zero."""
    tolerance: float = 1e-3
    """The change of the ELBO, in nats per 25 steps, below which a datum has converged."""


class Rows(NamedTuple):
    """The variational parameters of some data and the state of their optimiser, one row per datum.

    Attributes:
        lam: lambda, ``(B, P)``.
        mean: Adam's running mean of the gradient, ``(B, P)``.
        square: Adam's running mean of the squared gradient, ``(B, P)``.
        taken: number of steps that each datum has taken, ``(B, 1)``.
    """

    lam: Tensor
    mean: Tensor
    square: Tensor
    taken: Tensor

    @classmethod
    def at(cls, lam: Tensor) -> Rows:
        """Return rows that have not taken a step."""
        lam = lam.detach()
        return cls(lam, torch.zeros_like(lam), torch.zeros_like(lam), lam.new_zeros(len(lam), 1))

    def joined(self) -> Tensor:
        """Return all tensors joined to one row per datum, ``(B, 3 P + 1)``."""
        return torch.cat(self, -1)

    @classmethod
    def split(cls, joined: Tensor) -> Rows:
        """Return the rows whose ``joined`` is given."""
        width = (joined.shape[-1] - 1) // 3
        return cls(*joined.split([width, width, width, 1], -1))


LogJoint = Callable[[Tensor, Batch], Tensor]
"""A function that returns log p(x, u), ``(K, B)``, at points ``(K, B, D)`` of ``B`` data."""


@torch.no_grad()
def refine(
    log_joint: LogJoint,
    family: Family,
    rows: Rows,
    data: Batch = (),
    steps: LocalSteps = LocalSteps(),  # noqa: B008  (immutable)
    *,
    compiler: Compiler | None = None,
    module: nn.Module | None = None,
) -> Rows:
    r"""Ascend the ELBO of every datum in its own lambda, theta fixed.

    .. math::
        \lambda_i \leftarrow \lambda_i + \rho_i\, \mathrm{Adam}(g_i), \qquad
        g_i = \nabla_{\lambda_i} \frac1K \sum_k \log p(x_i, u_{ik}) - \log q_{\bar\lambda_i}(u_{ik}), \quad
        u_{ik} = T(\epsilon_k; \lambda_i)

    Adam is row-wise: each datum has its own moments and its own number of steps, and the learning rate falls with a
    cosine over the number of steps. For numbers that are neither locations nor scales it is limited, see
    ``learning_rates``. A datum has converged, and does not move any more, if in two windows of 25 steps
    :math:`|\sum_t g_t \cdot (\lambda_t - \lambda_{t-1})|` is below the tolerance. To first order, this is the gain of
    the steps. If the gradient is noisy, convergence needs a small learning rate as well. The noise is the same for all
    data, so that the result for a datum does not depend on the other data of the batch.

    Source: Ranganath, Gerrish and Blei, Black Box Variational Inference (2014), section 2; Kucukelbir et al., Automatic
    Differentiation Variational Inference (2017), section 2.4.

    Args:
        log_joint: function that returns log p(x, u) of points ``(K, B', D)`` and the data that they belong to.
        family: the variational family.
        rows: the start of each datum.
        data: the batch, one row per datum; ``log_joint`` uses no other data.
        steps: the settings of the steps. The gradient ``"score-function"`` holds u constant and uses
            :math:`\frac1K \sum_k (\log w_{ik} - b_{ik}) \nabla_{\lambda_i} \log q_{\lambda_i}(u_{ik})`; the baseline
            is the number b in this formula.
        compiler: a compiler that runs the steps of all data together as a graph, if the gradient follows the path. One
            compiler must always get the same ``log_joint`` and family. When half of the data have converged, the
            steps of the others run in Python.
        module: the module that ``log_joint`` runs.

    Returns:
        Rows: the end of each datum. A datum whose gradient is not finite does not move.

    Raises:
        InputError: the score function has the leave-one-out baseline and only one particle.

    Example:
        >>> from ppl_vae.inference.families import Diagonal
        >>> def log_joint(u, data):                        # a posterior N(3, 0.5^2) of each of two data
        ...     return -0.5 * ((u - 3) / 0.5).square().sum(-1)
        >>> _ = torch.manual_seed(0)
        >>> loc, log_scale = refine(log_joint, Diagonal(1), Rows.at(torch.zeros(2, 2)), (), LocalSteps(500)).lam[0]
        >>> round(loc.item(), 2), round(log_scale.exp().item(), 2)
        (3.0, 0.5)
    """

    num_steps = steps.num_steps
    climb = Climb(log_joint, family, steps, rows.lam, compiler, module)
    moving, answer = climb.begin(rows, data), Rows(*(tensor.clone() for tensor in rows))
    schedule = torch.tensor([cosine(step, num_steps) for step in range(num_steps)], dtype=torch.double)
    rates = learning_rates(family, steps.learning_rate * schedule[:, None], steps.num_particles).to(rows.lam)
    for step in range(num_steps):
        moving = climb.step(moving, rates[step])
        if (step + 1) % WINDOW == 0 and step + 1 < num_steps:
            moving = moving.judged(steps.tolerance)
            going = moving.calm[:, 0] < CALM
            if 2 * int(going.sum()) < len(going):  # until then, computing all is as fast as copying some
                moving.write(answer)
                moving = moving.only(going)
                if not len(moving.rows.lam):
                    break
    moving.write(answer)
    return answer


def cosine(step: int, num_steps: int) -> float:
    """Return the share of the learning rate at a step, which falls from one to ``LAST``.

    Example:
        >>> cosine(0, 100), round(cosine(50, 100), 2), cosine(100, 100)
        (1.0, 0.5, 0.01)
    """
    return max(LAST, (1 + math.cos(math.pi * step / num_steps)) / 2)


class Climb:
    """Steps up the ELBO in the lambda of data that move; the noise of a step is the same for all data.

    Args:
        log_joint: see ``refine``.
        family: the variational family.
        steps: the settings of the steps; the number of steps is the number that is planned.
        like: a tensor of the type and the device of lambda.
        compiler: see ``refine``.
        module: see ``refine``.

    Raises:
        InputError: see ``refine``.
    """

    def __init__(
        self,
        log_joint: LogJoint,
        family: Family,
        steps: LocalSteps,
        like: Tensor,
        compiler: Compiler | None = None,
        module: nn.Module | None = None,
    ) -> None:
        check_gradient(steps.gradient, steps.baseline, steps.num_particles)
        self.log_joint, self.family, self.steps, self.compiler, self.module = log_joint, family, steps, compiler, module
        self.name = f"a step in lambda ({type(family).__name__.lower()})"
        self.like, seed = like, int(torch.randint(2**31, ()))
        self.generator = torch.Generator(like.device).manual_seed(seed)  # the caller's always moves on by one draw

    def begin(self, rows: Rows, data: Batch) -> Moving:
        """Return all data, which have not moved yet."""
        moving = Moving.of(rows, data)
        if self.steps.gradient == "score-function" and self.steps.baseline == "decaying-average":
            first = _scored(self.log_joint, self.family, moving, rows.lam, self._noise()).log_weight.mean(0)
            moving = moving._replace(average=DecayingAverage(first[:, None]).value)
        return moving

    def step(self, moving: Moving, rate: Tensor) -> Moving:
        """Take a step in every row, at learning rates ``(P,)`` or ``(B', P)``."""
        noise = self._noise()
        if self.steps.gradient == "score-function":
            ascent, moving = _score_function(self.log_joint, self.family, moving, noise, self.steps.baseline)
            return moving.stepped(ascent, rate)
        if self.compiler is None or moving.which is not None:
            return moving.stepped(_gradient(self.log_joint, self.family, moving, noise), rate)
        inputs = (rate, noise, moving.last, moving.gain, moving.calm, *moving.rows, *moving.data)
        times = self.steps.num_steps
        last, gain, *parts = self.compiler(self.name, self._step_of_all, inputs, module=self.module, times=times)
        return moving._replace(rows=Rows(*parts), last=last, gain=gain)

    def _step_of_all(
        self, rate: Tensor, noise: Tensor, last: Tensor, gain: Tensor, calm: Tensor, *rest: Tensor
    ) -> Outputs:
        size = len(Rows._fields)
        before = Moving(Rows(*rest[:size]), rest[size:], None, last, gain, calm, gain)
        after = before.stepped(_gradient(self.log_joint, self.family, before, noise), rate)
        return after.last, after.gain, *after.rows

    def _noise(self) -> Tensor:
        shape = (self.steps.num_particles, 1, self.family.size)
        return torch.randn(shape, generator=self.generator, dtype=self.like.dtype, device=self.like.device)


def learning_rates(family: Family, learning_rate: float | Tensor, num_particles: int) -> Tensor:
    r"""Return learning rates of the numbers of lambda, ``(..., P)``, given the common one, a number or ``(..., 1)``.

    The rates of numbers that are neither locations nor scales are limited. With K draws, the gradient in the
    covariance's factor L is a matrix of rank K: in a row of D numbers, the signal is :math:`\sqrt{K / D}` of the noise,
    and Adam makes steps of length :math:`\rho` from both. They balance when each number is off by about
    :math:`\rho \sqrt{D / K} / 2`, and the row by :math:`\rho D / (2 \sqrt K)`. If rows are off by a multiple of the
    diagonal, the inverse of L grows exponentially in D, and with it the score and its noise: the datum diverges. On
    binary images, some data diverge if :math:`\rho D / \sqrt K` is about one, and all if it is two.
    """
    rates = learning_rate * family.pace
    rates[..., 2 * family.size :].clamp_(max=STEADY * math.sqrt(num_particles) / family.size)
    return rates


@torch.enable_grad()
def _gradient(log_joint: LogJoint, family: Family, moving: Moving, noise: Tensor) -> Tensor:
    lam = moving.rows.lam.detach().requires_grad_()
    u, log_q = family.draw(lam, noise)
    elbo = (log_joint(u, moving.data) - log_q).mean(0)
    (gradient,) = torch.autograd.grad(elbo.sum(), lam)
    return gradient


@torch.enable_grad()
def _score_function(
    log_joint: LogJoint, family: Family, moving: Moving, noise: Tensor, baseline: Baseline
) -> tuple[Tensor, Moving]:
    lam = moving.rows.lam.detach().requires_grad_()
    draws, subtracted = _scored(log_joint, family, moving, lam, noise), None
    if baseline == "leave-one-out":
        subtracted = leave_one_out(draws.log_weight)
    elif baseline == "decaying-average":
        subtracted, average = moving.average[:, 0], DecayingAverage(moving.average)
        average.update(draws.log_weight.mean(0)[:, None])
        moving = moving._replace(average=average.value)
    (gradient,) = torch.autograd.grad(elbo(draws, subtracted).sum(), lam)
    return gradient, moving


def _scored(log_joint: LogJoint, family: Family, moving: Moving, lam: Tensor, noise: Tensor) -> WeightedDraws:
    """Return draws as constants, with their score."""
    with torch.no_grad():
        u, _ = family.draw(lam, noise)
        log_p = log_joint(u, moving.data)
    score = family.distribution(lam).log_prob(u)
    return WeightedDraws(log_p - score.detach(), score)


class Moving(NamedTuple):
    """The data that still move."""

    rows: Rows
    data: Batch
    which: Tensor | None
    """Their row numbers; None for all rows."""
    last: Tensor
    """Their last step, ``(B', P)``."""
    gain: Tensor
    """The gain of their steps in this window, nats, ``(B', 1)``."""
    calm: Tensor
    """The number of windows in which their ELBO has not changed, ``(B', 1)``."""
    average: Tensor
    """The decaying average of their log weights, ``(B', 1)``."""

    @classmethod
    def of(cls, rows: Rows, data: Batch) -> Moving:
        """Return all data, which have not moved yet."""
        return cls(rows, data, None, torch.zeros_like(rows.lam), *(torch.zeros_like(rows.taken) for _ in range(3)))

    def stepped(self, gradient: Tensor, rate: Tensor) -> Moving:
        """Take one step of Adam in every row, at learning rates ``(P,)``."""
        lam, mean, square, taken = self.rows
        moves = torch.isfinite(gradient).all(-1, keepdim=True).logical_and_(self.calm < CALM)
        gradient, share = torch.where(moves, gradient, 0.0), moves.to(lam.dtype)
        gain, taken = self.gain + (gradient * self.last).sum(-1, keepdim=True), taken + share
        first, second = BETAS
        steps = taken.clamp(min=1)  # zero for a row whose gradient has never been finite
        rates = Rates(
            (1 - first) * share, (1 - second) * share, share * rate / (1 - first**steps), (1 - second**steps) ** -0.5
        )
        moments, step = adam(AdamState(mean, square), gradient, rates)
        return self._replace(rows=Rows(lam + step, *moments, taken), last=step, gain=gain)

    def judged(self, tolerance: float) -> Moving:
        """Return the data after the end of a window, with a count of windows in which the ELBO has not changed."""
        calm = torch.where(self.gain.abs() < tolerance, self.calm + 1, 0.0)
        return self._replace(gain=torch.zeros_like(self.gain), calm=torch.where(self.calm < CALM, calm, self.calm))

    def only(self, going: Tensor) -> Moving:
        """Return the data that have not converged."""
        index = going.nonzero()[:, 0]
        return Moving(
            Rows(*(tensor[index] for tensor in self.rows)),
            tuple(tensor[index] for tensor in self.data),
            index if self.which is None else self.which[index],
            *(tensor[index] for tensor in self[3:]),
        )

    def write(self, answer: Rows) -> None:
        """Write the rows to their places in the answer."""
        for whole, part in zip(answer, self.rows, strict=True):
            whole[slice(None) if self.which is None else self.which] = part
