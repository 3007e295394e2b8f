"""Distributions of whole sequences: a chain of Gaussian latents is one site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_vae.networks.recurrence import recur


class GaussianChain(dist.TorchDistribution):
    r"""A sequence of Gaussian vectors, each of which depends on the one before it.

    .. math::
        z_t \mid z_{t-1} \sim \mathcal N\bigl(\mu(z_{t-1}, c_t),\ \mathrm{diag}\,\sigma^2(z_{t-1}, c_t)\bigr),
        \qquad t = 1, \dots, T

    Steps past the length of a sequence do not count in the density; their draws go on. A draw runs the steps one after
    the other, see :func:`~ppl_vae.networks.recur`. The density of a given sequence is computed for all steps at once.

    Args:
        step: a module, or another function, from the previous vector ``(..., L)`` and the context of a step to mean and
            standard deviation, ``(..., L)`` each. Leading dimensions are free.
        start: the vector before the first, ``(..., L)``.
        context: tensors of all steps, ``(..., T, H)`` each.
        num_steps: the number of steps, ``T``; by default that of the context.
        lengths: the length of each sequence, of batch shape; by default ``T``.

    Attributes:
        within: True for the steps within a sequence, ``(..., T)``; None if every step counts.

    Example:
        >>> from ppl_vae.networks import GatedTransition
        >>> chain = GaussianChain(GatedTransition(3, 8), torch.zeros(3), num_steps=5, lengths=torch.tensor([5, 2]))
        >>> chain.batch_shape, chain.event_shape, chain.log_prob(chain.rsample((4,))).shape
        (torch.Size([2]), torch.Size([5, 3]), torch.Size([4, 2]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        step: Callable[..., tuple[Tensor, Tensor]],
        start: Tensor,
        *context: Tensor,
        num_steps: int | None = None,
        lengths: Tensor | None = None,
    ) -> None:
        self.step, self.start, self.context, self.lengths = step, start, context, lengths
        self.num_steps = context[0].shape[-2] if num_steps is None else num_steps
        self.within = None
        if lengths is not None:
            self.within = torch.arange(self.num_steps, device=lengths.device) < lengths[..., None]
        shapes = [start.shape[:-1], *(c.shape[:-2] for c in context), () if lengths is None else lengths.shape]
        event_shape = torch.Size([self.num_steps, start.shape[-1]])
        super().__init__(torch.broadcast_shapes(*shapes), event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GaussianChain:
        """Return the chain with a larger batch shape, from the same tensors."""
        new = self._get_checked_instance(GaussianChain, _instance)
        new.__dict__.update(self.__dict__)
        super(GaussianChain, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw sequences ``(..., T, L)``, differentiable in start, context and the parameters of the step."""
        shape = self._extended_shape(torch.Size(sample_shape))
        width = -(-shape[-1] // 16) * 16  # PyTorch draws 16 at once, so that more steps have the same first draws
        whole = (self.num_steps, *shape[:-2], width)
        return self._path(torch.randn(whole, dtype=self.start.dtype, device=self.start.device)[..., : shape[-1]])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw sequences, without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def conditionals(self, value: Tensor) -> dist.Normal:
        """Return the Gaussians of each step given the vector before it in a sequence, ``(..., T, L)``."""
        start = self.start[..., None, :].expand(*value.shape[:-2], 1, value.shape[-1])
        return dist.Normal(*self.step(torch.cat([start, value[..., :-1, :]], -2), *self.context))

    def conditional(self, before: Tensor | None, *context: Tensor) -> dist.Normal:
        """Return the Gaussians of a step ``(..., L)`` given the vector before it, None before the first, and context.

        Its context is that of the step, ``(..., H)`` each, see ``context_of``.
        """
        if before is None:
            before = self.start.expand(*self.batch_shape, self.start.shape[-1])
        return dist.Normal(*self.step(before, *context))

    def context_of(self, step: int) -> tuple[Tensor, ...]:
        """Return the context of one step, ``(..., H)`` each."""
        return tuple(context[..., step, :] for context in self.context)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of sequences, of batch shape."""
        value = value.expand(torch.broadcast_shapes(value.shape, self._extended_shape()))
        log_prob = self.conditionals(value).log_prob(value).sum(-1)
        return (log_prob if self.within is None else torch.where(self.within, log_prob, 0.0)).sum(-1)

    def central_path(self) -> tuple[Tensor, Tensor]:
        """Return the sequence of means, each given the mean before it, and the standard deviations along it."""
        shape = self._extended_shape()
        path = self._path(self.start.new_zeros(self.num_steps, *shape[:-2], shape[-1]))
        return path, self.conditionals(path).scale.expand(shape)

    def _path(self, noise: Tensor) -> Tensor:
        """Return the sequences of given noise, ``(T, ..., L)``, as ``(..., T, L)``."""
        around = noise.shape[1:-1]
        state = self.start.expand(noise.shape[1:]).reshape(-1, noise.shape[-1])
        context = [c.expand(*around, *c.shape[-2:]).movedim(-2, 0).flatten(1, -2) for c in self.context]
        states = recur(self.step, state, *context, noise=noise.flatten(1, -2) if around else noise[:, None])
        return states.reshape(noise.shape).movedim(0, -2)
