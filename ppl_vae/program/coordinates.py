"""The latents of a datum as coordinates that can be moved one by one, continuous and discrete."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.program.bound import BoundProgram, Draws
from ppl_vae.program.handlers import Generate, Unconstrained, bijection, is_identity
from ppl_vae.program.latent_space import LatentSpace
from ppl_vae.program.predictions import laid_out
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import support


class LatentPoint(NamedTuple):
    """A point in the space of the latents."""

    u: Tensor
    """The continuous latents in unconstrained space, ``(K, B, D)``."""
    choices: Tensor
    """The discrete latents, ``(K, B, C)``, each as the index of its value."""


class Coordinates:
    r"""The latents of a datum as :math:`u \in \mathbb R^D`, as in ``LatentSpace``, and C choices among listed values.

    Args:
        program: the program.

    Attributes:
        names: the names of the ``D + C`` coordinates, the continuous ones first.
        continuous: the number ``D`` of continuous coordinates.
        values: the values ``(V, ...)`` that the latent of each choice can have.
        is_moved: for each continuous coordinate, True if it is another number in unconstrained space.
        moved: True if any is.

    Raises:
        InputError: there is no latent, or one that can be neither moved nor listed.

    Example:
        >>> from ppl_vae.models.gmvae import GMVAE
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(5, 6)
        >>> program = Program(GMVAE(data_dim=6, num_clusters=3, latent_dim=2, style_dim=1)).bind((x,))
        >>> coordinates = Coordinates(program)
        >>> coordinates.names, len(coordinates.values[0])
        (('w[0]', 'z[0]', 'z[1]', 'c'), 3)
        >>> point = coordinates.locate((x,), program.posterior((x,), 7).latents)
        >>> point.u.shape, point.choices.shape, coordinates.predict((x,), point).means["x"].shape
        (torch.Size([7, 5, 3]), torch.Size([7, 5, 1]), torch.Size([7, 5, 6]))
    """

    def __init__(self, program: BoundProgram) -> None:
        self.program = program
        structure = program.structure
        if not structure.latents:
            raise InputError(f"{program.name} has no latents: there is nothing to move")
        listed = [name for name in structure.latents if name in structure.discrete]
        self.space = None
        if len(listed) < len(structure.latents):
            self.space = LatentSpace(program, otherwise="look at its draws, vi.posterior")
        sites = program.model_sites()
        self.listed: dict[str, tuple[Tensor, torch.Size]] = {}
        for name in listed:
            event_dim, values = sites[name]["fn"].event_dim, support(sites[name])
            assert values is not None
            values = values.reshape(len(values), *values.shape[values.dim() - event_dim :])
            shape = structure.value(sites[name], 1).shape[2:]
            self.listed[name] = values, shape[: len(shape) - event_dim]
        places = [] if self.space is None else self.space.layout
        layout = [(place.name, place.per_datum) for place in places]
        self.is_moved = tuple(
            not is_identity(bijection(place.site["fn"].support))
            for place in places
            for _ in range(prod(place.per_datum))
        )
        self.moved, self.continuous = any(self.is_moved), len(self.is_moved)
        layout += [(name, shape) for name, (_, shape) in self.listed.items()]
        self.names = tuple(name for site, shape in layout for name in names_of(site, shape))
        self.values = tuple(values for values, shape in self.listed.values() for _ in range(prod(shape)))

    def prior(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the prior of u, each ``(B, D)``; parent latents are at their means."""
        if self.space is None:
            return (torch.zeros(len(batch[0]), 0, device=batch[0].device),) * 2
        with torch.no_grad(), self.program.running():
            loc, scale = self.space.start(batch)
            return loc.expand(len(batch[0]), -1), scale.expand(len(batch[0]), -1)

    def locate(self, batch: Batch, latents: Mapping[str, Tensor]) -> LatentPoint:
        """Return the point of latents that are given by name, ``(K, B, ...)`` as in ``Draws``."""
        num_samples, choices = len(next(iter(latents.values()))), []
        u = torch.zeros(num_samples, len(batch[0]), 0, device=batch[0].device)
        if self.space is not None:
            u = self.space.flat(batch, latents)
        for name, (values, _) in self.listed.items():
            event_dim = values.dim() - 1
            same = latents[name].unsqueeze(-1 - event_dim) == values  # (K, B, plates..., V, event...)
            same = same.flatten(same.dim() - event_dim).all(-1) if event_dim else same
            choices.append(same.long().argmax(-1))
        flat = [choice.reshape(num_samples, len(batch[0]), -1) for choice in choices]
        return LatentPoint(u, torch.cat(flat, -1) if flat else u.new_zeros(*u.shape[:2], 0, dtype=torch.long))

    @torch.no_grad()
    def predict(self, batch: Batch, point: LatentPoint) -> Draws:
        """Return draws from p(x | z), and its means, at points of ``B`` data."""
        num_samples, num_data = point.u.shape[:2]
        sizes = [prod(shape) for _, shape in self.listed.values()]
        with self.program.running():
            latents = {
                name: values[choice].reshape(num_samples, num_data, *shape, *values.shape[1:])
                for (name, (values, shape)), choice in zip(
                    self.listed.items(), point.choices.split(sizes, -1) if sizes else (), strict=True
                )
            }
            values = laid_out(self.program, batch, latents, num_samples) if latents else {}
            points = {} if self.space is None else self.space.laid_out(batch, point.u)
            with Unconstrained(points):
                trace = self.program.run(Generate()(self.program.model), batch, num_samples, values)
            return self.program.draws(trace, num_samples)


def names_of(site: str, shape: tuple[int, ...], *, classes: bool = False) -> list[str]:
    """Return names for the numbers of a site, latent or observed; or for its classes, which are the last dimension.

    Example:
        >>> names_of("z", (2,)), names_of("s", ()), names_of("c", (2,), classes=True)
        (['z[0]', 'z[1]'], ['s'], ['c=0', 'c=1'])
    """
    if classes:
        return [f"{name}={value}" for name in names_of(site, shape[:-1]) for value in range(shape[-1])]
    return [f"{site}[{', '.join(map(str, index))}]" if index else site for index in np.ndindex(*shape)]
