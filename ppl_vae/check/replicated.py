"""Data sets that are drawn from the model, in the place of the data that are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from ppl_vae.check.subject import CheckedData
from ppl_vae.data import NamedArrays
from ppl_vae.evaluation.passes import apply_to_each
from ppl_vae.evaluation.results import join
from ppl_vae.program import Batch, BoundProgram, SharedDraws, observed_values, simulate

NUMBERS_AT_ONCE = 2**22
"""The largest number of numbers of replicated data that are in memory at once."""

SiteArrays = Mapping[str, np.ndarray]
"""What sites observe, ``(N, ...)`` by site; NaN is missing or masked."""


def observed_data(data: CheckedData) -> SiteArrays:
    """Return what the observed sites observe of the data, ``(N, ...)`` by site."""
    return _values(data, data.arrays, observed_values, data.seed)


def prior_replicates(data: CheckedData, num_replicates: int) -> Iterator[SiteArrays]:
    """Draw data sets from the model under the conditions of the data, ``(r, N, ...)`` by site, in groups.

    Each is what other data would be if the model were right. Latents that all data share are drawn from their
    posterior, once for each data set.

    Raises:
        InputError: data cannot be simulated from the program.
    """
    fitted, size = data.fitted, len(data)
    shared = fitted.program.global_posterior
    numbers = sum(max(1, array[0].size) for array in observed_data(data).values()) * size
    at_once = 1 if shared is not None else max(1, min(num_replicates, NUMBERS_AT_ONCE // numbers))
    done = 0
    while done < num_replicates:
        count = min(at_once, num_replicates - done)
        rows = np.tile(np.arange(size), count)
        arrays = NamedArrays({name: np.asarray(array)[rows] for name, array in data.arrays.items()})

        def draw(program: BoundProgram, batch: Batch) -> dict[str, Tensor]:
            return observed_values(program, simulate(program, batch, shared=shared is not None).batch)

        with SharedDraws(shared) if shared is not None else nullcontext():
            values = _values(data, arrays, draw, data.seed + 1000 + done)
        yield {name: value.reshape(count, size, *value.shape[1:]) for name, value in values.items()}
        done += count


def posterior_replicates(data: CheckedData, num_replicates: int) -> SiteArrays:
    """Draw data sets given the data, ``(R, N, ...)`` by site: each datum anew from its own posterior.

    They look more like the data than new data would, because each datum has been seen.
    """

    def draw(program: BoundProgram, batch: Batch) -> dict[str, Tensor]:
        drawn, seen = program.posterior(batch, num_replicates).observed, observed_values(program, batch)
        return {n: torch.where(seen[n].isnan(), torch.nan, drawn[n].to(seen[n])) for n in seen if n in drawn}

    return join(data.each_batch(draw, num_replicates), 1)


def _values(
    data: CheckedData, arrays: Mapping[str, np.ndarray], function: Callable[[BoundProgram, Batch], dict[str, Tensor]],
    seed: int,
) -> SiteArrays:  # fmt: skip
    fitted, program = data.fitted, data.fitted.program
    with torch.no_grad(), program.running(seed=seed, training=False):
        batches, rows = fitted.batches(arrays), fitted.room.rows()
        return join(apply_to_each(lambda batch: function(program, batch), batches, rows, seed))
