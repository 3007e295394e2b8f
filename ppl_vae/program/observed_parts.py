"""The numbers of a datum that each observed site observes, found by changing them, and those that a model needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ppl_vae.errors import InputError, reason
from ppl_vae.program.runner import Batch

if TYPE_CHECKING:
    from ppl_vae.program.bound import BoundProgram
    from ppl_vae.program.traces import Site

ROWS_AT_ONCE = 256
MOST_PAIRS = 1 << 26
"""The largest number of pairs, of a number of a site and one of a datum, that are looked at one by one."""
CHANGES = (lambda x: x + 1, lambda x: x - 1, lambda x: torch.full_like(x, torch.nan))
"""Changes of a number: a class changes by one, and what is computed of real numbers is NaN if one of them is."""


@dataclass(frozen=True)
class ObservedParts:
    """The numbers of the arrays with masks that the numbers of each observed site are computed from.

    The numbers of all these arrays are counted one after the other, in the order of the masks.

    Attributes:
        index: by site, the numbers that each of its numbers is computed from, ``(..., P)``; the count of all numbers
            stands for none.
        allowed: by mask, true for the numbers that may be missing, of the shape of a datum: a site observes them, and
            the model does not need them.
    """

    index: Mapping[str, Tensor]
    allowed: tuple[Tensor, ...]

    def seen(self, masks: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return True for the seen numbers of each site, ``(B, ...)``: all that they are computed from is seen."""
        flat = [mask.reshape(len(mask), -1) for mask in masks]
        joined = torch.cat([*flat, flat[0].new_ones(len(flat[0]), 1)], 1)
        return {name: joined[:, index].all(-1) for name, index in self.index.items()}


@torch.no_grad()
def read_parts(program: BoundProgram, masked: Sequence[int]) -> ObservedParts:
    """Find what each observed site of a program observes.

    The model is run on copies of one datum, in each of which some numbers have other values. A number of a site that
    changes with exactly one of a set and its complement, for the sets of all numbers that have a one at a place of
    their binary number, is computed from one number: that with these ones.

    Args:
        program: the program; behind the arguments of the model, its batches have the masks.
        masked: the positions of the arrays with masks, in the order of the masks.

    Raises:
        InputError: the model fails on missing numbers, or a site is computed of too many of them.
    """
    trials = _Trials(program, masked)
    size = trials.size
    numbers = torch.arange(size, device=trials.device)
    places = [numbers >> place & 1 == 1 for place in range(max(1, (size - 1).bit_length()))]
    ones, zeros = torch.stack(places), ~torch.stack(places)
    by_ones, by_zeros = (trials.changed(sets) for sets in (ones, zeros))
    index, reached = {}, torch.zeros(size, dtype=torch.bool, device=trials.device)
    for name, one in by_ones.items():
        shape = one.shape[1:]
        one, zero = (changed.reshape(len(changed), -1) for changed in (one, by_zeros[name]))
        weight = 2 ** torch.arange(len(one), device=one.device)
        parents = torch.where((one ^ zero).all(0), (one * weight[:, None]).sum(0), size)[:, None]
        several = (one & zero).any(0).nonzero()[:, 0]
        if len(several):
            parents = _several(trials, name, several, parents)
        of_data = parents[parents < size]
        if len(of_data):
            index[name] = parents.reshape(*shape, -1)
            reached[of_data] = True
    allowed = reached & ~_needed(trials)
    parts = allowed.split([tensor[0].numel() for tensor in trials.arrays])
    shaped = tuple(part.reshape(tensor.shape[1:]) for part, tensor in zip(parts, trials.arrays, strict=True))
    return ObservedParts(index, shaped)


class _Trials:
    """Runs of a model on copies of one datum, in each of which some numbers are changed or missing."""

    def __init__(self, program: BoundProgram, masked: Sequence[int]) -> None:
        self.program, self.masked = program, masked
        self.first = tuple(tensor[:1] for tensor in program.template)
        self.arrays = [self.first[i] for i in masked]
        self.size, self.device = sum(tensor.numel() for tensor in self.arrays), self.arrays[0].device

    def batch(self, sets: Tensor, change: Any, *, hidden: bool) -> Batch:
        """Return a copy of the datum for each of the sets ``(R, N)``, with other values of the numbers in the set."""
        rows = [tensor.expand(len(sets), *tensor.shape[1:]).clone() for tensor in self.first]
        width, start = len(rows) - len(self.masked), 0
        for number, position in enumerate(self.masked):
            whole = rows[position]
            chosen = sets[:, start : start + whole[0].numel()].reshape(whole.shape)
            start += whole[0].numel()
            rows[position] = torch.where(chosen, change(whole), whole)
            rows[width + number] = ~chosen if hidden else torch.ones_like(chosen)
        return tuple(rows)

    def sites(self, sets: Tensor, change: Any, *, hidden: bool) -> dict[str, Site]:
        """Return the sites of the model, run on such copies."""
        try:
            return self.program.model_sites(self.batch(sets, change, hidden=hidden))
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"numbers cannot be missing in data of {self.program.name}, whose model computes with the data that it "
                f"observes ({reason(error)})"
            ) from error

    def changed(self, sets: Tensor) -> dict[str, Tensor]:
        """Return True for the numbers of each site that change with the numbers of each of the sets, ``(R, ...)``."""
        unchanged, changed = torch.zeros_like(sets[:1]), dict[str, Tensor]()
        for change in CHANGES:
            for name, site in self.sites(torch.cat([unchanged, sets]), change, hidden=False).items():
                if name in self.program.structure.observed and site["value"].numel():
                    value = observed_value(self.program.structure, site)
                    other = (value[1:] != value[:1]) | torch.isnan(value[1:])
                    changed[name] = changed[name] | other if name in changed else other
        return changed

    def failing(self, sets: Tensor) -> Tensor:
        """Return True for the sets without whose numbers a distribution of the model is not known, ``(R,)``."""
        sites = self.sites(torch.cat([torch.zeros_like(sets[:1]), sets]), CHANGES[-1], hidden=True)
        structure, failing = self.program.structure, torch.zeros(len(sets), dtype=torch.bool, device=self.device)
        for site in sites.values():
            value = site["value"].expand(site["fn"].shape())
            if site["is_observed"] and value.numel():  # the density at the values that the datum has
                front = structure.value(site | {"value": value}, 1)
                value = structure.from_front(site, front[:, :1].expand(front.shape), 1).reshape(value.shape)
                log_prob = site["fn"].log_prob(value)
            else:
                log_prob = torch.where(torch.isnan(value), value, 0.0)
                log_prob = log_prob.reshape(*site["fn"].batch_shape, -1).sum(-1)
            log_prob = scale_and_mask(log_prob, mask=site["mask"])
            failing |= torch.isnan(structure.to_front(site, log_prob, 1)[0, 1:]).reshape(len(sets), -1).any(1)
        return failing


def _several(trials: _Trials, name: str, several: Tensor, parents: Tensor) -> Tensor:
    """Return what each number of a site is computed from, some of several numbers, by changing one after the other."""
    if trials.size * len(several) > MOST_PAIRS:
        raise InputError(
            f"numbers cannot be missing in data of {trials.program.name}: {len(several)} numbers of its site {name!r} "
            f"are each computed from several of {trials.size} numbers of a datum; let it observe them as they are"
        )
    singles = torch.eye(trials.size, dtype=torch.bool, device=trials.device).split(ROWS_AT_ONCE)
    changed = torch.cat([trials.changed(sets)[name].reshape(len(sets), -1)[:, several] for sets in singles])
    width = max(1, int(changed.sum(0).max()))
    wide = torch.full((len(parents), width), trials.size, device=trials.device)
    wide[:, :1] = parents
    for row, column in zip(several.tolist(), changed.T, strict=True):
        of_row = column.nonzero()[:, 0]
        wide[row, : len(of_row)] = of_row
    return wide


def _needed(trials: _Trials) -> Tensor:
    """Return True for the numbers that a distribution of the model depends on, so that they cannot be missing."""
    if not bool(trials.failing(torch.ones(1, trials.size, dtype=torch.bool, device=trials.device)).any()):
        return torch.zeros(trials.size, dtype=torch.bool, device=trials.device)
    singles = torch.eye(trials.size, dtype=torch.bool, device=trials.device).split(ROWS_AT_ONCE)
    return torch.cat([trials.failing(sets) for sets in singles])


def observed_value(structure: Any, site: Site) -> Tensor:
    """Return the data of an observed site, ``(B, ...)``."""
    return structure.value(site | {"value": site["value"].expand(site["fn"].shape())}, 1)[0]
