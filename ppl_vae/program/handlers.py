"""The effect handlers that are not Pyro's own: what turns a program into functions of given values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pyro import poutine
from pyro.infer import infer_discrete
from pyro.poutine.messenger import Messenger
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from torch import Tensor
from torch.distributions import biject_to

from ppl_vae.program.traces import is_deterministic


class Generate(UnconditionMessenger):
    """``poutine.uncondition`` that leaves ``pyro.deterministic`` as it is."""

    def _pyro_sample(self, msg: Any) -> None:
        if not is_deterministic(msg):
            super()._pyro_sample(msg)


class Given(Messenger):
    """Latent sites take these values; they stay latent.

    Args:
        values: of some of the latent sites, as Pyro lays them out.
        log_det: log Jacobians to add to their densities, from ``Unconstrained``.
    """

    def __init__(self, values: Mapping[str, Tensor], log_det: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.values, self.log_det = values, log_det or {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]  # and not "done": the enumeration must see it
            if msg["name"] in self.log_det:
                msg["infer"]["_log_det"] = self.log_det[msg["name"]]


class Unconstrained(Messenger):
    """Latent sites take values given in unconstrained space, whose log Jacobian joins the site's density.

    The map is ``torch.distributions.biject_to`` of the support that the site has in this run: it may depend on the
    latents before it.

    Args:
        points: of some of the latent sites, as Pyro lays them out.

    Attributes:
        values: what the sites took.
        log_det: log Jacobians, of each site's batch shape.
    """

    def __init__(self, points: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.points = points
        self.values: dict[str, Tensor] = {}
        self.log_det: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.points and not msg["is_observed"]:
            transform, point = biject_to(msg["fn"].support), self.points[name]
            value = transform(point)
            log_det = transform.log_abs_det_jacobian(point, value)
            surplus = log_det.dim() - (value.dim() - msg["fn"].event_dim)
            self.log_det[name] = log_det.flatten(-surplus).sum(-1) if surplus > 0 else log_det
            self.values[name] = value
            msg["value"] = value
            msg["infer"]["_log_det"] = self.log_det[name]


class Unconstrain(Messenger):
    """Notes where the latent sites of a run lie in unconstrained space.

    Args:
        names: of the sites.

    Attributes:
        points: as Pyro lays them out, by name.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = names
        self.points: dict[str, Tensor] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            self.points[msg["name"]] = biject_to(msg["fn"].support).inv(msg["value"])


def enumerated(fn: Callable[..., Any], names: Collection[str], first_available_dim: int) -> Callable[..., Any]:
    """``fn`` with these discrete sites enumerated in parallel, in dimensions to the left of the plates'."""
    if not names:
        return fn
    return poutine.enum(_marked(fn, names), first_available_dim=first_available_dim)


def posterior_of_discrete(
    fn: Callable[..., Any], names: Collection[str], first_available_dim: int, batch: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """Draws of discrete latents from their posterior, given everything else in a run of ``fn``."""
    sampled = infer_discrete(_marked(fn, names), first_available_dim=first_available_dim)
    trace = poutine.trace(sampled).get_trace(*batch)
    return {name: trace.nodes[name]["value"] for name in names}


def _marked(fn: Callable[..., Any], names: Collection[str]) -> Callable[..., Any]:
    return poutine.infer_config(fn, lambda site: {"enumerate": "parallel"} if site["name"] in names else {})
