"""Data with holes in a fit: which arrays have masks, and further holes that are drawn in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ppl_vae.data import Holes, find_holes, mask_of
from ppl_vae.estimator.options import FitOptions
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.inference.options import options_of
from ppl_vae.program import Batch, Program


def look_for_holes(program: Program, estimator: Any, parts: Sequence[Mapping[str, Any]]) -> Holes:
    """Return what is needed to live with the holes of the data that a program takes.

    Arrays have masks if they have a hole in any part, if holes are drawn in training, or if the program needs a mask.

    Args:
        program: the program.
        estimator: an object with all options as attributes.
        parts: the parts of the data, of which the first is the training part.
    """
    given = [*parts[0], *(mask_of(name) for name in parts[0])]
    names = [name for name in program.arguments(given) if name in parts[0]]
    also = {name for name in names if mask_of(name) in program.required_names and mask_of(name) not in parts[0]}
    if options_of(estimator, FitOptions).extra_missing:
        also.add("x" if "x" in names else names[0])
    return find_holes(names, parts, also=also)


class ExtraHoles:
    """Further holes in training batches, other ones in every batch, so that an encoder learns to do without a number.

    Only a number that may be missing is hidden. What is drawn depends on the seed and the number of the batch.

    Args:
        fitted: the fitted program, whose arrays have masks.
        share: the share of the numbers that are hidden.
    """

    def __init__(self, fitted: Fitted, share: float) -> None:
        self.share, self.device, holes = share, fitted.device, fitted.naming.holes
        self.places = {name: fitted.arguments.index(name) for name in holes.names if name in fitted.arguments}
        self.masks = {name: fitted.arguments.index(mask_of(name)) for name in self.places}
        self.usual = {
            name: torch.from_numpy(holes.usual[name]).to(fitted.template[i]) for name, i in self.places.items()
        }
        allowed = holes.allowed or {}
        self.allowed = {name: torch.from_numpy(allowed[name]).to(fitted.device) for name in self.places}

    @classmethod
    def of(cls, fitted: Fitted, share: float) -> ExtraHoles | None:
        """Return further holes if a share of the numbers is to be hidden, and None otherwise."""
        return cls(fitted, share) if share else None

    def drawn(self, batches: Iterable[Batch], seed: int, first: int = 0) -> Iterator[Batch]:
        """Yield batches with further holes.

        Args:
            batches: the batches of an epoch.
            seed: the seed of the epoch.
            first: the number of the first batch.
        """
        generator = torch.Generator(self.device)
        for number, batch in enumerate(batches, first):
            generator.manual_seed((seed * 1_000_003 + number) % 2**63)
            rows = list(batch)
            for name, place in self.places.items():
                mask = rows[self.masks[name]]
                hidden = torch.rand(mask.shape, generator=generator, device=self.device) < self.share
                seen = mask & ~(hidden & self.allowed[name])
                rows[place] = torch.where(seen, rows[place], self.usual[name])
                rows[self.masks[name]] = seen
            yield tuple(rows)
