"""Other data in place of those that a program observes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.runner import Batch


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
