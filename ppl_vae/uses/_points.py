"""From data to points of the latent space, and back."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.estimator import VariationalInference
from ppl_vae.program import Batch, BoundProgram, Coordinates, LatentPoint, with_code

DRAWS = 64
"""Of the posterior, for its mean."""


def with_latents(vi: VariationalInference, arrays: tuple[Any, ...]) -> VariationalInference:
    """The fitted object; of a program with a code and no latents, one whose latent is the code, see ``with_code``."""
    if vi.program_.structure.latents:
        return vi
    coded = with_code(vi.program_, whole(vi, arrays))
    if coded is None:
        return vi
    other, method = copy.copy(vi), copy.copy(vi.inference_)
    method.program = method.posterior = coded
    other.fitted_ = replace(vi.fitted, inference=method)
    return other


def whole(vi: VariationalInference, arrays: tuple[Any, ...]) -> Batch:
    """All data as one batch of the model's arguments."""
    batches = vi.fitted.batches(vi.fitted.checked(arrays))
    return next(batches.in_order(batch_size=batches.num_data))


def draws_of(vi: VariationalInference, arrays: tuple[Any, ...], num_draws: int = DRAWS) -> LatentPoint:
    """Where draws from the posterior are, ``(K, N, ...)``."""
    posterior = vi.inference_.posterior
    with torch.no_grad(), posterior.running(seed=vi.seed, training=False):
        there = Coordinates(posterior)

    def draw(program: BoundProgram, batch: Batch) -> LatentPoint:
        return there.locate(batch, program.posterior(batch, num_draws).latents)

    return LatentPoint(
        *(torch.cat(parts, 1) for parts in zip(*vi.fitted.each_batch(arrays, draw, num_draws), strict=True))
    )


def middle(draws: LatentPoint) -> LatentPoint:
    """The mean of draws ``(K, N, ...)`` in unconstrained space, and the commonest of the choices: ``(1, N, ...)``."""
    return LatentPoint(draws.u.mean(0, keepdim=True), draws.choices.mode(0, keepdim=True).values)


def coordinates(vi: VariationalInference) -> Coordinates:
    """The program's coordinates; they are made once, and hold for any data."""
    with torch.no_grad(), vi.program_.running(seed=vi.seed, training=False):
        return Coordinates(vi.program_)


def prior_of(vi: VariationalInference, there: Coordinates, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the prior of the continuous coordinates, ``(B, D)``."""
    with torch.no_grad(), vi.program_.running(seed=vi.seed, training=False):
        return there.prior(batch)


def means_at(vi: VariationalInference, there: Coordinates, batch: Batch, points: LatentPoint) -> dict[str, np.ndarray]:
    """Means of the observed sites at points ``(K, N, ...)`` under the conditions of ``N`` data, ``(K, N, ...)``."""
    parts, at_once = [], vi.fitted.room.rows(len(points.u))
    with torch.no_grad(), vi.program_.running(seed=vi.seed, training=False):
        for row in range(0, len(batch[0]), at_once):
            rows = slice(row, row + at_once)
            part = LatentPoint(points.u[:, rows], points.choices[:, rows])
            parts.append(there.predict(tuple(tensor[rows] for tensor in batch), part).means)
    return {name: torch.cat([part[name] for part in parts], 1).cpu().numpy() for name in parts[0]}
