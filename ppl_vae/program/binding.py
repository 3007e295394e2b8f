"""Runs of a model or a guide with several draws, and the structure that runs on a few data show.

Two trials show how a program can be run. They check that its densities do not change if draws, or discrete values, lie
in leading dimensions: a network that reshapes or normalises over a fixed dimension may fail then, or silently give
another number. The parameters are moved away from their initial values, since zeros, for example, can hide a
difference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.program.global_posterior import DRAWS, DRAWS_OF_LOCALS, AtMean, GuidedLatents, SharedDraws
from ppl_vae.program.handlers import Given, enumerated
from ppl_vae.program.runner import Batch, Runner
from ppl_vae.program.traces import Site, Structure, can_enumerate, read_plates, sample_sites, support


def run(
    structure: Structure,
    fn: Callable[..., Any],
    batch: Batch,
    num_samples: int = 1,
    values: Mapping[str, Tensor] | None = None,
    *,
    summed: Collection[str] = (),
) -> poutine.Trace:
    """Trace the model or the guide with ``K`` draws; some latents are given, some discrete ones are enumerated."""
    outer, repeated = with_draws(structure, batch, num_samples)
    fn = enumerated(Given(values or {})(outer(fn)), summed, -2 - structure.plate_nesting)
    return poutine.trace(fn).get_trace(*repeated)


def with_draws(structure: Structure, batch: Batch, num_samples: int) -> tuple[Callable[..., Any], Batch]:
    """Return what takes ``K`` draws at once: a handler that adds the outer plate, or a batch repeated ``K`` times."""
    if num_samples == 1:
        return (lambda fn: fn), batch
    if structure.draws_by == "repeat":
        return (lambda fn: fn), tuple(t.repeat(num_samples, *[1] * (t.dim() - 1)) for t in batch)
    name = DRAWS if structure.shared_by == "draws" else DRAWS_OF_LOCALS
    return pyro.plate(name, num_samples, dim=-1 - structure.plate_nesting), batch


def empty_guide(*batch: Tensor) -> None:
    """Sample nothing: the guide of a model without latents."""


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
            guided = set(sample_sites(poutine.trace(program.guide).get_trace(*template)))
        summed = tuple(name for name in discrete if name not in guided)
        structure = structure._replace(summed=summed)
        if program.global_posterior is not None and not shared_draws_agree(program, structure, template):
            structure = structure._replace(shared_by="runs")
        if structure.latents and not draws_agree(program, structure, template):
            structure = structure._replace(draws_by="repeat", shared_by="runs")
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


@torch.no_grad()
def draws_agree(program: Runner, structure: Structure, batch: Batch) -> bool:
    """Check if log p and log q of two draws under an outer plate equal those of the data repeated twice."""
    few = _first_rows(batch)
    twice = tuple(torch.cat([tensor, tensor]) for tensor in few)
    same = AtMean() if structure.shared_by == "draws" else SharedDraws(program.global_posterior)
    with _at_other_parameters(program), same:
        try:
            drawn = run(structure, program.model if program.guide is None else program.guide, few, 2)
            sites = {name: site for name, site in sample_sites(drawn).items() if not site["is_observed"]}
            if program.guide is None:
                sites = {name: sites[name] for name in structure.latents if name not in structure.summed}
            by_plate = {name: site["value"] for name, site in sites.items()}
            folded = {name: structure.folded(site) for name, site in sites.items()}
            pairs = [
                tuple(
                    run(structure, program.model, data, num_samples, values, summed=structure.summed)
                    for data, num_samples, values in ((few, 2, by_plate), (twice, 1, folded))
                )
            ]
            if program.guide is not None:
                pairs.append((drawn, run(structure, program.guide, twice, 1, folded)))
            return all(
                _close(structure.log_density(two, 2).flatten(), structure.log_density(one, 1).flatten())
                for two, one in pairs
            )
        except Exception:  # any error that a network raises on an unexpected dimension
            return False


@torch.no_grad()
def shared_draws_agree(program: Runner, structure: Structure, batch: Batch) -> bool:
    """Check if log p of one run with two draws of the global latents equals that of two runs with one of them each.

    The model may compute with a global latent as with one vector or matrix. With several draws it may then fail, or
    broadcast silently to other numbers.
    """
    posterior, few = program.global_posterior, _first_rows(batch)
    if posterior is None or isinstance(posterior, GuidedLatents) or program.shared_factors is not None:
        return False  # a factor of these latents would be summed over their draws
    with _at_other_parameters(program):
        try:
            with SharedDraws(posterior) as drawn:
                both = run(structure, program.model, few, 2)
            log_p, two = structure.log_density(both, 2), sample_sites(both)
            with SharedDraws(posterior) as shown:
                one = sample_sites(run(structure, program.model, few))
            for k in range(2):
                values = {n: two[n]["value"][k].reshape(one[n]["value"].shape) for n in structure.latents}
                with SharedDraws(posterior) as single:
                    single.values |= {n: value[k].reshape(shown.values[n].shape) for n, value in drawn.values.items()}
                    its_own = structure.log_density(run(structure, program.model, few, 1, values), 1)[0]
                if not _close(log_p[k], its_own):
                    return False
            return True
        except Exception:  # any error that the model raises on an unexpected dimension
            return False


@torch.no_grad()
def sums_agree(program: Runner, structure: Structure, batch: Batch, names: Collection[str]) -> bool:
    """Check if log p and log q with these discrete latents enumerated equal those of their values one by one."""
    few = _first_rows(batch)
    with _at_other_parameters(program), SharedDraws(program.global_posterior):
        try:
            sites = sample_sites(run(structure, program.model, few))
            others = {name: sites[name]["value"] for name in structure.latents if name not in names}
            return all(
                _agrees(structure, fn, few, others, {name: sites[name] for name in names})
                for fn in (program.model, program.guide)
                if fn is not None
            )
        except Exception:
            return False


def _agrees(
    structure: Structure, fn: Callable[..., Any], few: Batch, others: Mapping[str, Tensor], discrete: Mapping[str, Site]
) -> bool:
    """Check if enumerated log densities equal those with the discrete latents given, at some of their values.

    Each latent takes each of its values once, in a random order that is independent of the other latents.
    """
    supports = {name: listed for name, site in discrete.items() if (listed := support(site)) is not None}
    trace = run(structure, fn, few, 1, others, summed=tuple(discrete))
    trace.symbolize_dims()
    sites = sample_sites(trace)
    symbols = {site["infer"]["_enumerate_symbol"]: n for n, site in sites.items() if "_enumerate_dim" in site["infer"]}
    if not symbols:
        return True
    orders = {name: torch.randperm(len(values)).tolist() for name, values in supports.items()}
    for trial in range(max(map(len, orders.values()))):
        chosen = {name: order[trial % len(order)] for name, order in orders.items()}
        values = {name: supports[name][index].expand_as(discrete[name]["value"]) for name, index in chosen.items()}
        given = sample_sites(run(structure, fn, few, 1, {**others, **values}))
        for name, site in sites.items():
            at_once = scale_and_mask(structure.site_log_prob(site), mask=site["mask"])  # of a summed one too
            for dim, symbol in site["infer"]["_dim_to_symbol"].items():
                if symbol in symbols and at_once.dim() >= -dim:
                    size = at_once.shape[dim]
                    at_once = at_once.narrow(dim, chosen[symbols[symbol]] if size > 1 else 0, 1)
            its_own = structure.site_log_prob(given[name])
            if not _close(at_once.reshape(at_once.shape[max(0, at_once.dim() - its_own.dim()) :]), its_own):
                return False
    return True


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def _first_rows(batch: Batch) -> Batch:
    return tuple(tensor[:3] for tensor in batch)


@contextmanager
def _at_other_parameters(program: Runner) -> Iterator[None]:
    """Move parameters and running statistics by a little noise, and back after the block."""
    with program.running(seed=0, training=False):
        statistics = [b for n, b in program.module.named_buffers() if n.endswith(("running_mean", "running_var"))]
        moved = [tensor.detach() for tensor in (*program.parameters().values(), *statistics)]
        before = [tensor.clone() for tensor in moved]
        for tensor in moved:
            tensor.add_(0.2 * torch.rand_like(tensor))
        try:
            yield
        finally:
            for tensor, value in zip(moved, before, strict=True):
                tensor.copy_(value)
