"""What an estimator answers with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError


class PosteriorDraws(NamedTuple):
    """Draws for every datum, by site: arrays ``(num_samples, N, ...)``."""

    latents: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]
    """Draws of the observed sites given the latents: the posterior predictive."""
    means: dict[str, np.ndarray]
    """Means of the observed sites given the latents."""
    data: dict[str, np.ndarray]
    """What the observed sites observe, ``(N, ...)``."""


class PriorDraws(NamedTuple):
    """Draws of data and of what they were drawn from, by site: arrays ``(N, ...)``."""

    latents: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]
    """Draws of the observed sites given the latents: the prior predictive."""
    means: dict[str, np.ndarray]
    """Means of the observed sites given the latents."""


def mean_and_error(per_datum: Tensor) -> tuple[float, float]:
    """Mean and standard error over data; infinite where it cannot be told, of a single datum or with a minus infinity.

    Example:
        >>> mean_and_error(torch.tensor([1.0, 2.0, 2.0, 1.0, 4.0])), mean_and_error(torch.tensor([-math.inf, 3.0]))
        ((2.0, 0.5477...), (-inf, inf))
    """
    values = per_datum.double()
    mean = values.mean().item()
    known = len(values) > 1 and math.isfinite(mean)
    return mean, values.std().item() / math.sqrt(len(values)) if known else math.inf


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Cells as lines of a table: the first ``left`` columns to the left, the others to the right.

    Example:
        >>> aligned([["run", "nats"], ["a", "-17.05"]])
        ['run    nats', 'a    -17.05']
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    signs = ["<" if i < left else ">" for i in range(len(widths))]
    return [
        "  ".join(f"{cell:{sign}{width}}" for cell, sign, width in zip(line, signs, widths, strict=True)).rstrip()
        for line in lines
    ]


def join(parts: list[dict[str, Tensor]], axis: int = 0) -> dict[str, np.ndarray]:
    """Named tensors of several batches, one behind the other."""
    for part in parts:
        if differing := sorted(part.keys() ^ parts[0].keys()):
            raise InputError(
                f"the site {differing[0]!r} is in some batches and not in others: loop over a fixed range, and mask "
                f"what lies past the end of a sequence"
            )
    return {name: torch.cat([part[name] for part in parts], axis).cpu().numpy() for name in parts[0]}


def single(named: dict[str, np.ndarray]) -> Any:
    """The array itself where there is one only."""
    return next(iter(named.values())) if len(named) == 1 else named
