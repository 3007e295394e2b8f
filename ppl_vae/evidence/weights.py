"""Importance weights, drawn pass by pass: their sums and their tail, which every estimator from weights needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.evidence.estimate import Progress, refuse_nan
from ppl_vae.evidence.pareto import tail_length

DRAWS_TOGETHER = 512
"""Number of draws of a datum whose log weights are added up at once, because that takes fifty small operations."""


class Weights(NamedTuple):
    """A summary of ``K`` importance weights for each of ``B`` data, nats, in double precision."""

    num_samples: int
    """``K``, the number of weights."""
    log_sum: Tensor
    r""":math:`\log \sum_k w_k`, ``(B,)``; minus infinity if every weight is zero."""
    log_sum_squares: Tensor
    r""":math:`\log \sum_k w_k^2`, ``(B,)``."""
    log_sum_fourths: Tensor
    r""":math:`\log \sum_k w_k^4`, ``(B,)``."""
    spread: Tensor
    """Standard deviation of log w, ``(B,)``; infinite if it is unknown."""
    curve: dict[int, Tensor]
    """The bound of 1, 10, 100, ... draws and of all ``K``, ``(B,)`` each; that of one draw is the mean log weight."""
    tail: Tensor
    """The largest log weights, ``(M + 1, B)`` (``M`` is :func:`tail_length`) or ``(1, B)``; the largest first."""
    elbo: Tensor
    """The mean of the terms of the ELBO, ``(B,)``: of the log weights, unless the terms are numbers of their own."""
    elbo_spread: Tensor
    """Standard deviation of the terms of the ELBO, ``(B,)``; infinite if it is unknown."""
    collapsed: bool = False
    """True if some latents are summed out of the weights and not of the terms of the ELBO."""


@torch.no_grad()
def weigh(
    log_weights: Callable[[int], Tensor | tuple[Tensor, ...]],
    num_samples: int,
    draws_per_pass: int,
    *,
    first_datum: int = 0,
    progress: Progress | None = None,
) -> Weights:
    r"""Draw ``K`` importance weights of every datum, and keep their sums, their tail, and the bounds of fewer draws.

    The bound of ``K'`` draws is an average over disjoint blocks of them, all of the same draws:

    .. math::
        \hat{\mathcal L}_{K'} = \frac1J \sum_{j=1}^J \log \frac1{K'} \sum_{k \in \text{block } j} w_k,
        \qquad J = \lfloor K / K' \rfloor

    Ten blocks of one length make one block of the next length. The memory is that of a pass, of ``DRAWS_TOGETHER`` log
    weights, and of the tail, :math:`O(\sqrt K)`, for every datum.

    Args:
        log_weights: function from ``k`` to ``(k, B)`` log weights of ``k`` new draws: log p(x, z) - log q(z | x) of
            z ~ q, or log p(x | z) of z ~ p(z). If some latents are summed out of p and q, it may be a function to a
            pair: these weights, and the terms of the ELBO of the same draws, from which no latent is summed out.
        num_samples: ``K``, the number of draws per datum.
        draws_per_pass: largest number of draws at once.
        first_datum: row of the first datum of the batch, for a message.
        progress: function that is called after every pass with its number of draws.

    Raises:
        InputError: if ``num_samples`` or ``draws_per_pass`` is below 1.
        Diverged: if a log weight is NaN or plus infinity.

    Example:
        >>> log_weights = lambda k: torch.full((k, 3), -1.5)  # the proposal is the posterior
        >>> weights = weigh(log_weights, num_samples=200, draws_per_pass=30)
        >>> list(weights.curve), weights.curve[100]
        ([1, 10, 100, 200], tensor([-1.5000, -1.5000, -1.5000], dtype=torch.float64))
        >>> weights.tail.shape
        torch.Size([41, 3])
    """
    for name, number in (("num_samples", num_samples), ("draws_per_pass", draws_per_pass)):
        if number < 1:
            raise InputError(f"{name} is {number}: expected 1 or more")
    keep = tail_length(num_samples) + 1
    sums: list[Tensor] = []
    tail = _Tail(keep)
    spread, terms_spread = _Spread(), _Spread()
    blocks, terms_sum = _Blocks(num_samples), torch.zeros((), dtype=torch.double)
    collapsed = False
    for log_weight, *terms in _passes_together(log_weights, num_samples, draws_per_pass, progress):
        refuse_nan(log_weight, first_datum)
        for term in terms:
            refuse_nan(term, first_datum)
            collapsed, terms_sum = True, terms_sum + term.sum(0)
            terms_spread.add(term)
        new = [(power * log_weight).logsumexp(0) for power in (1, 2, 4)]
        sums = [torch.logaddexp(a, b) for a, b in zip(sums, new, strict=True)] if sums else new
        blocks.add(log_weight)
        spread.add(log_weight)
        tail.add(log_weight)
    log_sum, log_sum_squares, log_sum_fourths = sums
    curve = {**blocks.bounds(), num_samples: log_sum - math.log(num_samples)}
    return Weights(
        num_samples,
        log_sum,
        log_sum_squares,
        log_sum_fourths,
        spread.deviation(),
        curve,
        tail.values(),
        elbo=terms_sum / num_samples if collapsed else curve[1],
        elbo_spread=(terms_spread if collapsed else spread).deviation(),
        collapsed=collapsed,
    )


def _passes_together(
    log_weights: Callable[[int], Tensor | tuple[Tensor, ...]],
    num_samples: int,
    draws_per_pass: int,
    progress: Progress | None,
) -> Iterator[tuple[Tensor, ...]]:
    """Yield what ``log_weights`` returns, in double precision, for the draws of some passes at once."""
    waiting: list[tuple[Tensor, ...]] = []
    left = num_samples
    while left:
        draws = min(draws_per_pass, left)
        drawn = log_weights(draws)
        waiting.append(tuple(tensor.double() for tensor in (drawn if isinstance(drawn, tuple) else (drawn,))))
        left -= draws
        if progress is not None:
            progress(draws)
        if not left or sum(len(weights) for weights, *_ in waiting) >= DRAWS_TOGETHER:
            yield tuple(map(torch.cat, zip(*waiting, strict=True)))
            waiting = []


class _Spread:
    """The standard deviation of numbers that come pass by pass.

    Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances (1979).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.double)

    def add(self, values: Tensor) -> None:
        count, mean = len(values), values.mean(0)
        total = self.count + count
        between = (mean - self.mean).square() * (self.count * count / total) if self.count else 0.0
        self.squares = self.squares + (values - mean).square().sum(0) + between
        self.mean = self.mean + (mean - self.mean) * (count / total) if self.count else mean
        self.count = total

    def deviation(self) -> Tensor:
        variance = self.squares / (self.count - 1) if self.count > 1 else torch.full_like(self.squares, math.inf)
        return variance.sqrt().nan_to_num(nan=math.inf)  # if a weight is zero


class _Tail:
    """The largest of numbers that come pass by pass; they are sorted only when twice as many have come."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.waiting: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        self.waiting.append(values)
        if sum(map(len, self.waiting)) > 2 * self.keep:
            self.waiting = [self.values()]

    def values(self) -> Tensor:
        candidates = torch.cat(self.waiting)
        return candidates.topk(min(self.keep, len(candidates)), dim=0).values


class _Blocks:
    """The average log mean weight of blocks of 1, 10, 100, ... draws, fewer than ``K``, from draws as they come."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.lengths = [10**level for level in range(len(str(num_samples))) if 10**level < num_samples]
        self.totals: list[Tensor] = []
        self.waiting: list[Tensor] = []

    def add(self, log_weight: Tensor) -> None:
        if not self.totals:
            self.totals = [log_weight.new_zeros(log_weight.shape[1:]) for _ in self.lengths]
            self.waiting = [log_weight[:0] for _ in self.lengths]
        for level, length in enumerate(self.lengths):
            if level > 0:
                shorter = torch.cat([self.waiting[level], log_weight])
                whole = len(shorter) // 10
                self.waiting[level] = shorter[10 * whole :]
                log_weight = shorter[: 10 * whole].unflatten(0, (whole, 10)).logsumexp(1)
            self.totals[level] += (log_weight - math.log(length)).sum(0)

    def bounds(self) -> dict[int, Tensor]:
        return {
            length: total / (self.num_samples // length)
            for length, total in zip(self.lengths, self.totals, strict=True)
        }
