"""Mean and standard deviation of a distribution in unconstrained space."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.networks.chains import GaussianChain
from ppl_vae.program.handlers import bijection


def unwrapped(fn: Any) -> Any:
    """Return the distribution inside wrappers that change its shape or its mask."""
    while isinstance(fn, torch.distributions.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        fn = fn.base_dist
    return fn


def moments(fn: Any) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of a distribution in unconstrained space, each of a point's shape."""
    transform = bijection(fn.support)
    base = unwrapped(fn)
    if isinstance(base, GaussianChain):
        loc, scale = base.central_path()
        return loc.expand(fn.shape()), scale.expand(fn.shape())
    if isinstance(base, torch.distributions.TransformedDistribution) and _same(base.transforms, base.support):
        base = base.base_dist
        while isinstance(base, torch.distributions.Independent):
            base = base.base_dist
        if isinstance(base, torch.distributions.Normal):
            return base.loc.expand(fn.shape()), base.scale.expand(fn.shape())
    if isinstance(base, torch.distributions.Normal | torch.distributions.MultivariateNormal):
        return fn.mean, fn.variance.sqrt()
    try:
        mean, variance = fn.mean, fn.variance
    except (NotImplementedError, AttributeError):
        mean = variance = torch.full(fn.shape(), math.nan)
    shape = transform.inverse_shape(fn.shape())
    like = mean if mean.is_floating_point() else torch.empty(())
    loc, one = like.new_zeros(shape), like.new_ones(shape)
    if not bool(torch.isfinite(mean).all() & fn.support.check(mean).all()):
        return loc, one
    at = transform.inv(mean)
    if not bool(torch.isfinite(at).all()):
        return loc, one
    while isinstance(transform, torch.distributions.transforms.IndependentTransform):
        transform = transform.base_transform
    if transform.domain.event_dim or not bool(torch.isfinite(variance).all()):
        return at, one
    scale = variance.sqrt() * (-transform.log_abs_det_jacobian(at, mean)).exp()  # of each number by itself
    return at, torch.where(torch.isfinite(scale) & (scale > 0), scale, one)


def _same(transforms: list[Any], support: Any) -> bool:
    """Check if a distribution is made from its base by the map from unconstrained space."""
    return _parts(transforms) == _parts([bijection(support)])


def _parts(transforms: list[Any]) -> list[Any]:
    """Return the parts of composed transforms, without those that change nothing."""
    parts = []
    for transform in transforms:
        while isinstance(transform, torch.distributions.transforms.IndependentTransform):
            transform = transform.base_transform
        parts += _parts(transform.parts) if hasattr(transform, "parts") else [transform]
    return [part for part in parts if part != torch.distributions.AffineTransform(0.0, 1.0)]
