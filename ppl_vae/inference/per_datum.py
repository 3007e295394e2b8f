"""The common parts of per-sample and semi-amortized inference: the lambda of every datum as data, and its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compile.compiler import Compiler
from ppl_vae.errors import InputError
from ppl_vae.inference.families import Family, make_family
from ppl_vae.inference.local import Rows, refine
from ppl_vae.inference.method import Method, random_latents
from ppl_vae.inference.objectives import Baseline, Gradient
from ppl_vae.inference.options import Count, MethodOptions, Positive
from ppl_vae.program import Batch, BoundProgram, LatentSpace, SharedTerm, with_lambda, without_guide

FROM_PRIOR, FROM_AFAR, FROM_TABLE, FROM_ENCODER = 0.3, 0.1, 0.05, 0.02
"""Learning rates of the steps in lambda; they are smaller if lambda starts nearer to its optimum. If an encoder has
overfitted, a datum may start far from it."""
CHECK_DRAWS, CHECK_AT_ONCE, CHECK_LOWER = 16, 8, 14
"""The number of draws that show if the steps have made a datum worse, the number of draws at once, and the number of
draws that have to be lower: by chance, 14 are lower in one case of 500."""


class LocalSteps(NamedTuple):
    """The settings of the steps in lambda."""

    num_steps: int = 20
    learning_rate: float = 0.2
    num_particles: int = 1
    gradient: Gradient = "reparam"
    baseline: Baseline = "leave-one-out"


@dataclass(frozen=True)
class LocalOptions(MethodOptions):
    """The options of methods that take gradient steps in the lambda of every datum.

    Args:
        local_steps: number of gradient steps in the lambda of a datum each time training visits it. The default is 20.
        local_learning_rate: learning rate of these steps at their start. By default 0.3 if lambda starts at the prior,
            0.05 if it starts where the last visit left it, and 0.02 if it starts at an encoder's output.
        inference_steps: largest number of steps in the lambda of a datum that is evaluated by per-sample inference; a
            datum that has converged stops earlier. The default is 500.
    """

    local_steps: Count = 20
    local_learning_rate: Positive | None = None
    inference_steps: Count = 500

    def check(self) -> None:
        """Check that the values agree with each other; see ``MethodOptions.check``."""
        super().check()
        if self.kl_weight == 0:
            raise InputError("kl_weight is 0: the lambda of a datum has no optimum then; give it more")

    def steps(self, num_steps: int, learning_rate: float) -> LocalSteps:
        """Return this number of steps, at this learning rate unless ``local_learning_rate`` is set."""
        rate = learning_rate if self.local_learning_rate is None else self.local_learning_rate
        return LocalSteps(num_steps, rate, self.num_particles, self.gradient, self.baseline)


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

    def begin(self, batch: Batch) -> Batch:
        """See ``Method``."""
        return (*batch, at_prior(self.space, self.family, batch).lam)

    def describe_compilation(self, rows: int) -> str:
        """See ``Method``."""
        return f"steps in lambda {self.compiler.choice(rows, self.options.local_steps)}"


def infer(
    space: LatentSpace,
    family: Family,
    batch: Batch,
    rows: Rows,
    local: LocalSteps,
    compiler: Compiler | None = None,
    kl_weight: float | Tensor | None = None,
) -> Rows:
    """Optimise the lambda of every datum of a batch, theta fixed and the modules in evaluation mode.

    Args:
        space: the latent space of the program.
        family: the variational family.
        batch: the data.
        rows: the start of each datum.
        local: the settings of the steps.
        compiler: a compiler that runs the steps as a graph, the same one for all batches.
        kl_weight: the weight of the divergence from the prior, above zero; None is one.

    Example:
        >>> from ppl_vae.inference.families import Full
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 4)
        >>> space, family = LatentSpace(Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,))), Full(2)
        >>> infer(space, family, (x,), at_prior(space, family, (x,)), LocalSteps(num_steps=5)).lam.shape
        torch.Size([3, 5])
    """

    def log_joint(u: Tensor, data: Batch) -> Tensor:
        return weighted_log_joint(space, data, u, kl_weight, slope=local.gradient == "reparam")

    with space.program.running(training=False):
        return refine(log_joint, family, rows, batch, **local._asdict(), compiler=compiler, module=space.program.module)


@torch.no_grad()
def unless_worse(space: LatentSpace, family: Family, batch: Batch, start: Rows, end: Rows) -> Rows:
    r"""Return where each datum ended, or where it started if its ELBO at the end is clearly lower or not finite.

    It is clearly lower if, in 16 pairs of draws, the mean difference is more than three standard errors below zero, or
    if the mean and 14 of the differences are below zero. Log q is computed from the noise (for a flow, by its inverse),
    so that a scale that is lost in rounding does not look like a high ELBO. The caller's generator does not move.

    Args:
        space: the latent space of the program.
        family: the variational family.
        batch: the data.
        start: the start of each datum.
        end: the end of each datum.

    Example:
        >>> from ppl_vae.inference.families import Diagonal
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(2, 4)
        >>> space, family = LatentSpace(Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,))), Diagonal(2)
        >>> start = at_prior(space, family, (x,))
        >>> far = Rows.at(torch.tensor([[1e3, 0.0, 0.0, 0.0], [0.0, 0.0, -0.1, -0.1]]))
        >>> unless_worse(space, family, (x,), start, far).lam[:, 0].tolist()
        [0.0, 0.0]
    """
    generator = torch.Generator(start.lam.device).manual_seed(0)
    parts = []
    with space.program.running(training=False):
        for _ in range(CHECK_DRAWS // CHECK_AT_ONCE):
            shape = (CHECK_AT_ONCE, 1, family.size)
            noise = torch.randn(shape, generator=generator, dtype=start.lam.dtype, device=start.lam.device)
            parts.append([_log_weights(space, family, batch, rows.lam, noise) for rows in (start, end)])
    before, after = (torch.cat(values).double() for values in zip(*parts, strict=True))
    gain = after - before
    mean, error = gain.mean(0), gain.std(0) / CHECK_DRAWS**0.5
    lower = (gain < 0).sum(0)  # if the gains have a long tail, their error is as large as their mean
    worse = (mean < -3 * error) | ((mean < 0) & (lower >= CHECK_LOWER))
    keep = (torch.isfinite(after).all(0) & ~worse)[:, None]
    return Rows(*(torch.where(keep, new, old) for new, old in zip(end, start, strict=True)))


def _log_weights(space: LatentSpace, family: Family, batch: Batch, lam: Tensor, noise: Tensor) -> Tensor:
    u, log_q = family.draw(lam, noise)
    return space.log_joint(batch, u) - log_q


def at_prior(space: LatentSpace, family: Family, batch: Batch) -> Rows:
    """Return the lambda of the prior, for every datum of a batch."""
    with torch.no_grad():
        return Rows.at(family.start(*space.start(batch)))


def weighted_log_joint(
    space: LatentSpace, batch: Batch, u: Tensor, kl_weight: float | Tensor | None, *, slope: bool = False
) -> Tensor:
    r"""Return the log joint, or what replaces it if the divergence has a weight.

    .. math:: \log p(u) + \frac1\beta \log p(x \mid u)

    Its ELBO is the weighted one divided by :math:`\beta`, with the same optimum in lambda.
    """
    if kl_weight is None:
        return space.log_joint(batch, u, slope=slope)
    log_prior, log_joint = space.log_densities(batch, u, "prior")
    return log_prior + (log_joint - log_prior) / kl_weight


def elbo_at(
    space: LatentSpace,
    family: Family,
    batch: Batch,
    lam: Tensor,
    num_particles: int,
    kl_weight: float | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the ELBO of a batch at lambda ``(B, P)``, nats per datum, and the ELBO with a weighted divergence.

    Both are scalars, differentiable in theta and in lambda.
    """
    noise = torch.randn(num_particles, len(lam), family.size).to(lam)
    u, log_q = family.draw(lam, noise)
    with SharedTerm(space.program.global_posterior) as shared:
        if kl_weight is None:
            reported = ascended = (space.log_joint(batch, u) - log_q).mean()
        else:
            log_prior, log_joint = space.log_densities(batch, u, "prior")
            reported = (log_joint - log_q).mean()
            ascended = (log_joint - log_prior + kl_weight * (log_prior - log_q)).mean()
    return reported + shared.value, ascended + shared.value
