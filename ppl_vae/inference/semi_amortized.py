"""Semi-amortized inference: lambda starts at the encoder's output and takes some gradient steps of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ppl_vae.compile.compiler import Compiler
from ppl_vae.inference.amortized import Step
from ppl_vae.inference.ascent import Ascent
from ppl_vae.inference.families import Family
from ppl_vae.inference.local import BETAS, EPSILON, Rows, cosine
from ppl_vae.inference.per_sample import LocalSteps, elbo_at, infer, weighted_log_joint
from ppl_vae.program import Batch, BoundProgram, LatentSpace

EncoderObjective = Literal["initial", "refined"]


def semi_amortized_steps(
    program: BoundProgram,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    space: LatentSpace,
    family: Family,
    encode: Callable[[Batch], Tensor],
    local: LocalSteps = LocalSteps(),  # noqa: B008
    encoder_objective: EncoderObjective = "initial",
    kl_weight: float | Tensor | None = None,
    compiler: Compiler | None = None,
    clip_norm: float | None = None,
) -> Iterator[Step]:
    r"""Encode, refine, and step in theta at the refined lambda; phi follows one of two objectives.

    .. math::
        \lambda^{(0)}_i = f_\phi(x_i), \qquad \lambda^{(T)}_i = \mathrm{refine}(\lambda^{(0)}_i), \qquad
        \nabla_\theta \mathcal L(x_i; \theta, \lambda^{(T)}_i), \qquad
        \nabla_\phi \mathcal L(x_i; \theta, \lambda^{(0)}_i) \text{ or } \nabla_\phi \mathcal L(x_i; \theta,
        \lambda^{(T)}_i)

    ``"initial"`` trains the encoder as amortized inference does, beside the decoder of the refined one.
    ``"refined"`` differentiates through the refinement, Adam's divisors being held constant: theta, too, then has the
    gradient through it. A step costs about three times as much.

    Source: Kim et al., Semi-Amortized Variational Autoencoders (2018), algorithm 1, for ``"refined"``; Hjelm et al.,
    Iterative Refinement of the Approximate Posterior for Directed Belief Networks (2016), for ``"initial"``.

    Args:
        program: the program, with its encoder.
        batches: tuples of tensors, the arguments of ``model``.
        optimizer: over ``program.parameters()``.
        space: of the program's model.
        family: the variational family.
        encode: from a batch to the lambda of every datum ``(B, P)``, differentiable in phi.
        local: how lambda is refined.
        encoder_objective: what phi ascends.
        kl_weight: of the divergence from the prior, above zero, in all steps; None is one.
        compiler: runs the steps as graphs; one and the same for all epochs. All the steps that ``"refined"``
            differentiates through would be one large graph: they are left to Python.
        clip_norm: gradients of a larger norm are scaled down to it.

    Yields:
        Step: the ELBO of the batch at the refined lambda, nats per datum, before the step.

    Example:
        >>> from ppl_vae.inference.families import Diagonal
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x, family = torch.ones(8, 6), Diagonal(2)
        >>> program = Program(VAE(data_dim=6, latent_dim=2)).bind((x,))
        >>> space = LatentSpace(program)
        >>> def encode(batch):
        ...     return family.start(*space.start(batch, program.guide))
        >>> adam = torch.optim.Adam(program.parameters().values(), lr=1e-2)
        >>> steps = list(semi_amortized_steps(program, [(x,)] * 30, adam, space=space, family=family, encode=encode))
        >>> bool(steps[-1].elbo > steps[0].elbo)
        True
    """

    def initial(lam: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        with program.running():
            first = encode(batch)
        at = first.detach().requires_grad_()
        _, there = elbo_at(space, family, batch, at, local.num_particles, kl_weight)
        (gradient,) = torch.autograd.grad(there, at)
        reported, ascended = elbo_at(space, family, batch, lam, local.num_particles, kl_weight)
        return reported, ascended + (gradient * first).sum()

    def refined(*batch: Tensor) -> tuple[Tensor, Tensor]:
        with program.running():
            first = encode(batch)
        with program.running(training=False):
            lam = unrolled(partial(weighted_log_joint, space, batch, kl_weight=kl_weight), family, first, local)
        return elbo_at(space, family, batch, lam, local.num_particles, kl_weight)

    name = f"the step of {program.name}"
    if encoder_objective == "refined":
        if compiler is not None:
            compiler.refuse(name, "the refined objective is too large for a graph")
        compiler = None
    ascend = Ascent(name, optimizer, compiler, module=program.module, clip_norm=clip_norm)
    for batch in batches:
        if encoder_objective == "refined":
            value = ascend(refined, *batch)
        else:
            with torch.no_grad(), program.running():
                start = Rows.at(encode(batch))
            value = ascend(initial, infer(space, family, batch, start, local, compiler, kl_weight).lam, *batch)
        yield Step(value, len(batch[0]))


def unrolled(log_joint: Callable[[Tensor], Tensor], family: Family, lam: Tensor, local: LocalSteps) -> Tensor:
    r"""``refine`` as a differentiable function of where it starts, and of theta.

    .. math:: \lambda^{(t+1)} = \lambda^{(t)} + \rho_t\, \hat m_t / \overline{(\sqrt{\hat v_t} + \epsilon)}

    What is under the bar is held constant.

    Args:
        log_joint: log p(x, u) at points ``(K, B, D)``: ``(K, B)``.
        family: the variational family.
        lam: ``(B, P)``.
        local: how many steps, how long, how many draws.
    """
    mean, square = torch.zeros_like(lam), torch.zeros_like(lam)
    for number in range(local.num_steps):
        noise = torch.randn(local.num_particles, 1, family.size).to(lam)
        at = lam if lam.requires_grad else lam.detach().requires_grad_()
        u, _ = family.draw(at, noise)
        elbo = (log_joint(u) - family.distribution(at).log_prob(u)).mean(0)
        (force,) = torch.autograd.grad(elbo.sum(), u, create_graph=True)  # at fixed lambda: the path alone, as refine
        (gradient,) = torch.autograd.grad(u, at, force, create_graph=True)
        mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
        square = BETAS[1] * square + (1 - BETAS[1]) * gradient.detach().square()
        scale = (square / (1 - BETAS[1] ** (number + 1))).sqrt() + EPSILON
        rate = local.learning_rate * cosine(number, local.num_steps) * family.pace.to(lam)
        lam = at + rate * mean / (1 - BETAS[0] ** (number + 1)) / scale
    return lam
