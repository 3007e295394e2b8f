"""The common parts of per-sample and semi-amortized inference: the lambda of every datum as data, and its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compile.compiler import Compiler
from ppl_vae.errors import InputError
from ppl_vae.inference.families import Family, make_family
from ppl_vae.inference.local import LocalSteps, LogJoint, Rows, refine
from ppl_vae.inference.method import Method, random_latents
from ppl_vae.inference.options import Count, MethodOptions, Positive
from ppl_vae.inference.settling import MOST_STEPS, Settling, settle
from ppl_vae.program import (
    Batch,
    BoundProgram,
    DerivedGuide,
    FactorTerm,
    LatentSpace,
    SharedDraws,
    with_lambda,
    without_guide,
)

FROM_PRIOR, FROM_AFAR, FROM_TABLE, FROM_ENCODER = 0.3, 0.1, 0.05, 0.02
"""Learning rates of the steps in lambda; they are smaller if lambda starts nearer to its optimum. If an encoder has
overfitted, a datum may start far from it."""
InferenceSteps = Count | Literal["auto"]
"""The number of steps in the lambda of a datum in evaluation, or "auto" for steps until it has settled."""
CHECK_DRAWS, CHECK_AT_ONCE, CHECK_LOWER = 16, 8, 14
"""The number of draws that show if the steps have made a datum worse, the number of draws at once, and the number of
draws that have to be lower: by chance, 14 are lower in one case of 500."""


@dataclass(frozen=True)
class LocalOptions(MethodOptions):
    """The options of methods that take gradient steps in the lambda of every datum.

    Args:
        local_steps: number of gradient steps in lambda per visit. Training takes them in the lambda of a datum, its own
            variational parameters, each time it visits the datum. The default is 20.
        local_learning_rate: learning rate of these steps. It is the rate at their start. The default is 0.3 if lambda
            starts at the prior, 0.05 if it starts where the last visit left it, and 0.02 if it starts at an encoder's
            output.
        inference_steps: number of steps in evaluation, or auto. Per-sample inference takes them in the lambda of a
            datum that is evaluated; a datum that has converged stops earlier. The default is 500. With "auto", a datum
            takes steps until the average of its lambda has settled, at most 5000, and evaluation reports those that
            have not.
    """

    group: ClassVar[str] = "local inference"
    local_steps: Count = 20
    local_learning_rate: Positive | None = None
    inference_steps: InferenceSteps = 500

    def check(self) -> None:
        """Check that the values agree with each other; see ``MethodOptions.check``."""
        super().check()
        if self.kl_weight == 0:
            raise InputError("kl_weight is 0: the lambda of a datum has no optimum then; give it more")

    def steps(self, num_steps: int, learning_rate: float) -> LocalSteps:
        """Return this number of steps, at this learning rate unless ``local_learning_rate`` is set."""
        rate = learning_rate if self.local_learning_rate is None else self.local_learning_rate
        return LocalSteps(num_steps, rate, self.num_particles, self.gradient, self.baseline)


@dataclass(frozen=True)
class LocalElbo:
    """The ELBO of every datum as a function of its lambda, and the steps up it.

    Args:
        space: the latent space of the program.
        family: the variational family.
        compiler: a compiler that runs the steps as a graph, the same one for all batches. By default they run in
            Python.
        kl_weight: the weight of the divergence from the prior, above zero; None is one.

    Example:
        >>> from ppl_vae.inference.families import Full
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 4)
        >>> local = LocalElbo(LatentSpace(Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,))), Full(2))
        >>> local.ascend((x,), local.at_prior((x,)), LocalSteps(num_steps=5)).lam.shape
        torch.Size([3, 5])
    """

    space: LatentSpace
    family: Family
    compiler: Compiler | None = None
    kl_weight: float | Tensor | None = None

    @torch.no_grad()
    def at_prior(self, batch: Batch) -> Rows:
        """Return the lambda of the prior, for every datum of a batch."""
        return Rows.at(self.family.start(*self.space.start(batch)))

    def at_guide(self, program: BoundProgram, batch: Batch) -> Tensor:
        """Return lambda ``(B, P)`` at the output of a program's guide, differentiable in phi.

        If the guide has another family, it is that of a Gaussian with the guide's moments.
        """
        guide = program.guide
        if not isinstance(guide, DerivedGuide):
            return self.family.start(*self.space.start(batch, guide))
        _, lam = guide.parameters(*batch)
        guide_family: Family = guide.distribution.__self__  # type: ignore[attr-defined]
        if type(guide_family) is type(self.family):
            return lam
        draws = guide_family.draw(lam, torch.randn(256, 1, self.family.size).to(lam))[0]
        return self.family.start(draws.mean(0), draws.std(0))

    def log_joint(self, batch: Batch, u: Tensor, *, slope: bool = False) -> Tensor:
        r"""Return the log joint, or what replaces it if the divergence has a weight.

        .. math:: \log p(u) + \frac1\beta \log p(x \mid u)

        Its ELBO is the weighted one divided by :math:`\beta`, with the same optimum in lambda.
        """
        if self.kl_weight is None:
            return self.space.log_joint(batch, u, slope=slope)
        log_prior, log_joint = self.space.log_densities(batch, u, "prior")
        return log_prior + (log_joint - log_prior) / self.kl_weight

    def ascend(self, batch: Batch, rows: Rows, steps: LocalSteps) -> Rows:
        """Optimise the lambda of every datum of a batch, theta fixed and the modules in evaluation mode.

        Args:
            batch: the data.
            rows: the start of each datum.
            steps: the settings of the steps.
        """

        program, log_joint = self.space.program, self._density_for(steps)
        with program.running(training=False):
            return refine(log_joint, self.family, rows, batch, steps, compiler=self.compiler, module=program.module)

    def settle(self, batch: Batch, rows: Rows, steps: LocalSteps) -> tuple[Rows, Settling]:
        """Optimise as ``ascend`` does until the lambda of every datum has settled, and report how; see ``settle``."""
        program, log_joint = self.space.program, self._density_for(steps)
        with program.running(training=False):
            return settle(log_joint, self.family, rows, batch, steps, compiler=self.compiler, module=program.module)

    def _density_for(self, steps: LocalSteps) -> LogJoint:
        def log_joint(u: Tensor, data: Batch) -> Tensor:
            return self.log_joint(data, u, slope=steps.gradient == "reparam")

        return log_joint

    @torch.no_grad()
    def unless_worse(self, batch: Batch, start: Rows, end: Rows) -> Rows:
        r"""Return where each datum ended, or where it started if its ELBO at the end is clearly lower or not finite.

        It is clearly lower if, in 16 pairs of draws, the mean difference is more than three standard errors below zero,
        or if the mean and 14 of the differences are below zero. Log q is computed from the noise (for a flow, by its
        inverse), so that a scale that is lost in rounding does not look like a high ELBO. The caller's generator does
        not move. The divergence has no weight.

        Args:
            batch: the data.
            start: the start of each datum.
            end: the end of each datum.

        Example:
            >>> from ppl_vae.inference.families import Diagonal
            >>> from ppl_vae.models.factor_analysis import FactorAnalysis
            >>> from ppl_vae.program import Program
            >>> x = torch.zeros(2, 4)
            >>> program = Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,))
            >>> local = LocalElbo(LatentSpace(program), Diagonal(2))
            >>> far = Rows.at(torch.tensor([[1e3, 0.0, 0.0, 0.0], [0.0, 0.0, -0.1, -0.1]]))
            >>> local.unless_worse((x,), local.at_prior((x,)), far).lam[:, 0].tolist()
            [0.0, 0.0]
        """
        like, parts = start.lam, []
        generator = torch.Generator(like.device).manual_seed(0)
        with self.space.program.running(training=False):
            for _ in range(CHECK_DRAWS // CHECK_AT_ONCE):
                shape = (CHECK_AT_ONCE, 1, self.family.size)
                noise = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
                parts.append([self._log_weights(batch, rows.lam, noise) for rows in (start, end)])
        before, after = (torch.cat(values).double() for values in zip(*parts, strict=True))
        gain = after - before
        mean, error = gain.mean(0), gain.std(0) / CHECK_DRAWS**0.5
        lower = (gain < 0).sum(0)  # if the gains have a long tail, their error is as large as their mean
        worse = (mean < -3 * error) | ((mean < 0) & (lower >= CHECK_LOWER))
        keep = (torch.isfinite(after).all(0) & ~worse)[:, None]
        return Rows(*(torch.where(keep, new, old) for new, old in zip(end, start, strict=True)))

    def _log_weights(self, batch: Batch, lam: Tensor, noise: Tensor) -> Tensor:
        u, log_q = self.family.draw(lam, noise)
        return self.space.log_joint(batch, u) - log_q

    def at(self, lam: Tensor, batch: Batch, num_particles: int) -> tuple[Tensor, Tensor]:
        """Return the ELBO of a batch at lambda ``(B, P)``, nats per datum, and the ELBO with a weighted divergence.

        Both are scalars, differentiable in theta and in lambda.
        """
        noise = torch.randn(num_particles, len(lam), self.family.size).to(lam)
        program = self.space.program
        with FactorTerm(program.shared_factors) as factors, SharedDraws(program.global_posterior) as shared:
            if self.kl_weight is None:
                reported = ascended = self._log_weights(batch, lam, noise).mean()
            else:
                u, log_q = self.family.draw(lam, noise)
                log_prior, log_joint = self.space.log_densities(batch, u, "prior")
                reported = (log_joint - log_q).mean()
                ascended = (log_joint - log_prior + self.kl_weight * (log_prior - log_q)).mean()
        of_all = shared.value + factors.value
        return reported + of_all, ascended + of_all


class FoundLambda(NamedTuple):
    """The lambda of every datum of a batch, and how it has settled."""

    lam: Tensor
    """``(B, P)``."""
    settling: Settling | None = None
    """None if the number of steps is fixed."""


class LambdaMethod(Method):
    """A method whose posterior takes the lambda of every datum as data.

    It raises ``InputError`` if no latent of the program is continuous and belongs to a datum.
    """

    lambda_is_data = True
    options: LocalOptions

    def __init__(
        self, program: BoundProgram, template: Batch, options: LocalOptions, arrays: Sequence[np.ndarray] | None = None
    ) -> None:
        super().__init__(program, template, options, arrays)
        bare = without_guide(self.program)
        if not random_latents(bare):
            raise InputError(
                f"no latent of {program.name} is continuous and a datum's own, so that there is no lambda to optimise: "
                f"discrete latents are summed out; fit it with --guide amortized"
            )
        self.space = LatentSpace(bare)
        self.family = make_family(options.family, self.space.size)
        self.posterior = with_lambda(self.space, self.family.distribution, self.begin(template)[-1])

    @property
    def local(self) -> LocalElbo:
        """The ELBO of every datum that is evaluated; its divergence has no weight."""
        return LocalElbo(self.space, self.family, self.compiler)

    def begin(self, batch: Batch) -> Batch:
        """See ``Method``."""
        return (*batch, self.local.at_prior(batch).lam)

    def find(self, batch: Batch) -> FoundLambda:
        """Find the lambda of every datum of a batch."""
        raise NotImplementedError

    def infer(self, batch: Batch) -> Batch:
        """See ``Method``."""
        return (*batch, self.find(batch).lam)

    def optimise(self, batch: Batch, start: Rows, learning_rate: float) -> FoundLambda:
        """Take the steps of evaluation from a start, where a datum stays if they make it worse."""
        options, settling = self.options, None
        if options.inference_steps == "auto":
            end, settling = self.local.settle(batch, start, options.steps(MOST_STEPS, learning_rate))
        else:
            end = self.local.ascend(batch, start, options.steps(options.inference_steps, learning_rate))
        lam = self.local.unless_worse(batch, start, end).lam
        if settling is not None:
            settling = settling._replace(settled=settling.settled & (lam == end.lam).all(-1))
        return FoundLambda(lam, settling)

    def describe_compilation(self, rows: int) -> str:
        """See ``Method``."""
        return f"steps in lambda {self.compiler.choice(rows, self.options.local_steps)}"
