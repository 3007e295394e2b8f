"""Data with their posteriors: a program that has them, and the lambda of every datum if it is data."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ppl_vae.data import Batches, with_arrays
from ppl_vae.evaluation.arguments import Arrays
from ppl_vae.evaluation.passes import apply_to_each
from ppl_vae.inference import LAMBDA
from ppl_vae.inference.per_datum import LambdaMethod
from ppl_vae.inference.settling import Settling
from ppl_vae.parallel import RowSpan
from ppl_vae.program import BoundProgram


class Located(NamedTuple):
    """A program and data whose posteriors it has."""

    program: BoundProgram
    data: Arrays
    """With their lambda if it is data."""
    settling: Settling | None = None
    """How the lambda of each datum has settled, if it takes steps until it does."""


def locate(method: LambdaMethod, arrays: Arrays, batches: Batches, rows: int, seed: int, place: RowSpan) -> Located:
    """Find the lambda of all data.

    Args:
        method: the method that finds it.
        arrays: the data by name.
        batches: the same data, as the model takes them.
        rows: the number of data at once.
        seed: the seed of all draws.
        place: the place of the data among all data.
    """
    parts = apply_to_each(method.find, batches, rows, seed, place)
    lam = torch.cat([part.lam.cpu() for part in parts]).numpy()
    settlings = [part.settling for part in parts if part.settling is not None]
    settling = Settling.joined(settlings) if settlings else None
    return Located(method.posterior, with_arrays(arrays, {LAMBDA: lam}), settling)
