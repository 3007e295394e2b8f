"""The continuous latents of a datum as one vector of unconstrained numbers, and its density."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from math import prod
from typing import Any, Literal, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions.util import sum_rightmost
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.networks.chains import GaussianChain
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.densities import slope_only
from ppl_vae.program.handlers import Given, Unconstrain, Unconstrained, Until, bijection
from ppl_vae.program.moments import moments
from ppl_vae.program.runner import Batch
from ppl_vae.program.supports import is_discrete
from ppl_vae.program.traces import Site, Structure, sample_sites

Start = Literal["prior", "guide"]
"""The start of a path to the posterior."""


class LatentSpace:
    r"""The latents of a datum as :math:`u \in \mathbb R^D`, where :math:`z = T(u)`.

    .. math:: \log p(x, u) = \log p(x, T(u)) + \log |\det T'(u)|

    :math:`T` maps unconstrained space to the support of each latent (``torch.distributions.biject_to``). Discrete
    latents are summed out. Masked latents, such as those past the end of a sequence, have a standard Gaussian instead
    of their density, so that :math:`\int p(x, u)\,du = p(x)`. Scales do not count.

    Args:
        program: the program.
        otherwise: the remedy to name in the message if there is no such space.

    Attributes:
        names: the names of the latent sites, in the order of the vector.
        size: the length ``D`` of the vector.

    Raises:
        InputError: there is no continuous latent; a discrete one cannot be summed out; nothing maps unconstrained space
            to a latent's support.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 4)
        >>> space = LatentSpace(Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,)))
        >>> space.size, space.log_joint((x,), torch.zeros(5, 3, 2)).shape
        (2, torch.Size([5, 3]))
        >>> loc, scale = space.start((x,))
        >>> loc.shape, scale[0].tolist()
        (torch.Size([3, 2]), [1.0, 1.0])
    """

    def __init__(
        self, program: BoundProgram, *, otherwise: str = "sample it in a guide, and fit with --guide amortized"
    ) -> None:
        self.program, self.structure, self.otherwise = program, program.structure, otherwise
        structure = program.structure
        self.names = tuple(name for name in structure.latents if name not in structure.discrete)
        if not self.names:
            raise InputError(f"{program.name} has no continuous latent: {otherwise}")
        sites = program.model_sites(training=None)
        for name in self.names:
            self._check(name, sites[name])
        with torch.no_grad():
            self.layout = tuple(_layout(structure, sites[name]) for name in self.names)
        self.size = sum(prod(place.per_datum) for place in self.layout)

    def _check(self, name: str, site: Site) -> None:
        if is_discrete(site["fn"]):
            raise InputError(
                f"the latent {name!r} of {self.program.name} is discrete and cannot be summed out, and only continuous "
                f"latents can be moved: {self.otherwise}"
            )
        try:
            bijection(site["fn"].support)
        except NotImplementedError as error:
            raise InputError(
                f"the latent {name!r} of {self.program.name} cannot be moved: nothing maps unconstrained space to the "
                f"support of its {type(site['fn']).__name__}; {self.otherwise}"
            ) from error

    # ------------------------------------------------------------------------------------------ densities

    def log_joint(self, batch: Batch, u: Tensor, *, slope: bool = False) -> Tensor:
        """Return log p(x, u) at points ``(K, B, D)``: ``(K, B)``, nats, differentiable in u and in the parameters.

        If ``slope`` is True, only the gradient has to be right, which is faster.
        """
        with self.program.running(), slope_only() if slope else nullcontext():
            return self._densities(batch, u)[0]

    def log_densities(self, batch: Batch, u: Tensor, origin: Start) -> tuple[Tensor, Tensor]:
        """Return log densities of prior or guide, and of p(x, u), at points ``(K, B, D)``: each ``(K, B)``, nats."""
        with self.program.running():
            structure, num_samples = self.structure, len(u)
            log_target, trace, moved, filled = self._densities(batch, u)
            if origin == "prior":
                return structure.log_density(trace, num_samples, leave_out=structure.observed) + filled, log_target
            with Given(moved.values, moved.log_det):
                trace = self.program.guide_trace(batch, num_samples, summed=structure.collapsed)
            return structure.log_density(trace, num_samples) + filled, log_target

    def _densities(self, batch: Batch, u: Tensor) -> tuple[Tensor, Any, Unconstrained, Tensor]:
        structure, num_samples = self.structure, len(u)
        points = self.laid_out(batch, u)
        with Unconstrained(points) as moved:
            trace = self.program.run(self.program.model, batch, num_samples, summed=structure.discrete)
        sites: dict[str, Any] = dict(trace.nodes)
        if missing := [name for name in self.names if name not in sites]:
            raise InputError(
                f"the latent {missing[0]!r} of {self.program.name} is in some batches and not in others: loop over a "
                f"fixed range, and mask what lies past the end of a sequence"
            )
        filled = torch.zeros((), dtype=u.dtype, device=u.device)
        for place in self.layout:
            if (term := fill(sites[place.name], points[place.name], place.event_dim)) is not None:
                term = structure.to_front(place.site, term, num_samples)
                filled = filled + term.reshape(*term.shape[:2], -1).sum(-1)
        return structure.log_density(trace, num_samples) + filled, trace, moved, filled

    # ------------------------------------------------------------------------------------------ points and values

    def laid_out(self, batch: Batch, u: Tensor) -> dict[str, Tensor]:
        """Split points ``(K, B, D)`` by site, still unconstrained, as Pyro lays them out."""
        points = {}
        for place, part in zip(self.layout, u.split([prod(place.per_datum) for place in self.layout], -1), strict=True):
            part = part.reshape(*part.shape[:2], *place.per_datum)
            points[place.name] = self._in_pyro_layout(place, part, place.point_dim)
        return points

    @torch.no_grad()
    def points(self, batch: Batch, values: Mapping[str, Tensor], num_samples: int) -> Tensor:
        """Return the points ``(K, B, D)`` of values as Pyro lays them out; latents that are not given are drawn.

        Masked numbers, whose values have no meaning, are drawn from the standard Gaussian.
        """
        with self.program.running(), Unconstrain(self.names) as recorded:
            latents_alone = Until(self.names)(self.program.model)
            sites: dict[str, Any] = dict(self.program.run(latents_alone, batch, num_samples, values).nodes)
            for place in self.layout:
                point = recorded.points[place.name]
                if (hidden := hidden_part(sites[place.name], point, place.event_dim)) is not None:
                    recorded.points[place.name] = torch.where(hidden, torch.randn_like(point), point)
            return self._joined(recorded.points, num_samples)

    @torch.no_grad()
    def flat(self, batch: Batch, latents: Mapping[str, Tensor]) -> Tensor:
        """Return latents by name, ``(K, B, ...)`` as in ``Draws``, as points ``(K, B, D)``."""
        values = {w.name: self._in_pyro_layout(w, latents[w.name], w.site["value"].dim()) for w in self.layout}
        return self.points(batch, values, len(latents[self.names[0]]))

    @torch.no_grad()
    def values(self, batch: Batch, u: Tensor) -> dict[str, Tensor]:
        """Return points ``(K, B, D)`` as latents by name, ``(K, B, ...)``: the inverse of ``flat``."""
        structure, num_samples = self.structure, len(u)
        with self.program.running(), Unconstrained(self.laid_out(batch, u)):
            trace = self.program.run(self.program.model, batch, num_samples, summed=structure.discrete)
            sites = sample_sites(trace)
            return {name: structure.value(sites[name], num_samples) for name in self.names}

    def _in_pyro_layout(self, place: _Layout, tensor: Tensor, one_draw_dim: int) -> Tensor:
        """Lay ``(K, B, ...)`` out as Pyro does; one draw has ``one_draw_dim`` dimensions and none for the draws."""
        structure, num_samples = self.structure, len(tensor)
        tensor = structure.from_front(place.site, tensor, num_samples)
        if num_samples == 1 or structure.draws_by == "repeat":
            tensor = tensor.reshape(tensor.shape[tensor.dim() - one_draw_dim :])
        return tensor

    def start(self, batch: Batch, guide: Callable[..., Any] | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the prior, or of a guide, in unconstrained space, each ``(B, D)``.

        They are exact for Gaussians and their transforms, such as a LogNormal. Otherwise the mean of the
        distribution is mapped to unconstrained space, and the standard deviation follows by the delta method, or is
        one if it is not known. Latents that depend on others are computed at these means; nothing is random. The
        result is differentiable in the parameters.
        """
        program, structure = self.program, self.structure
        with program.running():
            with _Centred(self.names, structure.plate_nesting) as recorded:
                program.run(guide or program.model, batch, summed=structure.discrete)
            if missing := [name for name in self.names if name not in recorded.loc]:
                raise InputError(f"the guide of {program.name} does not sample {missing[0]!r}: sample it there too")
            loc, scale = (self._joined(points, 1)[0] for points in (recorded.loc, recorded.scale))
            return loc, scale

    def _joined(self, points: Mapping[str, Tensor], num_samples: int) -> Tensor:
        structure, parts = self.structure, []
        for place in self.layout:
            part = structure.to_front(place.site, points[place.name], num_samples, place.event_dim)
            parts.append(part.reshape(*part.shape[:2], -1))
        return torch.cat(parts, -1)


class _Layout(NamedTuple):
    """The place of a latent's point in Pyro's layout and in the vector of a datum."""

    name: str
    site: Site
    """The site in one run of the model with a single draw."""
    point_dim: int
    """The number of dimensions of the point in that run."""
    event_dim: int
    """The number of event dimensions of the point."""
    per_datum: torch.Size


def _layout(structure: Structure, site: Site) -> _Layout:
    point = bijection(site["fn"].support).inv(site["value"])
    event_dim = point.dim() - len(site["fn"].batch_shape)
    per_datum = structure.to_front(site, point, 1, event_dim).shape[2:]
    return _Layout(site["name"], site, point.dim(), event_dim, per_datum)


def fill(site: Site, point: Tensor, event_dim: int) -> Tensor | None:
    """Return the standard Gaussian log density of a latent's masked part, of batch shape; None without a mask."""
    if (hidden := hidden_part(site, point, event_dim)) is None:
        return None
    return sum_rightmost(torch.where(hidden, -0.5 * point.square() - 0.5 * math.log(2 * math.pi), 0.0), event_dim)


def hidden_part(site: Site, point: Tensor, event_dim: int) -> Tensor | None:
    """Return True for the masked numbers of a latent's point, to broadcast with the point; None without a mask."""
    fn, mask, hidden = site["fn"], site["mask"], None
    if mask is not None and mask is not True:
        hidden = _no_event(mask, point, event_dim)
    while hasattr(fn, "base_dist"):
        if isinstance(fn, torch.distributions.Independent):
            event_dim -= fn.reinterpreted_batch_ndims
        elif isinstance(fn, dist.MaskedDistribution):
            own = _no_event(fn._mask, point, event_dim)
            hidden = own if hidden is None else hidden | own
        fn = fn.base_dist
    if isinstance(fn, GaussianChain) and fn.within is not None:
        past = ~fn.within[..., None]
        hidden = past if hidden is None else hidden | past
    return hidden


def _no_event(mask: Any, point: Tensor, event_dim: int) -> Tensor:
    hidden = ~torch.as_tensor(mask, device=point.device)
    return hidden.reshape(hidden.shape + (1,) * event_dim)


class _Centred(Messenger):
    """A handler that puts latent sites at their mean in unconstrained space, and records ``loc`` and ``scale``."""

    def __init__(self, names: tuple[str, ...], plate_nesting: int) -> None:
        super().__init__()
        self.names, self.plate_nesting = names, plate_nesting
        self.loc: dict[str, Tensor] = {}
        self.scale: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.names and not msg["is_observed"]:
            loc, scale = moments(msg["fn"])
            for _ in range(len(msg["fn"].batch_shape) - self.plate_nesting):  # values of a discrete latent
                between = (loc - loc.mean(0)).square()
                loc, scale = loc.mean(0), (scale.square() + between).mean(0).sqrt()
            self.loc[name], self.scale[name] = loc, scale
            msg["value"] = bijection(msg["fn"].support)(loc)
