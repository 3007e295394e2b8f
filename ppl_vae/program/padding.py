"""A trial: is padding left out of a program's densities, so that it can be cut off?"""

from __future__ import annotations

import torch

from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.process import seeded
from ppl_vae.program.runner import Batch


@torch.no_grad()
def weighs_alike(program: BoundProgram, batch: Batch, other: Batch) -> bool:
    """Check if two batches have the same log weights, from the same random numbers.

    Args:
        program: a program, in its scope.
        batch: some data.
        other: the same data without the padding of sequences.
    """
    try:
        with seeded(0):
            one = program.log_weights(batch, 2)
        with seeded(0):
            return torch.allclose(one, program.log_weights(other, 2), rtol=1e-4, atol=1e-4)
    except Exception:  # whatever a network of a fixed number of steps raises
        return False
