"""Data as batches of the arguments of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch

from ppl_vae.data import Batches, choose_batches, trim_rows
from ppl_vae.inference import LAMBDA, NUMBER

Arrays = Mapping[str, np.ndarray]


def make_batches(
    arrays: Arrays,
    arguments: Collection[str],
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    dynamic: Collection[str] = (),
    trims: bool = False,
    **options: Any,
) -> Batches:
    """Return batches of the model's arguments, and behind them lambda or the rows' numbers if they are given.

    With ``trims``, the padding of sequences is cut off. The other options are ``memory`` of ``choose_batches``, and
    ``num_batches`` and ``group_by_length`` of ``Batches``.
    """
    names = (*arguments, *(name for name in (LAMBDA, NUMBER) if name in arrays))
    real = {"x", *list(arguments)[:1]}  # bits and counts are real numbers to a likelihood
    drawn = [name for name in dynamic if name in arguments]
    kinds: dict[str, Any] = {"dtype": dtype, "real": real, "dynamic": drawn}
    rows = trim_rows(arrays) if trims else arrays
    batches = choose_batches(rows, names, batch_size, device=device, **kinds, **options)
    batches.trims = trims
    return batches
