"""Effect handlers beside Pyro's own, which turn a program into functions of given values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask, sum_rightmost
from pyro.infer import infer_discrete
from pyro.poutine.messenger import Messenger
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import IndependentTransform, Transform, identity_transform

from ppl_vae.errors import InputError
from ppl_vae.program.partly_observed import PartlyObserved
from ppl_vae.program.totals import with_totals
from ppl_vae.program.traces import is_deterministic


class Generate(UnconditionMessenger):
    """``poutine.uncondition`` that leaves ``pyro.deterministic`` as it is; counts have the totals of the data.

    Args:
        completed: if True, numbers that were seen stay, and the missing ones are drawn given them; else all are drawn.
    """

    def __init__(self, *, completed: bool = False) -> None:
        super().__init__()
        self.completed = completed

    def _pyro_sample(self, msg: Any) -> None:
        if not is_deterministic(msg):
            super()._pyro_sample(msg)
            if msg["infer"].get("was_observed"):
                fn = msg["fn"]
                fn = fn.base if isinstance(fn, PartlyObserved) and not self.completed else fn
                msg["fn"] = with_totals(fn, msg["infer"]["obs"])


class Given(Messenger):
    """A handler that gives latent sites these values; they stay latent.

    Args:
        values: values of some of the latent sites, as Pyro lays them out.
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


class Detached(Messenger):
    """A handler that makes draws of latent sites constants without a path gradient, and marks their sites as scored.

    A point mass does not change. It is not random and has no score function: it is a function of earlier draws, as the
    latents of a derived guide are functions of its auxiliary site.
    """

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and not is_point_mass(msg["fn"]):
            msg["value"] = msg["value"].detach()
            msg["infer"]["_scored"] = True


def is_scored(site: Any) -> bool:
    """Check if a site has the gradient of the score function: its draws are detached, or not reparameterised."""
    return not site["is_observed"] and (not site["fn"].has_rsample or "_scored" in site["infer"])


def is_point_mass(fn: Any) -> bool:
    """Check if a distribution is a ``Delta``, inside any wrappers."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return isinstance(fn, dist.Delta)


def bijection(support: Any) -> Transform:
    """Return the map from unconstrained space to a support, as ``biject_to`` does; it knows supports of mixtures too.

    Raises:
        NotImplementedError: there is no such map.
    """
    if isinstance(support, constraints.independent):
        return IndependentTransform(bijection(support.base_constraint), support.reinterpreted_batch_ndims)
    if type(support).__name__ == "MixtureSameFamilyConstraint":
        components = support.base_constraint
        if any(isinstance(bound, Tensor) and bound.dim() for bound in vars(components).values()):
            raise NotImplementedError("the components' supports may differ")
        return bijection(components)
    return biject_to(support)


def is_identity(transform: Any) -> bool:
    """Check if a map from unconstrained space leaves every number as it is."""
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    return transform is identity_transform


class Unconstrained(Messenger):
    """A handler that gives latent sites unconstrained values; the log Jacobian joins the density of each site.

    The map is the ``bijection`` to the support that the site has in this run: it may depend on the latents before it.

    Args:
        points: points of some of the latent sites, as Pyro lays them out.

    Attributes:
        values: the values that the sites took.
        log_det: the log Jacobians, each of the site's batch shape.
    """

    def __init__(self, points: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.points = points
        self.values: dict[str, Tensor] = {}
        self.log_det: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.points and not msg["is_observed"]:
            transform, point = bijection(msg["fn"].support), self.points[name]
            if is_identity(transform):
                self.values[name] = msg["value"] = point
                self.log_det[name] = point.new_zeros(point.shape[: point.dim() - msg["fn"].event_dim])
                return
            self.values[name] = msg["value"] = transform(point)
            event_dims = transform.codomain.event_dim - transform.domain.event_dim
            if msg["value"].dim() != point.dim() + event_dims:
                raise InputError(
                    f"the support of the latent {name!r} depends on a discrete latent that is summed out, so that it "
                    f"cannot be annealed: estimate the evidence by iwae"
                )
            self.log_det[name] = msg["infer"]["_log_det"] = _log_det(msg["fn"], point, msg["value"])


def _log_det(fn: Any, point: Tensor, value: Tensor) -> Tensor:
    """Return the log Jacobian at a site, of its batch shape; zero where a mask within the distribution hides it."""
    if isinstance(fn, torch.distributions.Independent):
        return sum_rightmost(_log_det(fn.base_dist, point, value), fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.MaskedDistribution):
        return scale_and_mask(_log_det(fn.base_dist, point, value), mask=fn._mask)
    log_det = bijection(fn.support).log_abs_det_jacobian(point, value)
    return sum_rightmost(log_det, max(0, log_det.dim() - (value.dim() - fn.event_dim)))


class Unconstrain(Messenger):
    """A handler that records the unconstrained points of the latent sites of a run.

    Args:
        names: the names of the sites.

    Attributes:
        points: the points by name, as Pyro lays them out.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = names
        self.points: dict[str, Tensor] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            self.points[msg["name"]] = bijection(msg["fn"].support).inv(msg["value"])


class AllSampled(Exception):
    """The end of the run of a program whose sites of interest have all been sampled."""


class Until(Messenger):
    """A handler around a model that ends its run after some of its sites: what only later sites need is not computed.

    Args:
        names: the names of the sites. A run in which one of them is not sampled goes to its end.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = frozenset(names)
        self.left: set[str] = set()

    def __enter__(self) -> Any:
        self.left = set(self.names)
        return super().__enter__()

    def __exit__(self, *raised: Any) -> Any:
        super().__exit__(*raised)
        return raised[0] is AllSampled

    def _pyro_post_sample(self, msg: Any) -> None:
        self.left.discard(msg["name"])
        if not self.left:  # every handler outside has recorded the site
            raise AllSampled


def enumerated(fn: Callable[..., Any], names: Collection[str], first_available_dim: int) -> Callable[..., Any]:
    """Enumerate these discrete sites of ``fn`` in parallel, in dimensions to the left of the plates."""
    if not names:
        return fn
    return poutine.enum(_marked(fn, names), first_available_dim=first_available_dim)


def posterior_of_discrete(
    fn: Callable[..., Any], names: Collection[str], first_available_dim: int, batch: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """Draw discrete latents from their posterior, given everything else in a run of ``fn``."""
    by_index = _ByIndex(names)
    sampled = infer_discrete(_AsObserved()(_marked(by_index(fn), names)), first_available_dim=first_available_dim)
    trace = poutine.trace(sampled).get_trace(*batch)
    return {name: by_index.of(name, trace.nodes[name]["value"]) for name in names}


class _ByIndex(Messenger):
    """A handler that draws discrete vectors by their index, since ``infer_discrete`` supports no vectors."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = names
        self.values: dict[str, Tensor] = {}

    def of(self, name: str, value: Tensor) -> Tensor:
        return self.values[name][value] if name in self.values else value

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if msg["name"] in self.names and fn.event_dim:
            values = fn.enumerate_support(expand=False)
            msg["fn"] = dist.Categorical(logits=fn.log_prob(values).movedim(0, -1))
            self.values[msg["name"]] = values.reshape(len(values), *fn.event_shape)

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            msg["value"] = self.of(msg["name"], msg["value"])


class _AsObserved(Messenger):
    """A handler that makes given latents observed: ``infer_discrete`` would look for the enumeration in them."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["value"] is not None:
            msg["is_observed"] = True


def _marked(fn: Callable[..., Any], names: Collection[str]) -> Callable[..., Any]:
    return poutine.infer_config(fn, lambda site: {"enumerate": "parallel"} if site["name"] in names else {})
