"""The evidence of a datum in plain Pyro: one datum and one draw at a time, without any handler of the package."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor

Function = Callable[..., Any]
Sites = dict[str, Any]


class Estimates(NamedTuple):
    """Estimates from draws of the guide, ``(N,)`` each, nats per datum."""

    evidence: Tensor
    r""":math:`\log \frac1K \sum_k w_k`, discrete latents with finitely many values summed out of p and of q."""
    elbo: Tensor
    r""":math:`\frac1K \sum_k \log w_k`, only those summed out that the guide leaves out."""


def estimate(
    model: Function, guide: Function | None, batch: Mapping[str, Tensor], latents: Mapping[str, np.ndarray]
) -> Estimates:
    """Return the evidence and the ELBO of every datum at given draws.

    Factors count as densities, as they do in ``pyro.infer.Trace_ELBO``.

    Args:
        model: the model.
        guide: the guide; None if nothing is drawn.
        batch: the data by the names of the arguments of the model; the guide takes the same.
        latents: draws of the guide by site, ``(K, N, ...)``.
    """
    estimates = []
    for row in range(len(next(iter(batch.values())))):
        datum = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        guided = {} if guide is None else sample_sites(poutine.trace(guide).get_trace(**datum))
        drawn = {name: torch.as_tensor(latents[name][:, row]) for name, site in guided.items() if not is_factor(site)}
        discrete = [name for name in drawn if guided[name]["fn"].has_enumerate_support]
        log_weights = []
        for summed in (discrete, []):
            kept = {name: draws for name, draws in drawn.items() if name not in summed}
            log_p = log_density(model, datum, kept)
            log_weights.append(log_p if guide is None else log_p - log_density(guide, datum, kept))
        collapsed, terms = log_weights
        estimates.append((collapsed.logsumexp(0) - math.log(len(collapsed)), terms.mean()))
    return Estimates(*(torch.stack(values) for values in zip(*estimates, strict=True)))


@torch.no_grad()
def log_density(fn: Function, datum: Mapping[str, Tensor], drawn: Mapping[str, Tensor]) -> Tensor:
    """Return the log densities of a function's sites at ``K`` draws, one after the other: ``(K,)``.

    Discrete latents that are not drawn are summed over all their values.
    """
    with pyro.validation_enabled(False):
        sites = sample_sites(poutine.trace(fn).get_trace(**datum))
        latents = {name: site for name, site in sites.items() if not site["is_observed"]}
        summed = [name for name in latents if name not in drawn]
        supports = [values_of(latents[name]) for name in summed]
        log_densities = []
        for k in range(max([len(draws) for draws in drawn.values()], default=1)):
            given = {name: draws[k].reshape(sites[name]["value"].shape) for name, draws in drawn.items()}
            terms = []
            for values in itertools.product(*supports):
                data = given | dict(zip(summed, values, strict=True))
                terms.append(unscaled(poutine.trace(poutine.condition(fn, data=data)).get_trace(**datum)))
            log_densities.append(torch.stack(terms).logsumexp(0))
    return torch.stack(log_densities)


def is_factor(site: Any) -> bool:
    """Return True for ``pyro.factor``, which draws and observes nothing."""
    return site["is_observed"] and not site["value"].numel()


def values_of(site: Any) -> list[Tensor]:
    """Return all values of a discrete site, of each combination of its elements; masked elements have one value."""
    fn = site["fn"]
    mask = torch.as_tensor(True if site["mask"] is None else site["mask"]).expand(fn.batch_shape).flatten()
    support = fn.enumerate_support(expand=False).reshape(-1, *fn.event_shape)
    choices = (support if counts else support[:1] for counts in mask.tolist())
    return [torch.stack(values).reshape(fn.batch_shape + fn.event_shape) for values in itertools.product(*choices)]


def unscaled(trace: poutine.Trace) -> Tensor:
    """Return the sum of the log densities of all sites; a site's scale is no part of its density."""
    sites = sample_sites(trace)
    for site in sites.values():
        site["scale"] = 1.0
    trace.compute_log_prob()
    return sum((site["log_prob"].sum().double() for site in sites.values()), torch.zeros((), dtype=torch.double))


def sample_sites(trace: poutine.Trace) -> Sites:
    """Return the sample sites of a trace, but for the indices of plates."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
    }
