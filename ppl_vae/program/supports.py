"""The supports of distributions, and the measures with respect to which their densities are."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor

_ALIKE = {
    "SoftplusLowerCholesky": "LowerCholesky",
    "LowerTriangular": "LowerCholesky",
    "SoftplusPositiveDefinite": "PositiveDefinite",
    "PositiveSemidefinite": "PositiveDefinite",
    "Symmetric": "PositiveDefinite",
}
"""Supports that differ from another one by boundaries or inequalities alone."""
_SINGULAR = {
    "Simplex",
    "Sphere",
    "CorrCholesky",
    "CorrMatrix",
    "LowerCholesky",
    "UnitLowerCholesky",
    "PositiveDefinite",
}
"""Supports of fewer dimensions than their values have numbers."""
_NUMBERS = {
    *("Real", "GreaterThan", "GreaterThanEq", "LessThan", "Interval", "HalfOpenInterval", "SoftplusPositive"),
    *("OrderedVector", "PositiveOrderedVector"),
}
MARGIN = 1e-6
"""The largest difference of two bounds that are the same but for rounding."""


def support_of(fn: Any) -> Any | None:
    """Return the support of a distribution; None if it defines none, such as the flows of zuko."""
    try:
        return fn.support
    except (NotImplementedError, AttributeError):
        return None


def is_discrete(fn: Any) -> bool:
    """Check if a distribution is discrete; one that defines no support counts as continuous."""
    return bool(getattr(support_of(fn), "is_discrete", False))


def measure(fn: Any) -> str | None:
    """Return the name of the measure with respect to which a distribution has its density; None if it is not known.

    Two distributions whose measures differ have no ratio of densities.

    Example:
        >>> import pyro.distributions as dist
        >>> half, logits = torch.tensor(0.5), torch.zeros(3)
        >>> measure(dist.OneHotCategorical(logits=logits)), measure(dist.RelaxedOneHotCategorical(half, logits=logits))
        ('discrete', 'Simplex')
        >>> measure(dist.LogNormal(logits, 1.0).to_event(1)) == measure(dist.Normal(logits, 1.0))
        True
    """
    constraint = support_of(fn)
    if constraint is None:
        return None
    if constraint.is_discrete:
        return "discrete"
    name = _name(_innermost(constraint))
    name = _ALIKE.get(name, name)
    return name if name in _SINGULAR else "numbers" if name in _NUMBERS else None


def is_narrower(fn: Any, other: Any) -> bool:
    """Check if a distribution of numbers leaves out a part of the support of another one; False if it is not known.

    Example:
        >>> import pyro.distributions as dist
        >>> is_narrower(dist.Beta(1.0, 1.0), dist.Normal(0.0, 1.0)), is_narrower(dist.Gamma(1, 1), dist.HalfNormal(1))
        (True, False)
    """
    inner, outer = _bounds(fn), _bounds(other)
    if inner is None or outer is None:
        return False
    return bool((inner[0] > outer[0] + MARGIN).any() | (inner[1] < outer[1] - MARGIN).any())


def _bounds(fn: Any) -> tuple[Tensor, Tensor] | None:
    """Return the least and the greatest number that a distribution of numbers can draw; None if not known."""
    constraint = _innermost(support_of(fn))
    name = _name(constraint)
    if name not in _NUMBERS or (name != "Real" and not {"lower_bound", "upper_bound"} & vars(constraint).keys()):
        return None
    lower, upper = (getattr(constraint, side, at) for side, at in (("lower_bound", -inf), ("upper_bound", inf)))
    return torch.as_tensor(lower), torch.as_tensor(upper)


def _innermost(constraint: Any) -> Any:
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    return constraint


def _name(constraint: Any) -> str:
    return type(constraint).__name__.strip("_")
