"""Checks that data have a density under a program: by a run, or by supports that are the same for all data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyro
import torch

from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.faults import check_observation, own_support
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import Site, is_factor, sample_sites


class FixedSupport(NamedTuple):
    """The support of the numbers of an argument, which is the same for all data."""

    argument: int
    """The position of the argument in a batch."""
    constraint: Any


def check_observations(program: BoundProgram, batch: Batch, first_row: int = 0) -> None:
    """Check that every datum of a batch has a density under the program, such as counts under a Poisson.

    Args:
        program: the program.
        batch: all the data or a part of them.
        first_row: the number of the batch's first row, for the message.

    Raises:
        InputError: a datum has no density; the message names the site, the value, its row and the remedy.
    """
    with torch.no_grad(), program.running(seed=0, training=False):
        for site in replayed(program, batch)[1].values():
            check_observation(program.structure, site, first_row)


def fixed_supports(program: BoundProgram, batch: Batch) -> list[FixedSupport] | None:
    """Return the supports of all that a program observes if they depend on no parameter, latent or datum.

    Data within them have a density, which can be seen without a run of the program. Data outside may have one, if a
    mask leaves the number out.

    Args:
        program: the program.
        batch: a few data.

    Returns:
        The supports; None if one of them is not fixed, such as that of a binomial, or if the program observes a number
        that it computes from an argument.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> program = Program(VAE(data_dim=3, latent_dim=1)).bind((torch.ones(4, 3),))
        >>> supports = fixed_supports(program, (torch.ones(4, 3),))
        >>> are_within(supports, (torch.ones(2, 3),)), are_within(supports, (torch.full((2, 3), 0.5),))
        (True, False)
    """
    with torch.no_grad(), program.running(seed=0, training=False):
        sites = [site for site in replayed(program, batch)[1].values() if site["is_observed"] and not is_factor(site)]
    held = {tensor.untyped_storage().data_ptr(): number for number, tensor in enumerate(batch)}
    supports = []
    for site in sites:
        argument, constraint = held.get(site["value"].untyped_storage().data_ptr()), own_support(site)
        if argument is None or constraint is None or constraint.event_dim or not _is_fixed(constraint):
            return None
        supports.append(FixedSupport(argument, constraint))
    return supports


def are_within(supports: Sequence[FixedSupport], batch: Batch) -> bool:
    """Check that all numbers of a batch lie in fixed supports, masked or not."""
    return all(bool(constraint.check(batch[argument]).all()) for argument, constraint in supports)


def _is_fixed(constraint: Any) -> bool:
    """Check that a constraint has no values but plain numbers, such as the bounds of an interval."""
    return all(isinstance(value, int | float) for value in vars(constraint).values())


@torch.no_grad()
def replayed(program: BoundProgram, batch: Batch) -> tuple[dict[str, Site], dict[str, Site]]:
    """Return the sites of the guide, and those of the model given the latents that the guide draws."""
    with pyro.validation_enabled(False):
        traces = program.traces(batch, 1)
        return sample_sites(traces.guide), sample_sites(traces.model)
