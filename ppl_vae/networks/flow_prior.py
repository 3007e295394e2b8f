"""A normalizing flow as the prior of a latent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyro.distributions as dist
import torch
import zuko
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_vae.errors import InputError, nearest

FlowKind = Literal["coupling", "autoregressive"]
_PASSES: dict[str, int | None] = {"coupling": 2, "autoregressive": None}
"""The number of passes of a draw through a map; None is one for each number."""


class FlowDistribution(dist.TorchDistribution):
    r"""The distribution of vectors that a map carries to a standard Gaussian.

    .. math:: \log p(z) = \log \mathcal N\bigl(f(z); 0, I\bigr) + \log \lvert \det \partial f / \partial z \rvert

    Args:
        transform: f, a transform of zuko, which has ``call_and_ladj``.
        like: a vector of the size, the type and the device of z.
        batch_shape: the batch shape.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, transform: Any, like: Tensor, batch_shape: Sequence[int] = ()) -> None:
        self.transform, self.like = transform, like
        super().__init__(torch.Size(batch_shape), like.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> FlowDistribution:
        """Return the same distribution for every datum of a batch."""
        return FlowDistribution(self.transform, self.like, batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw vectors, differentiable in the parameters of the map."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.transform.inv(torch.randn(shape, dtype=self.like.dtype, device=self.like.device))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw vectors, without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of vectors ``(..., D)``, in nats."""
        noise, log_det = self.transform.call_and_ladj(value)
        log_prob = log_det - 0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))


class FlowPrior(nn.Module):
    r"""A distribution of vectors that affine maps carry to a standard Gaussian.

    .. math:: p(z) = \mathcal N\bigl(f(z); 0, I\bigr)\, \Bigl\lvert \det \frac{\partial f(z)}{\partial z} \Bigr\rvert

    A coupling map shifts and scales half of the numbers by functions of the other half; the density takes one pass, a
    draw two. An autoregressive map does so to each number by functions of those before it; the density takes one pass,
    a draw as many as there are numbers.

    Source: coupling, Dinh, Sohl-Dickstein and Bengio, Density Estimation Using Real NVP (2017), equations 7 and 8;
    autoregressive, Papamakarios, Pavlakou and Murray, Masked Autoregressive Flow for Density Estimation (2017),
    equation 3. The maps are zuko's.

    Args:
        size: number of numbers of z, two or more for coupling.
        kind: coupling or autoregressive.
        num_flows: number of maps.
        hidden: widths of the hidden layers of each map's network.

    Raises:
        InputError: the kind is unknown, or there is one number to couple.

    Example:
        >>> import torch
        >>> prior = FlowPrior(3)()
        >>> prior.log_prob(torch.zeros(5, 3)).shape, prior.sample((2,)).shape
        (torch.Size([5]), torch.Size([2, 3]))
    """

    def __init__(
        self, size: int, kind: FlowKind = "coupling", num_flows: int = 4, hidden: Sequence[int] = (128,)
    ) -> None:
        super().__init__()
        if kind not in _PASSES:
            raise InputError(f"flow={kind!r} is unknown; {nearest(str(kind), _PASSES)}")
        if kind == "coupling" and size < 2:
            raise InputError(f"a coupling flow of {size} number has nothing to couple: take flow='autoregressive'")
        flow = zuko.flows.MAF(size, transforms=num_flows, hidden_features=tuple(hidden), passes=_PASSES[kind])
        self.maps = flow.transform
        self.like: Tensor
        self.register_buffer("like", torch.zeros(size), persistent=False)

    def forward(self) -> FlowDistribution:
        """Return the distribution."""
        return FlowDistribution(self.maps(), self.like)
