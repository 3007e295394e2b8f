"""One run of a model or a guide with several draws, given a program's structure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyro
from pyro import poutine
from torch import Tensor

from ppl_vae.program.handlers import Given, enumerated
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import Structure


def run(
    structure: Structure,
    fn: Callable[..., Any],
    batch: Batch,
    num_samples: int = 1,
    values: Mapping[str, Tensor] | None = None,
    *,
    summed: Collection[str] = (),
) -> poutine.Trace:
    """Trace the model or the guide with ``K`` draws; some latents are given, some discrete ones are enumerated."""
    outer, repeated = with_draws(structure, batch, num_samples)
    fn = enumerated(Given(values or {})(outer(fn)), summed, -2 - structure.plate_nesting)
    return poutine.trace(fn).get_trace(*repeated)


def with_draws(structure: Structure, batch: Batch, num_samples: int) -> tuple[Callable[..., Any], Batch]:
    """Return what takes ``K`` draws at once: a handler that adds the outer plate, or a batch repeated ``K`` times."""
    if num_samples == 1:
        return (lambda fn: fn), batch
    if structure.draws_by == "repeat":
        return (lambda fn: fn), tuple(t.repeat(num_samples, *[1] * (t.dim() - 1)) for t in batch)
    return pyro.plate("_draws", num_samples, dim=-1 - structure.plate_nesting), batch


def empty_guide(*batch: Tensor) -> None:
    """Sample nothing: the guide of a model without latents."""
