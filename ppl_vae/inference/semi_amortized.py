"""Semi-amortized inference: lambda starts at the encoder's output and takes some gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.inference.adam import AdamState, Rates, adam
from ppl_vae.inference.ascent import Ascent
from ppl_vae.inference.families import Family
from ppl_vae.inference.local import BETAS, LocalSteps, Rows, cosine
from ppl_vae.inference.method import Step
from ppl_vae.inference.per_datum import FROM_ENCODER, FoundLambda, LambdaMethod, LocalElbo, LocalOptions
from ppl_vae.parallel import ALONE, Ranks
from ppl_vae.program import Batch, BoundProgram

EncoderObjective = Literal["initial", "refined"]


@dataclass(frozen=True)
class SemiAmortizedOptions(LocalOptions):
    """The options of semi-amortized inference.

    Args:
        encoder_objective: objective of the encoder. "initial" is the ELBO at the encoder's own output. "refined" is the
            ELBO after the steps in lambda, through which the gradient then goes; a step costs about three times as
            much.
    """

    encoder_objective: EncoderObjective = "initial"

    def check(self) -> None:
        """Check that the values agree with each other; see ``MethodOptions.check``."""
        if (self.encoder_objective, self.gradient) == ("refined", "score-function"):
            raise InputError("the refined objective is differentiated along the path: --gradient reparam, or initial")
        super().check()


class SemiAmortized(LambdaMethod):
    """A method whose lambda starts at f(x; phi) and takes some gradient steps."""

    Options = SemiAmortizedOptions
    options: SemiAmortizedOptions

    def find(self, batch: Batch) -> FoundLambda:
        """See ``LambdaMethod``."""
        steps = self.options.steps(self.options.local_steps, FROM_ENCODER)
        return FoundLambda(self.local.ascend(batch, self.encoded(batch), steps).lam)

    def encoded(self, batch: Batch) -> Rows:
        """Return the rows of lambda at the encoder's output."""
        with torch.no_grad(), self.program.running(training=False):
            return Rows.at(self.local.at_guide(self.program, batch))

    def describe_posterior(self) -> str:
        """See ``Method``."""
        start = f"{self._guide_in_words} gives the start of the posterior of a datum, {self._family_in_words}"
        return f"{start}; {self.options.local_steps} gradient steps refine it."

    def steps(self, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        """See ``Method``."""
        self.options.set_kl_weight(self.kl_weight, epoch)
        return semi_amortized_steps(
            self.program,
            batches,
            optimizer,
            replace(self.local, kl_weight=self.kl_weight),
            self.options.steps(self.options.local_steps, FROM_ENCODER),
            encoder_objective=self.options.encoder_objective,
            clip_norm=self.options.clip_norm,
            ranks=self.ranks,
        )


def semi_amortized_steps(
    program: BoundProgram,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    local: LocalElbo,
    steps: LocalSteps = LocalSteps(),  # noqa: B008
    *,
    encoder_objective: EncoderObjective = "initial",
    clip_norm: float | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Step]:
    r"""Encode, refine, and step in theta at the refined lambda; phi follows one of two objectives.

    .. math::
        \lambda^{(0)}_i = f_\phi(x_i), \qquad \lambda^{(T)}_i = \mathrm{refine}(\lambda^{(0)}_i), \qquad
        \nabla_\theta \mathcal L(x_i; \theta, \lambda^{(T)}_i), \qquad
        \nabla_\phi \mathcal L(x_i; \theta, \lambda^{(0)}_i) \text{ or } \nabla_\phi \mathcal L(x_i; \theta,
        \lambda^{(T)}_i)

    ``"initial"`` trains the encoder as amortized inference does, whereas the decoder is trained at the refined lambda.
    ``"refined"`` differentiates through the refinement with constant divisors of Adam; theta then has this gradient as
    well. A step costs about three times as much.

    Source: Kim et al., Semi-Amortized Variational Autoencoders (2018), algorithm 1, for ``"refined"``; Hjelm et al.,
    Iterative Refinement of the Approximate Posterior for Directed Belief Networks (2016), for ``"initial"``.

    Args:
        program: the program, with its encoder.
        batches: tuples of tensors, the arguments of ``model``.
        optimizer: an optimiser of ``program.parameters()``.
        local: the ELBO as a function of lambda, in the latent space of the program's model. The weight of its
            divergence acts in all steps, and its compiler, the same one in all epochs, runs them as graphs. The steps
            through which ``"refined"`` differentiates would make one large graph; they run in Python.
        steps: the settings of the steps in lambda.
        encoder_objective: the objective of phi.
        clip_norm: largest norm of the gradient; a larger gradient is scaled down to it.
        ranks: the processes that take every step together, each with its own part of the batch.

    Yields:
        Step: the ELBO of the batch at the refined lambda, nats per datum, before the step.

    Example:
        >>> from ppl_vae.inference.families import Diagonal
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import LatentSpace, Program
        >>> x = torch.ones(8, 6)
        >>> program = Program(VAE(data_dim=6, latent_dim=2)).bind((x,))
        >>> local = LocalElbo(LatentSpace(program), Diagonal(2))
        >>> adam = torch.optim.Adam(program.parameters().values(), lr=1e-2)
        >>> steps = list(semi_amortized_steps(program, [(x,)] * 30, adam, local, LocalSteps(num_steps=5)))
        >>> bool(steps[-1].elbo > steps[0].elbo)
        True
    """

    def encode(batch: Batch) -> Tensor:
        with program.running():
            return local.at_guide(program, batch)

    def initial(lam: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        first = encode(batch)
        start = first.detach().requires_grad_()
        _, bound = local.at(start, batch, steps.num_particles)
        (gradient,) = torch.autograd.grad(bound, start)
        reported, ascended = local.at(lam, batch, steps.num_particles)
        return reported, ascended + (gradient * first).sum()

    def refined(*batch: Tensor) -> tuple[Tensor, Tensor]:
        first = encode(batch)
        with program.running(training=False):
            lam = unrolled(partial(local.log_joint, batch), local.family, first, steps)
        return local.at(lam, batch, steps.num_particles)

    name, compiler = f"the step of {program.name}", local.compiler
    if encoder_objective == "refined" and compiler is not None:
        compiler.refuse(name, "the refined objective is too large for a graph")
        compiler = None
    ascend = Ascent(name, optimizer, compiler, module=program.module, clip_norm=clip_norm, ranks=ranks)
    for batch in batches:
        if encoder_objective == "refined":
            value = ascend(refined, *batch)
        else:
            with torch.no_grad():
                start = Rows.at(encode(batch))
            value = ascend(initial, local.ascend(batch, start, steps).lam, *batch)
        yield Step(value, len(batch[0]))


def unrolled(log_joint: Callable[[Tensor], Tensor], family: Family, lam: Tensor, steps: LocalSteps) -> Tensor:
    r"""Refine lambda as ``refine`` does, as a differentiable function of its start and of theta.

    .. math:: \lambda^{(t+1)} = \lambda^{(t)} + \rho_t\, \hat m_t / \overline{(\sqrt{\hat v_t} + \epsilon)}

    The term under the bar is held constant.

    Args:
        log_joint: function that returns log p(x, u), ``(K, B)``, at points ``(K, B, D)``.
        family: the variational family.
        lam: lambda at the start, ``(B, P)``.
        steps: the settings of the steps.
    """
    moments, (first, second) = AdamState(torch.zeros_like(lam), torch.zeros_like(lam)), BETAS
    for number in range(steps.num_steps):
        noise = torch.randn(steps.num_particles, 1, family.size).to(lam)
        at = lam if lam.requires_grad else lam.detach().requires_grad_()
        u, _ = family.draw(at, noise)
        elbo = (log_joint(u) - family.distribution(at).log_prob(u)).mean(0)
        (force,) = torch.autograd.grad(elbo.sum(), u, create_graph=True)  # along the path alone, as in refine
        (gradient,) = torch.autograd.grad(u, at, force, create_graph=True)
        rate = steps.learning_rate * cosine(number, steps.num_steps) * family.pace.to(lam)
        corrected, root = rate / (1 - first ** (number + 1)), (1 - second ** (number + 1)) ** -0.5
        moments, step = adam(moments, gradient, Rates(1 - first, 1 - second, corrected, root))
        lam = at + step
    return lam
