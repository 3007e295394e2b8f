"""Steps in lambda until it settles: averages of its iterates at smaller and smaller learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ppl_vae.compile.compiler import Compiler
from ppl_vae.inference.families import Family
from ppl_vae.inference.iterates import SETTLED, IterateBlocks
from ppl_vae.inference.local import CALM, Climb, LocalSteps, LogJoint, Moving, Rows, learning_rates
from ppl_vae.program import Batch

MOST_STEPS = 5000
"""The number of steps after which a datum is given up."""
BLOCK = 25
"""The number of steps in a block of iterates, of which mean and variance are kept."""
WINDOWS = (8, 16, 24, 32)
"""The numbers of blocks in the trailing windows that may have settled; at least 200 steps, as in Welandawe et al."""
FEWEST = WINDOWS[0]
BATCHES = 8
"""The number of batches of a window whose means give the error of its average."""
COUNTED = 0.95
"""The share of the numbers of lambda that must have settled; of hundreds of numbers, the largest R-hat is noise."""
LEAST_ESS = 50.0
"""The effective number of iterates in an average: Welandawe et al. (2022)."""
LARGEST_ERROR = 0.1
"""The largest Monte Carlo error of a location, in standard deviations of the posterior."""
SLOWER = 0.25
"""The factor by which the learning rate falls from one average to the next."""
SLOWEST = 1 / 64
"""The smallest learning rate as a share of the first one: at a smaller one, the ELBO would not rise either way."""
GAIN, ERRORS = 0.02, 3.0
"""The gain of the ELBO, in nats and in standard errors, by which a smaller learning rate still matters."""
LARGEST_DOUBT = 0.1
"""The largest error of a gain, in nats, of which it can be said that it does not matter."""
DRAWS, AT_ONCE = 64, 16
"""The number of draws of the ELBO before and after, the same for both, and the number of draws at once."""


class Settling(NamedTuple):
    """The outcome of steps in lambda that end when it has settled, ``(B,)`` each."""

    settled: Tensor
    """True if the average of the iterates has settled before the limit."""
    steps: Tensor
    """The number of steps."""
    rhat: Tensor
    """The split R-hat that 95 % of the numbers of lambda do not exceed (if they are fewer than 20, the largest), over
    the window of iterates that is averaged."""
    ess: Tensor
    """The effective number of these iterates, the harmonic mean over the numbers of lambda."""
    error: Tensor
    """The largest Monte Carlo error of the locations, in standard deviations of the posterior."""

    @classmethod
    def joined(cls, parts: Sequence[Settling]) -> Settling:
        """Return the outcomes of several batches together, on the CPU."""
        return cls(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))


@torch.no_grad()
def settle(
    log_joint: LogJoint,
    family: Family,
    rows: Rows,
    data: Batch = (),
    steps: LocalSteps = LocalSteps(MOST_STEPS),  # noqa: B008  (immutable)
    *,
    compiler: Compiler | None = None,
    module: nn.Module | None = None,
) -> tuple[Rows, Settling]:
    r"""Ascend the ELBO of every datum in its own lambda until the average of its iterates has settled.

    At a constant learning rate, the iterates of a datum reach a stationary distribution. They are averaged over a
    trailing window of 200 steps or more once the split R-hat of 95 % of the numbers of lambda is below 1.1 there (of
    all, if they are fewer than 20) and their effective number is 50; or else once the ELBO of their average does not
    rise any more from one 200 steps to the next. The stationary mean depends on Adam's learning rate :math:`\rho`, so
    that the steps go on from the average at :math:`\rho / 4`, down to :math:`\rho / 64`. A datum has settled if this
    has not raised the ELBO of its average, and if the Monte Carlo error of the average is at most a tenth of the
    posterior's standard deviation. It then moves no more. A gain counts if it is above 0.02 nats and three errors; that
    there is none can be said if its error is at most 0.1 nats.

    Each datum has its own learning rate and its own end. The noise is the same for all data, so that the result for a
    datum does not depend on the other data of the batch.

    Source: Dhaka, Catalina, Andersen, Magnusson, Huggins and Vehtari, Robust, accurate stochastic optimization for
    variational inference (2020), algorithm 1; Welandawe, Andersen, Vehtari and Huggins, A framework for improving the
    reliability of black-box variational inference (2022), algorithm 2. They stop by the divergence between successive
    averages; here it is the difference of their ELBOs, which every family has.

    Args:
        log_joint: see ``refine``.
        family: the variational family.
        rows: the start of each datum.
        data: the batch, one row per datum.
        steps: the settings of the steps; the learning rate is the first one, the number of steps is the limit.
        compiler: see ``refine``.
        module: see ``refine``.

    Returns:
        Rows: the average of each datum, without the state of its optimiser; and how it has settled. A datum that has
        not settled has its last average, or that of its last 200 steps if their ELBO is higher.

    Raises:
        InputError: see ``refine``.

    Example:
        >>> from ppl_vae.inference.families import Diagonal
        >>> def log_joint(u, data):                        # a posterior N(3, 0.5^2) of each of two data
        ...     return -0.5 * ((u - 3) / 0.5).square().sum(-1)
        >>> _ = torch.manual_seed(0)
        >>> rows, settling = settle(log_joint, Diagonal(1), Rows.at(torch.zeros(2, 2)), (), LocalSteps(2000, 0.3))
        >>> loc, log_scale = rows.lam[0]
        >>> round(loc.item(), 2), round(log_scale.exp().item(), 2), settling.settled.tolist()
        (3.0, 0.5, [True, True])
    """
    climb = Climb(log_joint, family, steps, rows.lam, compiler, module)
    first_rates = learning_rates(family, steps.learning_rate, steps.num_particles).to(rows.lam)
    moving, course = climb.begin(rows, data), _Course.at(rows.lam)
    answer, settling = rows.lam.clone(), _unknown(rows.lam)
    for number in range(1, max(1, steps.num_steps // BLOCK) + 1):
        moving, course = _run_block(climb, moving, course, first_rates)
        if number % 2 or number < FEWEST:
            continue
        window = course.judged(family)
        ended = window.has_settled | _stalls(log_joint, family, moving.data, course)
        reached, settled = _compare(log_joint, family, moving.data, course, window, ended)
        _write(answer, settling, moving, reached, window, settled, which=settled)
        moving = moving._replace(
            rows=moving.rows._replace(lam=_where(ended, reached, moving.rows.lam)),
            calm=torch.where(settled[:, None], float(CALM), moving.calm),
        )
        course = course.lowered(ended, reached)
        going = moving.calm[:, 0] < CALM
        if 2 * int(going.sum()) < len(going):
            moving, course = moving.only(going), course.only(going)
        if not len(moving.rows.lam):
            break
    going = moving.calm[:, 0] < CALM
    if bool(going.any()):
        moving, course = moving.only(going), course.only(going)
        window, last = course.judged(family), _last_average(log_joint, family, moving.data, course)
        _write(answer, settling, moving, last, window, settled=~going[going])
    return Rows.at(answer)._replace(taken=settling.steps[:, None].to(answer)), settling


class _Window(NamedTuple):
    """The trailing window of each datum's iterates that may be averaged, ``(B', ...)``."""

    has_settled: Tensor
    """True if the iterates have settled by their R-hat, and their effective number is large enough."""
    average: Tensor
    rhat: Tensor
    ess: Tensor
    error: Tensor


class _Course(NamedTuple):
    """The course of the data that move: their blocks of iterates, and their learning rates."""

    means: tuple[Tensor, ...]
    """The means of the last blocks, ``(B', P)`` each."""
    squares: tuple[Tensor, ...]
    """The mean squared deviations from them."""
    whole: tuple[Tensor, ...]
    """True for a datum that has moved in each step of a block, ``(B',)`` each."""
    rate: Tensor
    """The learning rate of a datum, as a share of the first one, ``(B', 1)``."""
    age: Tensor
    """The number of blocks that a datum has at its learning rate, ``(B',)``."""
    before: Tensor
    """The average at the learning rate before, ``(B', P)``; NaN at the first one."""

    @classmethod
    def at(cls, lam: Tensor) -> _Course:
        """Return the course of data that have not moved yet."""
        one = torch.ones_like(lam[:, :1])
        return cls((), (), (), one, torch.zeros_like(one[:, 0], dtype=torch.long), torch.full_like(lam, torch.nan))

    def judged(self, family: Family) -> _Window:
        """Return the longest window of each datum that has settled, or else the one whose R-hat is the smallest."""
        like = self.before
        nothing = torch.full_like(like[:, 0], torch.nan, dtype=torch.double)
        chosen = _Window(torch.zeros_like(self.age, dtype=torch.bool), self.means[-1], nothing, nothing, nothing)
        means, squares, whole = (torch.stack(part) for part in (self.means, self.squares, self.whole))
        for length in (length for length in WINDOWS if length <= len(means)):
            blocks = IterateBlocks(BLOCK, means[-length:].double(), squares[-length:].double())
            rhat = blocks.split_rhat().quantile(COUNTED, -1, interpolation="higher")
            average = blocks.mean.mean(0)
            mcse, ess = blocks.joined(BATCHES).average_error()
            shared = 1 / (1 / ess).nan_to_num(0.0).mean(-1).clamp(min=1 / (BLOCK * length))
            scale = average[:, family.size : 2 * family.size].exp()
            error = (mcse[:, : family.size] / scale).amax(-1)
            known = (self.age >= length) & whole[-length:].all(0)
            has_settled = known & (rhat < SETTLED) & (shared >= LEAST_ESS)
            window = _Window(has_settled, average.to(like), rhat, shared, error)
            is_better = has_settled | (known & ~chosen.has_settled & ~(rhat > chosen.rhat))
            chosen = _Window(*(_where(is_better, new, old) for new, old in zip(window, chosen, strict=True)))
        return chosen

    def average(self, count: int, *, before: int = 0) -> Tensor:
        """Return the average of a number of the last blocks, without some at the end, ``(B', P)``."""
        end = len(self.means) - before
        return torch.stack(self.means[max(0, end - count) : end] or self.means).mean(0)

    def lowered(self, which: Tensor, average: Tensor) -> _Course:
        """Return the course with a smaller learning rate of some data, and their average at the one before."""
        return self._replace(
            rate=_where(which, (SLOWER * self.rate).clamp(min=SLOWEST), self.rate),
            age=torch.where(which, 0, self.age),
            before=_where(which, average, self.before),
        )

    def only(self, going: Tensor) -> _Course:
        """Return the course of some of the data."""
        means, squares, whole = (tuple(block[going] for block in part) for part in self[:3])
        return _Course(means, squares, whole, self.rate[going], self.age[going], self.before[going])


def _run_block(climb: Climb, moving: Moving, course: _Course, rates: Tensor) -> tuple[Moving, _Course]:
    """Take the steps of a block, and add its iterates to the course."""
    start, taken = moving.rows.lam, moving.rows.taken
    total, squares, rate = torch.zeros_like(start), torch.zeros_like(start), rates * course.rate
    for _ in range(BLOCK):
        moving = climb.step(moving, rate)
        off = moving.rows.lam - start
        total, squares = total + off, torch.addcmul(squares, off, off)
    mean = total / BLOCK
    blocks = (start + mean, squares / BLOCK - mean.square(), (moving.rows.taken - taken)[:, 0] == BLOCK)
    kept = ((*part[1 - WINDOWS[-1] :], block) for part, block in zip(course[:3], blocks, strict=True))
    means, deviations, whole = kept
    return moving, _Course(means, deviations, whole, course.rate, course.age + 1, course.before)


def _stalls(log_joint: LogJoint, family: Family, data: Batch, course: _Course) -> Tensor:
    """Return True for data whose ELBO no longer rises at their learning rate, from 200 steps to the next 200."""
    stalls = (course.age >= 2 * FEWEST) & (course.age % FEWEST == 0)
    index = stalls.nonzero()[:, 0]
    if len(index):
        averages = [part[index] for part in (course.average(FEWEST, before=FEWEST), course.average(FEWEST))]
        mean, error = _gain(log_joint, family, tuple(part[index] for part in data), *averages)
        stalls[index] = mean <= _least(error)
    return stalls


def _compare(
    log_joint: LogJoint, family: Family, data: Batch, course: _Course, window: _Window, ended: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the better of the averages at two learning rates, ``(B', P)``, and True for data that have settled."""
    compared = ended & torch.isfinite(course.before).all(-1)
    index = compared.nonzero()[:, 0]
    better, settled = window.average.clone(), torch.zeros_like(compared)
    if not len(index):
        return better, settled
    mean, error = _gain(log_joint, family, tuple(part[index] for part in data), course.before[index], better[index])
    limit = _least(error)
    better[index] = _where(mean < -limit, course.before[index], better[index])
    settled[index] = (mean <= limit) & (error <= LARGEST_DOUBT) & (window.error[index] <= LARGEST_ERROR)
    return better, settled


def _least(error: Tensor) -> Tensor:
    """Return the least gain that matters, given its error."""
    return (ERRORS * error).clamp(min=GAIN)


def _gain(log_joint: LogJoint, family: Family, data: Batch, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gain of the ELBO from one lambda to another with its error, ``(B',)`` each, by the same draws."""
    generator, parts = torch.Generator(before.device).manual_seed(0), []
    for _ in range(DRAWS // AT_ONCE):
        noise = torch.randn((AT_ONCE, 1, family.size), generator=generator, dtype=before.dtype, device=before.device)
        weights = []
        for lam in (before, after):
            u, log_q = family.draw(lam, noise)
            weights.append((log_joint(u, data) - log_q).double())
        parts.append(weights[1] - weights[0])
    gain = torch.cat(parts)
    return gain.mean(0), gain.std(0) / DRAWS**0.5


def _last_average(log_joint: LogJoint, family: Family, data: Batch, course: _Course) -> Tensor:
    """Return the average of the last blocks of data that have not settled, or the one before if its ELBO is higher."""
    recent = torch.stack(course.means[-FEWEST:])
    numbers = torch.arange(len(recent), 0, -1, device=recent.device)[:, None]
    average = _mean_of(recent, numbers <= course.age.clamp(min=1))
    before = torch.where(torch.isfinite(course.before), course.before, average)
    mean, _ = _gain(log_joint, family, data, before, average)
    return _where(mean < 0, before, average)


def _mean_of(blocks: Tensor, which: Tensor) -> Tensor:
    """Return the mean ``(B', P)`` of some of the blocks ``(n, B', P)`` of each datum, at least one."""
    share = which.to(blocks) / which.sum(0)
    return torch.einsum("nbp,nb->bp", blocks, share)


def _write(
    answer: Tensor, settling: Settling, moving: Moving, lam: Tensor, window: _Window, settled: Tensor,
    which: Tensor | None = None,
) -> None:  # fmt: skip
    """Write the results of some of the data that move, by default of all, to their places."""
    index = (torch.ones_like(settled) if which is None else which).nonzero()[:, 0]
    rows = index if moving.which is None else moving.which[index]
    answer[rows] = lam[index]
    values = (settled, moving.rows.taken[:, 0].long(), window.rhat, window.ess, window.error)
    for whole, part in zip(settling, values, strict=True):
        whole[rows] = part[index]


def _unknown(lam: Tensor) -> Settling:
    number = lam.new_full(lam.shape[:1], torch.nan, dtype=torch.double)
    count = torch.zeros_like(number, dtype=torch.long)
    return Settling(count > 0, count, number, number.clone(), number.clone())


def _where(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(which.reshape(-1, *[1] * (new.dim() - 1)), new, old)
