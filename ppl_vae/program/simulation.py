"""Other data in place of those that a program observes, given or drawn from the program itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.errors import InputError, reason
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.handlers import Generate
from ppl_vae.program.missing import without_missing
from ppl_vae.program.runner import Batch
from ppl_vae.program.totals import with_totals
from ppl_vae.program.traces import sample_sites


class LooksAtItsData(InputError):
    """An error of a model that computes with the data that it observes."""


class Simulation(NamedTuple):
    """Data drawn from p(x, z); the latents of each datum are an exact draw from its posterior."""

    batch: Batch
    latents: dict[str, Tensor]
    """The latents by name, ``(1, B, ...)``, as in ``Draws``."""


@torch.no_grad()
def simulate(program: BoundProgram, batch: Batch, *, shared: bool = False) -> Simulation:
    """Draw z from the prior and x given z, and put x in place of the data.

    Arguments that are not observed, such as labels that the model is conditioned on, stay as they are, and so do
    observations that are masked, such as what pads a sequence. What is missing in the data is missing in the new data.

    Args:
        program: the program.
        batch: the arguments of ``model``; the same number of data is drawn.
        shared: True if latents that all data share have one draw from their posterior, by ``SharedDraws``.

    Raises:
        InputError: all data share a latent, which has no draw; what a site observes is not simply a part of an
            argument, or the model's other sites depend on the data that it observes, so that new data cannot be put in
            their place; a factor weighs the draws, so that they are not from p(x, z).

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 6)
        >>> simulation = simulate(Program(VAE(data_dim=6, latent_dim=2)).bind((x,)), (x,))
        >>> simulation.batch[0].shape, simulation.latents["z"].shape
        (torch.Size([3, 6]), torch.Size([1, 3, 2]))
    """
    if not shared:
        program.refuse_globals("data are simulated from a model whose parameters are known")
    program = without_missing(program)  # all numbers are drawn; those that are missing in the data are so in the draws
    structure = program.structure
    simulated = fresh(batch)
    with program.running():
        try:
            trace = program.run(Generate()(program.model), simulated)
        except InputError:
            raise
        except Exception as error:  # a distribution that cannot draw, such as one whose parameters are NaN
            raise InputError(
                f"data cannot be simulated from {program.name} ({reason(error)}): see that every distribution can be "
                f"drawn from and that no network's output is NaN, or leave out bdmc"
            ) from error
        sites = sample_sites(trace)
        drawn = structure.log_density(trace, 1).double()  # before the data change
        for name in structure.observed:
            place, value = sites[name]["infer"]["obs"], sites[name]["value"]
            if not value.numel():  # pyro.factor observes nothing
                raise InputError(
                    f"data cannot be simulated from {program.name}: its factor {name!r} weighs what is drawn, so that "
                    f"draws are not from p(x, z); leave out bdmc"
                )
            if not is_part(place, value.shape, simulated):
                raise InputError(
                    f"data cannot be simulated from {program.name}: what the site {name!r} observes is computed from "
                    f"the model's arguments; let it observe an argument, obs=x, or a part of one"
                )
            place.copy_(unmasked(sites[name], value, place))
        latents = {name: sites[name]["value"] for name in structure.latents}
        again = program.run(program.model, simulated, 1, latents)
        if not torch.allclose(drawn, structure.log_density(again, 1).double(), rtol=1e-4, atol=1e-4):
            raise LooksAtItsData(
                f"data cannot be simulated from {program.name}: its model computes with the data that it observes; let "
                f"it go on with what pyro.sample(..., obs=x) returns, or leave out bdmc"
            )
        return Simulation(simulated, structure.drawn(sites, 1))


def generates(program: BoundProgram) -> bool:
    """Check if a model draws new data without those that it observes.

    An autoencoder, whose code is a function of the datum, does not; nor does a model of sequences that reads each value
    from its argument instead of from what ``pyro.sample`` returned before. If this cannot be found, the answer is True.

    Args:
        program: the program.

    Example:
        >>> from ppl_vae.models.autoencoder import Autoencoder
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(3, 64)
        >>> generates(Program(VAE()).bind((x,))), generates(Program(Autoencoder()).bind((x,)))
        (True, False)
    """
    with program.running(seed=0, training=False):
        try:
            simulate(program, program.template)
        except LooksAtItsData:
            return False
        except InputError:
            return True
    return True


def fresh(batch: Batch) -> Batch:
    """Copy a batch, so that data can be written into it."""
    return tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in batch)


def is_part(place: Tensor, shape: torch.Size, batch: Batch) -> bool:
    """Check if ``place``, what a site observes, is a part of the memory of a batch, with a place for each number."""
    storages = {tensor.untyped_storage().data_ptr() for tensor in batch}
    once = not any(size > 1 and step == 0 for size, step in zip(place.shape, place.stride(), strict=True))
    return place.untyped_storage().data_ptr() in storages and place.shape == shape and once


@torch.no_grad()
def placed(program: BoundProgram, batch: Batch, values: Mapping[str, Tensor]) -> Batch:
    """Return the arguments of the model, with these values in place of what its sites observe.

    Args:
        program: the program.
        batch: the arguments of ``model``; masked parts, such as the padding of a sequence, stay as they are.
        values: the new data by observed site, ``(B, ...)``.

    Raises:
        InputError: what a site observes is not a part of an argument.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(1, 2, 2)
        >>> placed(Program(VAE(data_dim=4)).bind((x,)), (x,), {"x": torch.ones(1, 4)})
        (tensor([[[1., 1.],
                 [1., 1.]]]),)
    """
    structure, arguments = program.structure, fresh(batch)
    sites = program.model_sites(arguments)
    for name, value in values.items():
        site, place = sites[name], sites[name]["value"]
        if not is_part(place, site["fn"].shape(), arguments):
            raise InputError(
                f"what the site {name!r} of {program.name} observes is computed from the model's arguments, so that "
                f"other data cannot be put in their place; let it observe an argument, obs=x, or a part of one"
            )
        value = structure.from_front(site, value[None], 1)
        place.copy_(unmasked(site, value.reshape(place.shape).to(place.dtype), place))
    return arguments


def unmasked(site: Any, value: Tensor, place: Tensor) -> Tensor:
    """Return a value of a site, with the data in its masked places."""
    mask = site["mask"]
    if mask is None:
        return value
    mask = torch.as_tensor(mask, device=value.device)
    return torch.where(mask.reshape(mask.shape + (1,) * site["fn"].event_dim), value, place)


def observed_arguments(program: BoundProgram) -> tuple[bool, ...]:
    """Return, for each argument of the model, if a site observes a part of it; the others are conditions."""
    arguments = fresh(program.template)
    sites = program.model_sites(arguments)
    places = [sites[name]["value"].untyped_storage().data_ptr() for name in program.structure.observed]
    return tuple(tensor.untyped_storage().data_ptr() in places for tensor in arguments)


def has_totals(program: BoundProgram) -> bool:
    """Return true if the model observes counts with a total, which new data take from data."""
    sites = program.model_sites()
    observed = [sites[name] for name in program.structure.observed]
    return any(with_totals(site["fn"], site["value"]) is not site["fn"] for site in observed)
