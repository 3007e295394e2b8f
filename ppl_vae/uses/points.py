"""The way from data to points of the latent space, and back."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.estimator import VariationalInference
from ppl_vae.evaluation.results import join
from ppl_vae.evidence import gaussian_divergence
from ppl_vae.program import Batch, BoundProgram, Coordinates, Draws, LatentPoint, draw_latents, draw_prior, with_code

POSTERIOR_DRAWS, PRIOR_DRAWS = 64, 2048
"""Number of draws of each datum for a posterior mean, and number of draws of the prior for its moments."""
FEWEST_PRIOR_DRAWS, MOST_PRIOR_NUMBERS = 256, 2**22
"""The least number of draws of the prior if there are many coordinates, and the most numbers in them otherwise."""


def with_latents(vi: VariationalInference, arrays: tuple[Any, ...]) -> VariationalInference:
    """Return the fitted object, or one whose latent is the code if the program has a code and no latents."""
    if vi.program_.structure.latents:
        return vi
    coded = with_code(vi.program_, collect(vi, arrays))
    if coded is None:
        return vi
    other, method = copy.copy(vi), copy.copy(vi.inference_)
    method.program = method.posterior = coded
    other.fitted_ = replace(vi.fitted, inference=method)
    return other


def collect(vi: VariationalInference, arrays: tuple[Any, ...]) -> Batch:
    """Return all data as one batch of the model's arguments."""
    batches = vi.fitted.batches(vi.fitted.checked(arrays))
    return next(batches.in_order(batch_size=batches.num_data))


class LatentMap:
    """A map between data and points of the latent space; its coordinates hold for any data.

    Args:
        vi: a fitted program with latents, see ``with_latents``.
    """

    def __init__(self, vi: VariationalInference) -> None:
        self.vi = vi
        with self.running(vi.program_):
            self.coordinates = Coordinates(vi.program_)

    @contextmanager
    def running(self, program: BoundProgram) -> Iterator[None]:
        """Run a program in evaluation mode, without gradients, with the seed of the fitted object."""
        with torch.no_grad(), program.running(seed=self.vi.seed, training=False):
            yield

    def draw(self, arrays: tuple[Any, ...]) -> LatentPoint:
        """Return the places of draws from the posteriors of data, ``(K, N, ...)``."""
        posterior = self.vi.inference_.posterior
        with self.running(posterior):
            coordinates = Coordinates(posterior)

        def locate(program: BoundProgram, batch: Batch) -> LatentPoint:
            return coordinates.locate(batch, draw_latents(program, batch, POSTERIOR_DRAWS))

        parts = self.vi.fitted.each_batch(arrays, locate, POSTERIOR_DRAWS)
        return LatentPoint(*(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True)))

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of the prior of the continuous coordinates, ``(B, D)``."""
        with self.running(self.vi.program_):
            return self.coordinates.prior(batch)

    def decode(self, batch: Batch, points: LatentPoint) -> dict[str, np.ndarray]:
        """Return the means of the observed sites at points, ``(K, N, ...)``, under the conditions of ``N`` data."""
        parts, at_once = [], self.vi.fitted.room.rows(len(points.u))
        for row in range(0, len(batch[0]), at_once):
            rows = slice(row, row + at_once)
            part = LatentPoint(points.u[:, rows], points.choices[:, rows])
            parts.append(self.predict(tuple(tensor[rows] for tensor in batch), part).means)
        return join(parts, 1)

    def predict(self, batch: Batch, points: LatentPoint) -> Draws:
        """Return the means of the observed sites, and draws, at points ``(K, B, ...)`` of ``B`` data."""
        with self.running(self.vi.program_):
            return self.coordinates.predict(batch, points)

    def places(self, index: int, prior: tuple[Tensor, Tensor], away: Tensor) -> Tensor:
        """Return places of a coordinate, ``(T, N)``, or the numbers of all its values, ``(V, 1)``, if it is discrete.

        Args:
            index: number of the coordinate.
            prior: see ``prior``.
            away: distances from the mean of the prior, ``(T,)``, in standard deviations.
        """
        (loc, scale), choice = prior, index - self.coordinates.continuous
        if choice < 0:
            return loc[:, index] + away[:, None] * scale[:, index]
        return torch.arange(len(self.coordinates.values[choice])).to(loc)[:, None]

    def move(self, point: LatentPoint, index: int, values: Tensor) -> LatentPoint:
        """Return points ``(T, N, ...)`` at which one coordinate has the given values.

        Args:
            point: the other coordinates, ``(1, N, ...)`` or ``(T, N, ...)``.
            index: number of the coordinate.
            values: its values, or the numbers of its values if it is discrete, ``(T, N)`` or ``(T, 1)``.
        """
        u, choices = (part.expand(len(values), -1, -1).clone() for part in point)
        if index < self.coordinates.continuous:
            u[..., index] = values
        else:
            choices[..., index - self.coordinates.continuous] = values.to(choices)
        return LatentPoint(u, choices)

    def divergence(self, batch: Batch, draws: LatentPoint) -> Tensor:
        """Return the KL from the prior of each coordinate, averaged over data: ``(D + C,)``, nats."""
        program = self.vi.program_
        with self.running(program):
            most = max(FEWEST_PRIOR_DRAWS, MOST_PRIOR_NUMBERS // len(self.coordinates.names))
            few = tuple(tensor[: min(PRIOR_DRAWS, most)] for tensor in batch)
            num_draws = -(-min(PRIOR_DRAWS, most) // len(few[0]))
            prior = self.coordinates.locate(few, draw_prior(program, few, num_draws))
        parts = [gaussian_divergence(draws.u, prior.u.flatten(0, 1))]
        for choice, values in enumerate(self.coordinates.values):
            chosen, at_prior = draws.choices[..., choice], prior.choices[..., choice].flatten(0, 1)
            parts.append(divergence_of_choices(chosen, at_prior, len(values)).reshape(1))
        return torch.cat(parts)


def average(draws: LatentPoint) -> LatentPoint:
    """Return the mean of draws ``(K, N, ...)`` in unconstrained space, and the usual choices: ``(1, N, ...)``."""
    return LatentPoint(draws.u.mean(0, keepdim=True), draws.choices.mode(0, keepdim=True).values)


def divergence_of_choices(draws: Tensor, prior: Tensor, number: int) -> Tensor:
    """Return the KL of choices from the prior by their shares among draws, averaged over data, nats.

    Args:
        draws: the numbers of values that were drawn for each datum, ``(K, N)``.
        prior: those that were drawn from the prior, ``(M,)``.
        number: the number of values.

    Example:
        >>> divergence_of_choices(torch.tensor([[0], [0]]), torch.tensor([0, 1] * 500), 2)
        tensor(0.6931, dtype=torch.float64)
    """
    share, base = _count_shares(draws, number, 0.0), _count_shares(prior, number, 0.5)
    return (torch.xlogy(share, share) - torch.xlogy(share, base)).sum(-1).mean()


def _count_shares(draws: Tensor, number: int, more: float) -> Tensor:
    """Return the share of each value among draws ``(K, ...)``: ``(..., V)``; ``more`` is added to every count."""
    counts = torch.nn.functional.one_hot(draws, number).double().sum(0) + more
    return counts / counts.sum(-1, keepdim=True)
