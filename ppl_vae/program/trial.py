"""Trials of a program: do draws in front, and discrete values in front of these, leave its densities as they are?

A network that reshapes or normalises over a fixed dimension may fail there, or give another number without a word.
Other parameters than the initial ones are tried: where these are zero, say, much is the same by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ppl_vae.program.seeds import seeded
from ppl_vae.program.traces import Site, sample_sites, support

if TYPE_CHECKING:
    from ppl_vae.program.program import Batch, Program


@torch.no_grad()
def draws_agree(program: Program, batch: Batch) -> bool:
    """Whether log p and log q of two draws under an outer plate are those of twice the data."""
    structure = program.structure(batch)
    few = _few(batch)
    twice = tuple(torch.cat([tensor, tensor]) for tensor in few)
    with _elsewhere(program, batch):
        try:
            if program.guide is None:
                sites = dict(sample_sites(program.run(program.model, few, 2)))
                sites = {name: sites[name] for name in structure.latents if name not in structure.summed}
                drawn = {name: site["value"] for name, site in sites.items()}
                guide, model = None, program.run(program.model, few, 2, drawn, summed=structure.summed)
            else:
                guide, model = program.traces(few, 2)
                sites = dict(sample_sites(guide))
            values = {name: structure.folded(site) for name, site in sites.items()}
            pairs = [(model, program.run(program.model, twice, 1, values, summed=structure.summed))]
            if guide is not None and program.guide is not None:
                pairs.append((guide, program.run(program.guide, twice, 1, values)))
            return all(
                _close(structure.log_density(by_plate, 2).flatten(), structure.log_density(folded, 1).flatten())
                for by_plate, folded in pairs
            )
        except Exception:  # whatever a network says of a dimension that it did not expect
            return False


@torch.no_grad()
def sums_agree(program: Program, batch: Batch, names: Collection[str]) -> bool:
    """Whether log p and log q with a discrete latent enumerated are those of its values one by one."""
    structure, few = program.structure(batch), _few(batch)
    with _elsewhere(program, batch):
        try:
            sites = dict(sample_sites(program.run(program.model, few)))
            values = {name: sites[name]["value"] for name in structure.latents}
            return all(
                _agrees(program, fn, few, name, {k: v for k, v in values.items() if k != name}, sites[name])
                for name in names
                for fn in (program.model, program.guide)
                if fn is not None
            )
        except Exception:
            return False


def _agrees(
    program: Program, fn: Callable[..., Any], few: Batch, name: str, others: Mapping[str, Tensor], site: Site
) -> bool:
    """Every other site's log density, at every value of a discrete latent, is what it is with that value given."""
    structure = program.structure(few)
    values = support(site)
    trace = program.run(fn, few, 1, others, summed=(name,))
    sites = dict(sample_sites(trace))
    if name not in sites or values is None:
        return True
    dim = sites[name]["infer"]["_enumerate_dim"]
    for index, value in enumerate(values):
        given = dict(sample_sites(program.run(fn, few, 1, {**others, name: value.expand_as(site["value"])})))
        for other, its_site in sites.items():
            if other == name:
                continue
            at_once = structure.site_log_prob(its_site)
            if at_once.dim() >= -dim:
                at_once = at_once.select(dim, index if at_once.shape[dim] > 1 else 0)
            if not _close(at_once, structure.site_log_prob(given[other])):
                return False
    return True


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def _few(batch: Batch) -> Batch:
    return tuple(tensor[:3] for tensor in batch)


@contextmanager
def _elsewhere(program: Program, batch: Batch) -> Iterator[None]:
    """Parameters and running statistics moved by a little noise, and back."""
    fixed = nullcontext() if program.global_posterior is None else program.global_posterior.at_mean()
    with seeded(0), program.scope(training=False), fixed:
        statistics = [b for n, b in program.module.named_buffers() if n.endswith(("running_mean", "running_var"))]
        moved = [tensor.detach() for tensor in (*program.parameters(batch).values(), *statistics)]
        before = [tensor.clone() for tensor in moved]
        for tensor in moved:
            tensor.add_(0.2 * torch.rand_like(tensor))
        try:
            yield
        finally:
            for tensor, value in zip(moved, before, strict=True):
                tensor.copy_(value)
