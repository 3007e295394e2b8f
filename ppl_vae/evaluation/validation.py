"""The number that training is validated by."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from ppl_vae.evaluation.passes import Room, passes
from ppl_vae.inference import Bound
from ppl_vae.program import Batch, BoundProgram

VALIDATION_DRAWS = 5000
"""Draws over all data: their noise is the same every epoch, and few draws would be fitted to it."""
VALIDATION_NUMBERS = 1e7
"""But with so many numbers in their largest tensors at most: a long sequence is not drawn as often as a digit."""


def validation_bound(
    program: BoundProgram,
    batches: Iterable[Batch],
    num_data: int,
    *,
    num_particles: int,
    bound: Bound,
    room: Room,
) -> float:
    """Compute the ELBO of data under the program as it is, or their importance-weighted bound, nats per datum.

    Args:
        program: with the guide that data are looked at with.
        batches: of the data.
        num_data: in all.
        num_particles: at least so many draws a datum; in each bound, of ``"iwae"``.
        bound: what training ascends.
        room: how many draws fit into a pass.
    """
    together = num_particles if bound == "iwae" else 1
    draws = min(VALIDATION_DRAWS, VALIDATION_NUMBERS / room.numbers)
    repeats = max(-(-num_particles // together), math.ceil(draws / (num_data * together)))
    total = 0.0
    for batch in batches:
        at_once = passes(repeats * together, room.draws(len(batch[0])))
        log_weights = torch.cat([program.log_weights(batch, num_draws).double() for num_draws in at_once])
        bounds = log_weights.unflatten(0, (repeats, together)).logsumexp(1) - math.log(together)
        total += bounds.mean(0).sum().item()
    return total / num_data
