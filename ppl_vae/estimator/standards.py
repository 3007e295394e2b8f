"""Location and scale of the arguments of a program that is fitted to standardised data."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from ppl_vae.data.scales import find_scalings
from ppl_vae.errors import InputError
from ppl_vae.evaluation.arguments import Arrays
from ppl_vae.program import Batch
from ppl_vae.program.rescaling import Standard


def find_standards(
    arguments: Sequence[str], template: Batch, arrays: Arrays, dynamic: Collection[str], train: bool
) -> dict[int, Standard]:
    """Return location and scale of the arguments that are real numbers; 0 and 1 if they are about to be loaded."""
    places = {name: place for place, name in enumerate(arguments) if template[place].is_floating_point()}
    if not train:
        like = {place: template[place][0] for place in places.values()}
        return {place: Standard(torch.zeros_like(row), torch.ones_like(row)) for place, row in like.items()}
    if set(dynamic) & places.keys():
        raise InputError("standardize: x is bits that are drawn anew in every epoch: leave the option out")
    scalings = find_scalings(arrays, list(places))
    return {
        places[name]: Standard(
            torch.as_tensor(scaling.location).to(template[places[name]]),
            torch.as_tensor(scaling.scale).to(template[places[name]]),
            torch.as_tensor(scaling.is_positive, device=template[places[name]].device),
        )
        for name, scaling in scalings.items()
    }
