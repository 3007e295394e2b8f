"""Guides that are derived from a model: they draw the latents of a datum in unconstrained space."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.global_posterior import OF_DRAWS, hidden_run
from ppl_vae.program.handlers import Unconstrained, bijection, is_identity
from ppl_vae.program.latent_space import LatentSpace, fill, hidden_part
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import Site

Distribution = Callable[[Tensor], Any]
"""From variational parameters ``(..., P)`` to a distribution of points ``(..., D)``."""

JOINT = "_u"
"""The guide's site of all latents together, if they do not factorise. It is auxiliary: the model does not have it."""


def with_lambda(space: LatentSpace, distribution: Distribution, lam: Tensor) -> BoundProgram:
    """Return the program whose guide takes the variational parameters of every datum as data.

    It shares model, parameters and store with ``space.program``. Batches have lambda ``(B, P)`` as their last tensor;
    everything that can be done to a program can be done to this one.

    Args:
        space: the latent space of a program without a guide.
        distribution: the distribution of points, given lambda.
        lam: some variational parameters ``(B, P)``, for the data that ``space.program`` is bound to.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> from ppl_vae.program import Program
        >>> x, lam = torch.zeros(3, 4), torch.zeros(3, 4)
        >>> space = LatentSpace(Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,), guided=False))
        >>> def gaussian(lam):
        ...     return dist.Normal(lam[..., :2], lam[..., 2:].exp()).to_event(1)
        >>> with_lambda(space, gaussian, lam).log_weights((x, lam), num_samples=5).shape
        torch.Size([5, 3])
    """
    program, model, closed_form = space.program, space.program.model, space.program.closed_form
    return program.derive(
        model=lambda *rows: model(*rows[:-1]),
        guide=DerivedGuide(space, distribution, lambda *rows: (rows[:-1], rows[-1])),
        closed_form=None if closed_form is None else lambda *rows: closed_form(*rows[:-1]),
        template=(*program.template, lam),
    )


def with_encoder(space: LatentSpace, distribution: Distribution, encoder: nn.Module) -> BoundProgram:
    """Return the program whose guide takes variational parameters ``(B, P)`` from a network, ``encoder(*batch)``."""

    def parameters(*rows: Tensor) -> tuple[Batch, Tensor]:
        return rows, pyro.module("encoder", encoder)(*rows)

    module = nn.ModuleDict({"model": space.program.module, "encoder": encoder})
    return space.program.derive(module=module, guide=DerivedGuide(space, distribution, parameters))


def without_guide(program: BoundProgram) -> BoundProgram:
    """Return the same model with the same parameters, without its guide."""
    if program.guide is None:
        return program
    return program.derive(guide=None, left_out=program.guide)


class DerivedGuide:
    r"""A guide that draws :math:`u \sim q_\lambda` for every datum, and gives each latent its part of :math:`T(u)`.

    If :math:`q_\lambda` is a Gaussian with a diagonal covariance, each latent site is a distribution of its own.
    Otherwise one auxiliary site draws all latents together. Given it, each latent site is a point mass, whose log
    density is minus the log Jacobian of :math:`T`.

    Args:
        space: the latent space of the model.
        distribution: the distribution of points, given lambda.
        parameters: a function from the guide's arguments to the model's arguments and lambda ``(B, P)``.
    """

    def __init__(
        self,
        space: LatentSpace,
        distribution: Distribution,
        parameters: Callable[..., tuple[Batch, Tensor]],
    ) -> None:
        self.space, self.distribution, self.parameters = space, distribution, parameters
        self._depends = _support_depends(space)

    def __call__(self, *rows: Tensor) -> None:
        """Sample the latent sites of the model."""
        batch, lam = self.parameters(*rows)
        q = self.distribution(lam)
        if isinstance(q, torch.distributions.Independent) and not self._depends:
            self._each_site(batch, q.base_dist)  # a Normal: there is no other family that factorises
        else:
            self._together(batch, lam)

    def points(self, *rows: Tensor) -> Any:
        """Return the distribution of the points of a batch: batch shape ``(B,)``, event shape ``(D,)``."""
        return self.distribution(self.parameters(*rows)[1])

    def _each_site(self, batch: Batch, q: Any) -> None:
        locs, scales = (self.space.laid_out(batch, tensor[None]) for tensor in (q.loc, q.scale))
        plates = _Plates(self.space, batch)
        for place in self.space.layout:
            fn, prior = dist.Normal(locs[place.name], scales[place.name]), place.site["fn"]
            transform = bijection(prior.support)
            if not is_identity(transform):
                fn = dist.TransformedDistribution(fn, [transform])
            with plates.of(place.site):
                pyro.sample(place.name, fn.to_event(prior.event_dim - fn.event_dim))

    def _together(self, batch: Batch, lam: Tensor) -> None:
        space, plates, num_data = self.space, _Plates(self.space, batch), len(batch[0])
        frame = space.program.structure.data_frame(space.layout[0].site)
        q = as_pyro(self.distribution(lam.reshape(num_data, *[1] * (-frame.dim - 1), lam.shape[-1])))
        with plates.one(frame):
            u = pyro.sample(JOINT, q, infer=_marked(is_auxiliary=True))
        points, means = space.laid_out(batch, u.reshape(-1, num_data, u.shape[-1])), {}
        if isinstance(q, torch.distributions.MultivariateNormal | torch.distributions.Independent):
            means = space.laid_out(batch, q.mean.reshape(1, num_data, -1))
        if self._depends:
            with hidden_run(), Unconstrained(points) as moved:
                sites: dict[str, Any] = dict(poutine.trace(space.program.model).get_trace(*batch).nodes)
            values = moved.values
            log_det = {name: scale_and_mask(moved.log_det[name], mask=sites[name]["mask"]) for name in points}
        else:
            sites = {place.name: place.site for place in space.layout}
            transforms = {name: bijection(sites[name]["fn"].support) for name in points}
            values = {name: transforms[name](point) for name, point in points.items()}
            log_det = {name: transforms[name].log_abs_det_jacobian(points[name], values[name]) for name in points}
        for place in space.layout:
            site, value = sites[place.name], values[place.name]
            event_dim = site["fn"].event_dim
            batch_shape = value.shape[: value.dim() - event_dim]
            density = -log_det[place.name].reshape(*batch_shape, -1).sum(-1)
            if (filled := fill(site, points[place.name], place.event_dim)) is not None:
                density = density - filled
            mean = means.get(place.name) if is_identity(bijection(site["fn"].support)) else None
            with plates.of(place.site):
                pyro.sample(place.name, _PointMass(value, density, event_dim, mean), infer=_marked())


def _support_depends(space: LatentSpace) -> bool:
    """Check if the map from unconstrained space, or a mask, may differ between runs of the model."""
    return any(
        hidden_part(place.site, place.site["value"], place.event_dim) is not None or _varies(place.site["fn"].support)
        for place in space.layout
    )


def _varies(support: Any) -> bool:
    """Check if the bounds of a support are computed."""
    held = vars(support).values()
    return any(isinstance(v, Tensor) or (isinstance(v, constraints.Constraint) and _varies(v)) for v in held)


class _Plates:
    """The plates of one run of the guide, each made once."""

    def __init__(self, space: LatentSpace, batch: Batch) -> None:
        self.data_plate, self.num_data = space.program.structure.data_plate, len(batch[0])
        self.entered: dict[str, Any] = {}

    def one(self, frame: Any) -> Any:
        """Return the plate for a frame of the model."""
        if frame.name not in self.entered:
            size = self.num_data if frame.name == self.data_plate else frame.size
            self.entered[frame.name] = pyro.plate(frame.name, size, dim=frame.dim)
        return self.entered[frame.name]

    def of(self, site: Site) -> ExitStack:
        """Enter all plates of a site of the model, except the plate of the draws, which is open already."""
        stack = ExitStack()
        for frame in sorted(site["cond_indep_stack"], key=lambda frame: frame.dim or 0):
            if frame.vectorized and frame.name not in OF_DRAWS:
                stack.enter_context(self.one(frame))
        return stack


class _PointMass(dist.Delta):
    """A latent, given the site of all latents together. Its mean, if it is known, is the mean over this site.

    It counts as discrete, so that it is never widened.
    """

    def __init__(self, value: Tensor, log_density: Tensor, event_dim: int, mean: Tensor | None) -> None:
        super().__init__(value, log_density, event_dim)
        self.known = mean

    @property
    def mean(self) -> Tensor:
        return super().mean if self.known is None else self.known

    @property
    def support(self) -> Any:
        return _ONE_POINT

    def expand(self, batch_shape: Any, _instance: Any = None) -> _PointMass:
        value, log_density = self.v.expand((*batch_shape, *self.event_shape)), self.log_density.expand(batch_shape)
        return _PointMass(value, log_density, self.event_dim, self.known)


class _OnePoint(constraints.Constraint):
    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.bool, device=value.device)


_ONE_POINT = _OnePoint()


def _marked(**infer: bool) -> Any:
    return {"_derived": True, **infer}


def is_derived(site: Site) -> bool:
    """Check if a site belongs to a derived guide whose latents do not factorise; it has the model's masks already."""
    return bool(site["infer"].get("_derived"))


def is_auxiliary(site: Site) -> bool:
    """Check if a site is the one of all latents together."""
    return is_derived(site) and bool(site["infer"].get("is_auxiliary"))


def as_pyro(q: Any) -> Any:
    """Convert a distribution of PyTorch to one of Pyro."""
    if isinstance(q, torch.distributions.Independent):
        return as_pyro(q.base_dist).to_event(q.reinterpreted_batch_ndims)
    if isinstance(q, torch.distributions.Normal):
        return dist.Normal(q.loc, q.scale)
    if isinstance(q, torch.distributions.MultivariateNormal):
        return dist.MultivariateNormal(q.loc, scale_tril=q.scale_tril)
    return dist.TransformedDistribution(as_pyro(q.base_dist), list(q.transforms))
