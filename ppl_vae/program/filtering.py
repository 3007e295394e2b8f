"""A program whose latent is a chain, one step of its sequences at a time, as a particle filter runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.errors import InputError, reason
from ppl_vae.networks.chains import GaussianChain
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.process import seeded
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import sample_sites

OTHERWISE = "estimate the evidence by iwae or ais"
CHECKED_DATA = 2
"""The number of sequences whose weights are computed in both ways before the first filter."""

OneStep = Callable[[Batch, int], Batch]


class ChainSteps(NamedTuple):
    """The steps of a batch of sequences whose latents are a chain."""

    num_steps: int
    """``T``, the number of steps of the longest sequence."""
    inputs: Callable[[int], Batch]
    """A function from the number of a step to the tensors that ``move`` needs beside the latents. Their shapes and
    strides are those of every step, in batches of any number of steps."""
    move: Callable[..., tuple[Tensor, Tensor]]
    """A function from latents ``(K, B, L)`` of a step, None before the first, and the inputs of the next step. It
    returns draws of the guide for that step, and their log weights, ``(K, B)``, which are zero past the length of a
    sequence."""
    is_shared: bool
    """True if ``move`` depends on its inputs and on the program's modules alone, so that it is that of any batch."""

    def extend(self, z: Tensor | None, step: int) -> tuple[Tensor, Tensor]:
        """Return what ``move`` does, given latents and the number of the next step."""
        return self.move(z, *self.inputs(step))


def chain_steps(program: BoundProgram, batch: Batch, one_step: OneStep, num_particles: int) -> ChainSteps:
    r"""Return the functions of tensors that a particle filter needs.

    .. math::
        z_t \sim q(z_t \mid z_{t-1}, x), \qquad
        \log w_t = \log \frac{p(z_t \mid z_{t-1})\, p(x_t \mid z_t)}{q(z_t \mid z_{t-1}, x)}

    Latents and guide must be a ``GaussianChain`` each, and a step of x may depend on the latent of this step alone,
    which :func:`check_chain_steps` checks. The model is run on one step at a time, and the guide once on all of them.

    Args:
        program: the program.
        batch: the data.
        one_step: a function from a batch and the number of a step to a batch of sequences with this step alone.
        num_particles: ``K``, the number of particles of a datum, 2 or more.

    Raises:
        InputError: the latent is not one chain; the steps of x depend on other latents.

    Example:
        >>> from ppl_vae.models.deep_markov_model import DeepMarkovModel
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(4, 6, 3)
        >>> program = Program(DeepMarkovModel(features=3, latent_dim=2)).bind((x,))
        >>> steps = chain_steps(program, (x,), lambda batch, step: (batch[0][:, step : step + 1],), num_particles=5)
        >>> z, log_weight = steps.extend(None, 0)
        >>> steps.num_steps, z.shape, log_weight.shape
        (6, torch.Size([5, 4, 2]), torch.Size([5, 4]))
    """
    chains = _Chains(program, batch, one_step)

    @torch.no_grad()
    def move(z: Tensor | None, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        with program.running():
            posterior = chains.conditional(chains.guide, z, inputs)
            drawn = chains.particles(posterior.rsample((num_particles,)) if z is None else posterior.rsample())
            return drawn, chains.log_weight(z, drawn, inputs, posterior)

    return ChainSteps(chains.num_steps, chains.inputs, move, chains.is_shared)


def chain_length(program: BoundProgram) -> int:
    """Return the number of steps of the sequences to which a program is bound.

    Raises:
        InputError: the latent is not one chain.
    """
    return _Chains(program, program.template, lambda batch, step: batch).model.num_steps


@torch.no_grad()
def check_chain_steps(program: BoundProgram, one_step: OneStep) -> None:
    """Check that the weights of single steps add up to those of whole sequences, on the first data of the template.

    Args:
        program: the program.
        one_step: as in :func:`chain_steps`.

    Raises:
        InputError: the latent is not one chain; the steps of x depend on other latents.
    """
    batch = tuple(tensor[:CHECKED_DATA] for tensor in program.template)
    chains = _Chains(program, batch, one_step)
    with program.running(), seeded(0):
        guide, model, _ = program.traces(batch, 2)
        sites = sample_sites(guide)
        states = program.structure.value(sites[chains.name], 2).unbind(2)  # (2, B, L) each
        whole = program.structure.log_density(model, 2) - program.structure.log_density(guide, 2)
        try:
            before = [None, *states]
            steps = [chains.log_weight(before[t], states[t], chains.inputs(t)) for t in range(chains.num_steps)]
        except Exception as error:  # any error that a network raises on a sequence of one step
            raise InputError(
                f"{program.name} cannot be run on a single step of its sequences ({reason(error)}): {OTHERWISE}"
            ) from error
    if not torch.allclose(whole, torch.stack(steps).sum(0), rtol=1e-3, atol=1e-3):
        raise InputError(
            f"the steps of x in {program.name} depend on more than the latent of their step, so that particles cannot "
            f"be weighed step by step: {OTHERWISE}"
        )


class _Chains:
    """The chains of a model and its guide, given a batch, whose latents are ``(K, B, L)`` in every step."""

    def __init__(self, program: BoundProgram, batch: Batch, one_step: OneStep) -> None:
        self.program, self.batch, self.one_step = program, batch, one_step
        program.refuse_globals("particles follow the latents of each datum")
        latents = program.structure.latents
        if len(latents) != 1 or program.guide is None:
            raise InputError(f"{program.name} has no guide of a single chain of latents: {OTHERWISE}")
        self.name = latents[0]
        with program.running(seed="current"):
            self.site = sample_sites(program.run(program.model, batch))[self.name]
            self.model = self._chain(self.site["fn"])
            self.guide = self._chain(sample_sites(program.guide_trace(batch))[self.name]["fn"])

    @property
    def num_steps(self) -> int:
        """The number of steps of the longest sequence."""
        lengths = self.model.lengths
        return self.model.num_steps if lengths is None else int(lengths.max())

    def _chain(self, fn: Any) -> GaussianChain:
        if not isinstance(fn, GaussianChain) or fn.batch_shape.numel() != len(self.batch[0]):
            raise InputError(
                f"the latent {self.name!r} of {self.program.name} is no chain in the model and in the guide (there, it "
                f"is {type(fn).__name__}): sample it from a GaussianChain, or {OTHERWISE}"
            )
        return fn

    @property
    def is_shared(self) -> bool:
        """True if the steps of both chains are modules of the program, which no batch changes."""
        known = set(self.program.module.modules())
        return all(chain.step in known for chain in (self.model, self.guide))

    def inputs(self, step: int) -> Batch:
        """Return the context of a step in the model and in the guide, where it is within a sequence, and its data."""
        first, within = self.batch[0], self.model.within
        counts = first.new_ones(len(first), dtype=torch.bool) if within is None else within[..., step].reshape(-1)
        tensors = (*self.model.context_of(step), *self.guide.context_of(step), counts)
        return tuple(tensor.contiguous() for tensor in (*tensors, *self.one_step(self.batch, step)))

    def conditional(self, chain: GaussianChain, z: Tensor | None, inputs: Batch) -> dist.Normal:
        """Return the Gaussians of a step given the latents of the step before it; None before the first step."""
        first = 0 if chain is self.model else len(self.model.context)
        context = inputs[first : first + len(chain.context)]
        return chain.conditional(None if z is None else z.reshape(len(z), *chain.batch_shape, -1), *context)

    def particles(self, value: Tensor) -> Tensor:
        """Return latents of a step that have the batch shape of a chain as ``(K, B, L)``."""
        return value.reshape(len(value), len(self.batch[0]), -1)

    def log_weight(
        self, before: Tensor | None, z: Tensor, inputs: Batch, posterior: dist.Normal | None = None
    ) -> Tensor:
        """Return the log weights ``(K, B)`` of latents of a step, whose Gaussians in the guide may be given."""
        program, structure = self.program, self.program.structure
        within, *data = inputs[len(self.model.context) + len(self.guide.context) :]
        value = structure.from_front(self.site, z[:, :, None], len(z))
        value = value[0] if structure.draws_by == "repeat" else value
        trace = program.run(program.model, tuple(data), len(z), {self.name: value})
        log_weight = structure.log_density(trace, len(z), leave_out=[self.name])
        prior, laid_out = self.conditional(self.model, before, inputs), z.reshape(len(z), *self.model.batch_shape, -1)
        for gaussians, sign in ((prior, 1), (posterior or self.conditional(self.guide, before, inputs), -1)):
            log_prob = gaussians.log_prob(laid_out).sum(-1)
            log_weight = log_weight + sign * log_prob.reshape(log_weight.shape)
        return torch.where(within, log_weight, 0.0)
