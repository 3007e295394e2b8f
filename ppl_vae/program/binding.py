"""The structure of a program, from runs of its model and guide on a few data."""

from __future__ import annotations

import torch
from pyro import poutine

from ppl_vae.errors import InputError
from ppl_vae.program.runner import Batch, Runner
from ppl_vae.program.traces import Structure, can_enumerate, read_plates, sample_sites
from ppl_vae.program.trial import draws_agree, sums_agree


def read_structure(program: Runner, template: Batch) -> Structure:
    """Return the data plate and the sites of a program.

    Random initial values of ``pyro.param`` are drawn from torch's generator as it is, which does not move.

    Raises:
        InputError: no plate, or more than one, can be the data plate; a discrete latent cannot be summed out.
    """
    with torch.no_grad(), program.running(seed="current", training=False):
        structure = read_plates(program.name, program.model, template, program.data_plate)
        discrete = can_enumerate(poutine.trace(program.model).get_trace(*template))
        guided: set[str] = set()
        if program.guide is not None:  # run, so that its parameters exist
            guided = {name for name, _ in sample_sites(poutine.trace(program.guide).get_trace(*template))}
        summed = tuple(name for name in discrete if name not in guided)
        structure = structure._replace(summed=summed)
        if structure.latents and not draws_agree(program, structure, template):
            structure = structure._replace(draws_by="repeat")
        if summed and not sums_agree(program, structure, template, summed):
            raise InputError(
                f"{program.name}: the discrete latent {summed[0]!r} cannot be summed out, for its values lie in a "
                f"dimension in front that a network or an index does not expect: let leading dimensions be free "
                f"(dim=-1, x[..., i]), or sample {summed[0]!r} in the guide"
            )
        collapsed = tuple(name for name in discrete if name in guided)
        if collapsed and sums_agree(program, structure, template, collapsed):  # else sampled, with more variance
            structure = structure._replace(collapsed=collapsed)
    return structure
