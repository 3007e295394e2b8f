"""What an estimator answers with."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError


class Score(NamedTuple):
    """ELBO and log evidence of a part of the data, nats per datum, each with its standard error over data."""

    elbo: float
    elbo_se: float
    log_evidence: float
    log_evidence_se: float
    estimator: str
    num_samples: int
    num_data: int


class PosteriorDraws(NamedTuple):
    """Draws for every datum, by site: arrays ``(num_samples, N, ...)``."""

    latents: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]
    """Draws of the observed sites given the latents: the posterior predictive."""
    means: dict[str, np.ndarray]
    """Means of the observed sites given the latents."""
    data: dict[str, np.ndarray]
    """What the observed sites observe, ``(N, ...)``."""


def mean_and_error(per_datum: Tensor) -> tuple[float, float]:
    """Mean and standard error over data; infinite for a single datum, which cannot tell."""
    error = per_datum.std().item() / math.sqrt(len(per_datum)) if len(per_datum) > 1 else math.inf
    return per_datum.mean().item(), error


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
