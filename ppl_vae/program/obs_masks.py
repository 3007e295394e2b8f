"""Sites that are observed in part, ``pyro.sample(..., obs=y, obs_mask=seen)``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import wraps
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae.program.handlers import Given
from ppl_vae.program.runner import Batch, Runner
from ppl_vae.program.traces import is_deterministic, sample_sites

SEEN, UNSEEN = "_observed", "_unobserved"
"""What Pyro adds to the name of a site for the part that is observed, and for the latent in place of the other part."""


def with_obs_masks(program: Runner, batch: Batch) -> Runner:
    r"""Return a program whose sites with an ``obs_mask`` are observed, under their own names, where the mask is True.

    Pyro makes a latent of the other part. If nothing else depends on it, its integral is one:

    .. math:: p(y_{\mathrm{seen}}, z) = \int p(y_{\mathrm{seen}}, y_{\mathrm{unseen}}, z)\, dy_{\mathrm{unseen}}

    so that the site equals ``poutine.mask(mask=seen)`` around ``pyro.sample(..., obs=y)``. A latent that other sites
    depend on, or that the guide samples, stays as Pyro makes it.

    Args:
        program: the parts of the program.
        batch: some data.
    """
    with torch.no_grad(), program.running(seed="current", training=False), pyro.validation_enabled(False):
        try:
            trace = poutine.trace(program.model).get_trace(*batch)
            guided = poutine.trace(program.guide).get_trace(*batch) if program.guide is not None else poutine.Trace()
        except Exception:  # the check reports it, with a better message
            return program
        names = [name.removesuffix(UNSEEN) for name, site in sample_sites(trace).items() if not site["is_observed"]]
        names = [n for n in names if {n + SEEN, n} <= trace.nodes.keys() and n + UNSEEN not in guided.nodes]
        values = {name: site["value"] for name, site in sample_sites(trace).items() if not site["is_observed"]}
        names = [name for name in names if not _is_used(program.model, batch, values, name)]
    if not names:
        return program
    guide = None if program.guide is None else _observed_in_part(program.guide, names)
    return replace(program, model=_observed_in_part(program.model, names), guide=guide)


def _is_used(model: Callable[..., Any], batch: Batch, values: dict[str, Tensor], name: str) -> bool:
    """Check if another site depends on what ``pyro.sample`` returns for a site with an ``obs_mask``."""
    try:
        with Given(values), _Spoiled(name):
            sites = sample_sites(poutine.trace(model).get_trace(*batch))
        others = [site for other, site in sites.items() if other not in (name + SEEN, name + UNSEEN)]
        return any(bool(torch.isnan(site["fn"].log_prob(site["value"])).any()) for site in others)
    except Exception:  # NaN cannot stand in its place, or something fails on it
        return True


class _Spoiled(Messenger):
    """A handler that returns NaN for a site with an ``obs_mask``."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == self.name and is_deterministic(msg):
            msg["value"] = torch.full_like(msg["value"], torch.nan)


class _ObservedInPart(Messenger):
    """A handler that hides the latents of sites with an ``obs_mask``, and gives the sites their own names."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = names
        self.seen: dict[str, Tensor | None] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name.endswith(UNSEEN) and name.removesuffix(UNSEEN) in self.names:
            msg["stop"] = True
            if (value := self.seen[name.removesuffix(UNSEEN)]) is not None:
                msg["value"] = value.expand(msg["fn"].shape())  # which nothing depends on, so that no number is drawn
        elif name.endswith(SEEN) and name.removesuffix(SEEN) in self.names:
            msg["name"] = name.removesuffix(SEEN)
            self.seen[msg["name"]] = msg["value"]
        elif name in self.names and is_deterministic(msg):
            msg["stop"] = True


def _observed_in_part(function: Callable[..., Any], names: Collection[str]) -> Callable[..., Any]:
    @wraps(function, assigned=(), updated=())
    def observed_in_part(*batch: Tensor) -> Any:
        with _ObservedInPart(names):
            return function(*batch)

    return observed_in_part
