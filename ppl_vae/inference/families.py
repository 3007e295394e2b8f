"""Variational families, which turn the row lambda of a datum into a distribution of its latents.

Each is reparameterised, :math:`u = T(\\epsilon; \\lambda)` with :math:`\\epsilon \\sim \\mathcal N(0, I)`, and holds no
parameters: lambda is an argument, ``(..., P)``, so that it can be a row of a table or the output of a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, Transform, TransformedDistribution, constraints
from zuko.transforms import (
    ComposedTransform,
    CouplingTransform,
    DependentTransform,
    MonotonicAffineTransform,
    MonotonicRQSTransform,
)

from ppl_vae.errors import InputError, nearest

FamilyName = Literal["diagonal", "full", "flow"]


class Family(Protocol):
    """A variational family of points of ``D`` numbers."""

    size: int
    """The number of latent numbers of a datum, ``D``."""
    width: int
    """The number of numbers in lambda, ``P``."""
    pace: Tensor
    """The learning rate of each number of lambda, as a share of the common learning rate, ``(P,)``."""

    def start(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Return lambda ``(..., P)`` of the Gaussian with this mean and standard deviation, each ``(..., D)``."""
        return self.grown(torch.cat([loc, scale.log()], -1))

    def grown(self, lam: Tensor) -> Tensor:
        """Return lambda ``(..., P)`` of the posterior that this lambda describes in a smaller family.

        As in the families of Gaussians, zeros stand for what the smaller family does not have.
        """
        return torch.nn.functional.pad(lam, (0, self.width - lam.shape[-1]))

    def distribution(self, lam: Tensor) -> Any:
        """Return the distribution q of points, a ``torch.distributions.Distribution`` of events ``(D,)``."""
        ...

    def draw(self, lam: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return points, and their log density on the path.

        Args:
            lam: ``(B, P)``.
            noise: standard normal, ``(K, B, D)``, or ``(K, 1, D)`` for the same noise for every datum.

        Returns:
            Points ``T(noise; lam)``, ``(K, B, D)``, and log q of them ``(K, B)``, whose gradient is taken through the
            points only: the term :math:`\nabla_\lambda \log q_\lambda(u)` at a fixed u, zero on average, is left out
            (Roeder, Wu and Duvenaud, Sticking the Landing, 2017, equation 8).
        """
        ...


class Diagonal(Family):
    r"""A Gaussian with a diagonal covariance: mean-field in unconstrained space.

    .. math:: u = \mu + \sigma \odot \epsilon, \qquad \lambda = (\mu, \log \sigma)

    Args:
        size: ``D``.

    Example:
        >>> family = Diagonal(2)
        >>> lam = family.start(torch.zeros(3, 2), torch.ones(3, 2))
        >>> u, log_q = family.draw(lam, torch.zeros(5, 3, 2))
        >>> family.width, u.shape, round(log_q[0, 0].item(), 4)
        (4, torch.Size([5, 3, 2]), -1.8379)
    """

    def __init__(self, size: int) -> None:
        self.size, self.width = size, 2 * size
        self.pace = torch.ones(self.width)

    def distribution(self, lam: Tensor) -> Independent:
        """See ``Family``."""
        loc, log_scale = lam.split(self.size, -1)
        return Independent(Normal(loc, log_scale.exp(), validate_args=False), 1, validate_args=False)

    def draw(self, lam: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Family``."""
        loc, log_scale = lam.split(self.size, -1)
        u = loc + log_scale.exp() * noise
        log_det, score = log_scale.detach().sum(-1), -noise * (-log_scale.detach()).exp()
        return u, _on_the_path(u, score, _log_standard_normal(noise) - log_det)


class Full(Family):
    r"""A Gaussian with a full covariance over all latents of a datum.

    .. math:: u = \mu + L \epsilon, \qquad \lambda = (\mu, \log \mathrm{diag}\,L, \text{the rest of } L)

    Args:
        size: ``D``.

    Example:
        >>> Full(3).width, Full(3).distribution(torch.zeros(2, 9)).covariance_matrix[0].tolist()
        (9, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """

    def __init__(self, size: int) -> None:
        self.size, self.width = size, size + size * (size + 1) // 2
        self.pace = torch.ones(self.width)
        self.pace[2 * size :] = size**-0.5  # a row of L moves as one: at the full pace L would become singular
        self._below = torch.tril_indices(size, size, -1)

    def distribution(self, lam: Tensor) -> MultivariateNormal:
        """See ``Family``."""
        return MultivariateNormal(lam[..., : self.size], scale_tril=self.factor(lam), validate_args=False)

    def factor(self, lam: Tensor) -> Tensor:
        """Return the Cholesky factor L, ``(..., D, D)``, of lambda ``(..., P)``.

        The rest of L is held relative to its row's diagonal, so that a narrow posterior needs no small steps.
        """
        diagonal = lam[..., self.size : 2 * self.size].exp()
        below = lam.new_zeros(*lam.shape[:-1], self.size, self.size)
        below[..., self._below[0], self._below[1]] = lam[..., 2 * self.size :]
        return diagonal[..., None] * (below + torch.eye(self.size, dtype=lam.dtype, device=lam.device))

    def draw(self, lam: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Family``."""
        factor = self.factor(lam)
        u = lam[..., : self.size] + torch.einsum("...ij,...j->...i", factor, noise)
        with torch.no_grad():
            right = noise.expand_as(u).movedim(0, -1)  # (B, D, K): one solve a datum
            score = -torch.linalg.solve_triangular(factor.mT, right, upper=True).movedim(-1, 0)
        log_det = lam[..., self.size : 2 * self.size].detach().sum(-1)
        return u, _on_the_path(u, score, _log_standard_normal(noise) - log_det)


class Flow(Family):
    r"""A normalizing flow for each datum, on top of a Gaussian with a full covariance.

    .. math:: u = \mu + L\,(C_2 \circ C_1 \circ S)(\epsilon)

    S is a monotonic rational-quadratic spline of each number (Durkan et al., Neural Spline Flows, 2019), the
    :math:`C_i` are affine coupling layers (Dinh et al., Density estimation using Real NVP, 2017) with a network of
    ``hidden`` units for each datum. All of them start as the identity.

    Args:
        size: ``D``.
        bins: number of bins of the spline.
        hidden: number of hidden units in a coupling layer's network.

    Example:
        >>> family = Flow(3)
        >>> lam = family.start(torch.zeros(2, 3), torch.ones(2, 3))
        >>> u, log_q = family.draw(lam, torch.ones(1, 2, 3))
        >>> u[0, 0].round(decimals=3).tolist()  # a Gaussian, at first
        [1.0, 1.0, 1.0]
    """

    LAYERS = 2
    PACE = 0.1

    def __init__(self, size: int, *, bins: int = 6, hidden: int = 8) -> None:
        self.size, self.bins, self.hidden = size, bins, hidden
        self._affine = Full(size)
        even = torch.arange(size) % 2 == 0
        self._masks = [even, ~even][: self.LAYERS] if size > 1 else []
        shapes = [(self._affine.width,), (size, bins), (size, bins), (size, bins - 1)]
        for mask in self._masks:
            kept, moved = int(mask.sum()), int((~mask).sum())
            shapes += [(kept, hidden), (hidden,), (hidden, 2 * moved), (2 * moved,)]
        self._shapes = shapes
        self.width = sum(math.prod(shape) for shape in shapes)
        self.pace = torch.full((self.width,), self.PACE)  # at the Gaussian's pace, a flow would run off before it
        self.pace[: self._affine.width] = self._affine.pace

    def start(self, loc: Tensor, scale: Tensor) -> Tensor:
        """See ``Family``."""
        parts = [self._affine.start(loc, scale)]
        for index, shape in enumerate(self._shapes[1:]):
            part = loc.new_zeros(math.prod(shape))
            if index >= 3 and (index - 3) % 4 == 0:  # the first weights of a network, which zeros would keep at zero
                part = _spread(part.numel()).to(loc) / math.sqrt(shape[0])
            parts.append(part.expand(*loc.shape[:-1], -1))
        return torch.cat(parts, -1)

    def grown(self, lam: Tensor) -> Tensor:
        """See ``Family``."""
        identity = self.start(lam[..., : self.size], torch.ones_like(lam[..., : self.size]))
        return torch.cat([self._affine.grown(lam), identity[..., self._affine.width :]], -1)

    def distribution(self, lam: Tensor) -> TransformedDistribution:
        """See ``Family``."""
        base = Normal(lam.new_zeros(*lam.shape[:-1], self.size), 1.0, validate_args=False)
        return TransformedDistribution(Independent(base, 1), [self._transform(lam)], validate_args=False)

    def draw(self, lam: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Family``."""
        u = self._transform(lam)(noise.expand(len(noise), *lam.shape[:-1], self.size))
        return u, self.distribution(lam.detach()).log_prob(u)

    def _transform(self, lam: Tensor) -> Any:
        parts = [
            part.unflatten(-1, shape)
            for part, shape in zip(lam.split([math.prod(s) for s in self._shapes], -1), self._shapes, strict=True)
        ]
        affine, *spline = parts[:4]
        layers: list[Any] = [DependentTransform(MonotonicRQSTransform(*spline), 1)]
        for index, mask in enumerate(self._masks):
            layers.append(CouplingTransform(_network(*parts[4 + 4 * index : 8 + 4 * index]), mask))
        layers.append(_Affine(affine[..., : self.size], self._affine.factor(affine)))
        return _Remembering(ComposedTransform(*layers))


class _Remembering(Transform):
    """A transform that remembers its last input, because the inverse of a spline loses digits."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, transform: Any) -> None:
        super().__init__(cache_size=1)
        self.transform = transform

    def _call(self, x: Tensor) -> Tensor:
        return self.transform(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.transform.inv(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.transform.call_and_ladj(x)[1]


class _Affine(Transform):
    """The transform ``x -> loc + L x`` with a triangular L."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, loc: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.loc, self.factor = loc, factor

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + torch.einsum("...ij,...j->...i", self.factor, x)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.factor, (y - self.loc)[..., None], upper=False)[..., 0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1).expand(x.shape[:-1])

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self._call(x)
        return y, self.log_abs_det_jacobian(x, y)


def _network(w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor) -> Callable[[Tensor], Any]:
    """Return a coupling layer's network, which maps the numbers that stay to the transform of the others."""

    def conditioned(kept: Tensor) -> Any:
        inside = torch.tanh(torch.einsum("...i,...ij->...j", kept, w_in) + b_in)
        shift, scale = (torch.einsum("...i,...ij->...j", inside, w_out) + b_out).chunk(2, -1)
        return DependentTransform(MonotonicAffineTransform(shift, scale), 1)

    return conditioned


def make_family(name: FamilyName, size: int) -> Family:
    """Return the family with this name, for points of ``size`` numbers.

    Raises:
        InputError: no family has this name.
    """
    families: dict[str, Callable[[int], Family]] = {"diagonal": Diagonal, "full": Full, "flow": Flow}
    if name not in families:
        raise InputError(f"family={name!r} is unknown; {nearest(str(name), get_args(FamilyName))}")
    return families[name](size)


def _on_the_path(u: Tensor, score: Tensor, value: Tensor) -> Tensor:
    """Return a log density with this value and this gradient at u."""
    return value + ((u - u.detach()) * score).sum(-1)


def _log_standard_normal(noise: Tensor) -> Tensor:
    return -0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1)


def _spread(count: int) -> Tensor:
    """Return numbers spread over (-1, 1) in no particular order, always the same: multiples of the golden ratio."""
    return 2 * (torch.arange(1, count + 1, dtype=torch.double) * 0.6180339887498949 % 1) - 1
