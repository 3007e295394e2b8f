"""The number that validates training: the bound of the data that are held out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from ppl_vae.evaluation.passes import Room, passes
from ppl_vae.inference import Bound
from ppl_vae.parallel import ALONE, Ranks
from ppl_vae.program import Batch, BoundProgram

VALIDATION_DRAWS = 5000
"""The number of draws over all data. Their noise is the same in every epoch: a fit would adapt to that of few draws."""
VALIDATION_NUMBERS = 1e7
"""The largest number of numbers in the largest tensors of these draws: a long sequence has fewer draws than a digit."""


def validation_bound(
    program: BoundProgram,
    batches: Iterable[Batch],
    num_data: int,
    *,
    num_particles: int,
    bound: Bound,
    room: Room,
    ranks: Ranks = ALONE,
) -> float:
    """Compute the ELBO of data under the program as it is, or their importance-weighted bound, nats per datum.

    Args:
        program: the program with the guide that gives the posteriors of the data.
        batches: the data, of which each process has its part.
        num_data: the number of data in all batches of all processes.
        num_particles: the smallest number of draws per datum; for ``"iwae"``, the number of draws in each bound.
        bound: the bound that training maximises.
        room: the number of draws that fit into a pass.
        ranks: the processes that compute it together.
    """
    together = num_particles if bound == "iwae" else 1
    draws = min(VALIDATION_DRAWS, VALIDATION_NUMBERS / room.numbers)
    repeats = max(-(-num_particles // together), math.ceil(draws / (num_data * together)))
    total = 0.0
    for batch in batches:
        at_once = passes(repeats * together, room.draws(len(batch[0])))
        log_weights = torch.cat([program.weighted_draws(batch, k).log_weight.double() for k in at_once])
        bounds = log_weights.unflatten(0, (repeats, together)).logsumexp(1) - math.log(together)
        total += bounds.mean(0).sum().item()
    return ranks.total(total) / num_data
