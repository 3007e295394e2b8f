"""``pyro.factor`` outside the data plate: a term that all data share, which counts once."""

from __future__ import annotations

from dataclasses import replace

import pyro
import torch
from pyro import poutine
from torch import nn

from ppl_vae.program.factor_term import SharedFactors, hiding_factors
from ppl_vae.program.runner import Batch, Runner
from ppl_vae.program.traces import find_data_plate, is_factor, lies_in, sample_sites


def with_shared_factors(program: Runner, batch: Batch, num_data: int) -> Runner:
    r"""Return a program whose factors outside the data plate are hidden, and count once in an objective.

    .. math:: \frac1N \sum_i \mathcal L(x_i) + \frac1N \log f(\theta)

    such as the logarithm of a prior of the weights. Evidence is that of the data, without the factor.

    Args:
        program: the parts of the program; they are returned unchanged if there is no such factor.
        batch: some data.
        num_data: the number ``N`` of training data.
    """
    with torch.no_grad(), program.running(seed="current", training=False), pyro.validation_enabled(False):
        try:
            sites = sample_sites(poutine.trace(program.model).get_trace(*batch))
            plate = find_data_plate(program.name, sites, len(batch[0]), program.data_plate)
            guided = {} if program.guide is None else sample_sites(poutine.trace(program.guide).get_trace(*batch))
        except Exception:  # the check reports it, with a better message
            return program
    of_model, of_guide = (
        {n for n, s in part.items() if is_factor(s) and not lies_in(s, plate)} for part in (sites, guided)
    )
    if not of_model | of_guide:
        return program
    factors = SharedFactors((*sorted(of_model), *sorted(of_guide - of_model)), num_data).to(batch[0].device)
    return replace(
        program,
        model=hiding_factors(program.model, of_model, 1),
        guide=None if program.guide is None else hiding_factors(program.guide, of_guide, -1),
        module=nn.ModuleDict({"model": program.module, "factors": factors}),
        shared_factors=factors,
    )
