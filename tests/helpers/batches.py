"""Tensors as the data of an evaluation."""

from __future__ import annotations

from ppl_vae.data import Batches
from ppl_vae.program import Batch


def as_batches(batch: Batch) -> Batches:
    """Return data whose only batch is this one, in its precision."""
    arrays = {str(position): tensor.numpy() for position, tensor in enumerate(batch)}
    return Batches(arrays, list(arrays), len(batch[0]), dtype=batch[0].dtype)
