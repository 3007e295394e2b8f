"""The evidence of a datum in plain Pyro: one datum and one draw at a time, without any handler of the package."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor

Function = Callable[..., Any]
Sites = dict[str, Any]


def log_evidence(
    model: Function, guide: Function | None, batch: Mapping[str, Tensor], latents: Mapping[str, np.ndarray]
) -> Tensor:
    r"""Return :math:`\log \frac1K \sum_k p(x, z_k) / q(z_k \mid x)` of every datum at given draws, ``(N,)``.

    Discrete latents with finitely many values are summed out of both densities. Factors in the guide belong to the
    objective and to no density.

    Args:
        model: the model.
        guide: the guide; None if nothing is drawn.
        batch: the data by the names of the arguments of the model; the guide takes the same.
        latents: draws of the guide by site, ``(K, N, ...)``.
    """
    num_data = len(next(iter(batch.values())))
    values = []
    for row in range(num_data):
        datum = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        drawn = {name: torch.as_tensor(draws[:, row]) for name, draws in latents.items()}
        log_weights = log_density(model, datum, drawn)
        if guide is not None:
            log_weights = log_weights - log_density(guide, datum, drawn, with_factors=False)
        values.append(log_weights.logsumexp(0) - math.log(len(log_weights)))
    return torch.stack(values)


@torch.no_grad()
def log_density(
    fn: Function, datum: Mapping[str, Tensor], drawn: Mapping[str, Tensor], *, with_factors: bool = True
) -> Tensor:
    """Return the log densities of a function's sites at ``K`` draws of its latents, one after the other: ``(K,)``."""
    with pyro.validation_enabled(False):
        sites = sample_sites(poutine.trace(fn).get_trace(**datum))
        latents = {name: site for name, site in sites.items() if not site["is_observed"]}
        summed = [name for name, site in latents.items() if site["fn"].has_enumerate_support]
        supports = [values_of(latents[name]) for name in summed]
        shapes = {name: site["value"].shape for name, site in latents.items() if name not in summed}
        left_out = () if with_factors else [name for name, site in sites.items() if not site["value"].numel()]
        log_densities = []
        for k in range(max([len(draws) for draws in drawn.values()], default=1)):
            given = {name: drawn[name][k].reshape(shape) for name, shape in shapes.items()}
            terms = []
            for values in itertools.product(*supports):
                data = given | dict(zip(summed, values, strict=True))
                terms.append(unscaled(poutine.trace(poutine.condition(fn, data=data)).get_trace(**datum), left_out))
            log_densities.append(torch.stack(terms).logsumexp(0))
    return torch.stack(log_densities)


def values_of(site: Any) -> Tensor:
    """Return all values of a discrete site; one of them stands for all if the site is masked."""
    support = site["fn"].enumerate_support(expand=True)
    return support if site["mask"] is None or bool(torch.as_tensor(site["mask"]).any()) else support[:1]


def unscaled(trace: poutine.Trace, left_out: Collection[str] = ()) -> Tensor:
    """Return the sum of the log densities of sites; a site's scale is no part of its density."""
    sites = sample_sites(trace)
    for site in sites.values():
        site["scale"] = 1.0
    trace.compute_log_prob()
    terms: Iterable[Tensor] = (site["log_prob"].sum() for name, site in sites.items() if name not in left_out)
    return sum((term.double() for term in terms), torch.zeros((), dtype=torch.double))


def sample_sites(trace: poutine.Trace) -> Sites:
    """Return the sample sites of a trace, but for the indices of plates."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
    }
