"""Per-sample inference: every datum has its own lambda, found by gradient steps; then theta takes one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.compile.compiler import Compiler
from ppl_vae.inference.amortized import Step
from ppl_vae.inference.ascent import Ascent
from ppl_vae.inference.families import Family
from ppl_vae.inference.local import Rows, refine
from ppl_vae.inference.objectives import Baseline, Gradient
from ppl_vae.inference.table import Epoch
from ppl_vae.program import Batch, BoundProgram, LatentSpace, SharedTerm

CHECK_DRAWS, CHECK_AT_ONCE, CHECK_LOWER = 16, 8, 14
"""Draws that tell whether a datum has come to a worse place than where it started, how many at once, and how many of
them need be lower: by chance, 14 are in one case of 500."""


class LocalSteps(NamedTuple):
    """How lambda is optimised."""

    num_steps: int = 20
    learning_rate: float = 0.2
    num_particles: int = 1
    gradient: Gradient = "reparam"
    baseline: Baseline = "leave-one-out"


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
        space: of the program.
        family: the variational family.
        batch: the data.
        rows: where each datum starts.
        local: how.
        compiler: runs the steps as a graph; one and the same for all batches.
        kl_weight: of the divergence from the prior, above zero; None is one.

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
def unless_worse(space: LatentSpace, family: Family, batch: Batch, start: Rows, found: Rows) -> Rows:
    r"""Where each datum has come to, or, where its ELBO is clearly lower there or not finite, where it started.

    Of 16 pairs of draws, the mean difference is more than three standard errors below zero, or it is below zero and 14
    of them are. Log q is computed from the noise (of a flow, by inverting it), so that a scale that is lost in rounding
    does not pass for a high ELBO. The caller's generator does not move.

    Args:
        space: of the program.
        family: the variational family.
        batch: the data.
        start: where each datum started.
        found: where it has come to.

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
            parts.append([_log_weights(space, family, batch, rows.lam, noise) for rows in (start, found)])
    before, after = (torch.cat(each).double() for each in zip(*parts, strict=True))
    gain = after - before
    mean, error = gain.mean(0), gain.std(0) / CHECK_DRAWS**0.5
    lower = (gain < 0).sum(0)  # of gains with a long tail, the error is as large as the mean
    worse = (mean < -3 * error) | ((mean < 0) & (lower >= CHECK_LOWER))
    keep = (torch.isfinite(after).all(0) & ~worse)[:, None]
    return Rows(*(torch.where(keep, new, old) for new, old in zip(found, start, strict=True)))


def _log_weights(space: LatentSpace, family: Family, batch: Batch, lam: Tensor, noise: Tensor) -> Tensor:
    u, log_q = family.draw(lam, noise)
    return space.log_joint(batch, u) - log_q


def at_prior(space: LatentSpace, family: Family, batch: Batch) -> Rows:
    """Lambda of the prior, for every datum of a batch."""
    with torch.no_grad():
        return Rows.at(family.start(*space.start(batch)))


def per_sample_steps(
    program: BoundProgram,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    space: LatentSpace,
    family: Family,
    local: LocalSteps = LocalSteps(),  # noqa: B008
    table: Epoch | None = None,
    kl_weight: float | Tensor | None = None,
    compiler: Compiler | None = None,
    clip_norm: float | None = None,
) -> Iterator[Step]:
    r"""For each batch, optimise the lambda of every datum for some steps with theta fixed; then step in theta.

    .. math::
        \lambda_i \leftarrow \arg\max_{\lambda} \mathcal L(x_i; \theta, \lambda) \text{ nearly}, \qquad
        \theta \leftarrow \theta + \rho\, \mathrm{Adam}\Bigl(\nabla_\theta \frac1B \sum_i
        \mathcal L(x_i; \theta, \lambda_i)\Bigr)

    Modules are in the mode, and Pyro validates, as the caller has set it, in the step in theta; lambda is optimised in
    evaluation mode.

    Source: Hoffman et al., Stochastic Variational Inference (2013), figure 4, with the local step by gradients, as in
    Ranganath, Gerrish and Blei, Black Box Variational Inference (2014).

    Args:
        program: the program; its guide, if it has one, has no part.
        batches: tuples of tensors, the arguments of ``model`` and, last, the number of each row in the data ``(B,)``.
        optimizer: over ``program.parameters()``.
        space: of the program.
        family: the variational family.
        local: how lambda is optimised, and how many draws per datum the objective has.
        table: where lambda starts, and where it is left; None starts every time at the prior.
        kl_weight: of the divergence from the prior, above zero, in both steps; None is one.
        compiler: runs both steps as graphs; one and the same for all epochs.
        clip_norm: gradients in theta of a larger norm are scaled down to it.

    Yields:
        Step: the ELBO of the batch at its lambda, nats per datum, before the step in theta.

    Example:
        >>> from ppl_vae.inference.families import Diagonal
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(8, 6)
        >>> program = Program(VAE(data_dim=6, latent_dim=2)).bind((x,))
        >>> space, batch = LatentSpace(program), (x, torch.arange(8))
        >>> adam = torch.optim.Adam(program.parameters().values(), lr=1e-2)
        >>> steps = list(per_sample_steps(program, [batch] * 30, adam, space=space, family=Diagonal(2)))
        >>> bool(steps[-1].elbo > steps[0].elbo)
        True
    """

    def objective(lam: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        return elbo_at(space, family, batch, lam, local.num_particles, kl_weight)

    ascend = Ascent(
        f"the step of {program.name} in theta", optimizer, compiler, module=program.module, clip_norm=clip_norm
    )
    for *data, numbers in batches:
        batch = tuple(data)
        rows = at_prior(space, family, batch)
        if table is not None:
            rows = table.read(numbers, rows)
        rows = infer(space, family, batch, rows, local, compiler, kl_weight)
        if table is not None:
            table.write(numbers, rows)
        yield Step(ascend(objective, rows.lam, *batch), len(numbers))


def weighted_log_joint(
    space: LatentSpace, batch: Batch, u: Tensor, kl_weight: float | Tensor | None, *, slope: bool = False
) -> Tensor:
    r"""What stands in the place of the log joint where the divergence has a weight.

    .. math:: \log p(u) + \frac1\beta \log p(x \mid u)

    Its ELBO is the weighted one divided by :math:`\beta`, of the same optimum in lambda.
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
    """The ELBO of a batch at lambda ``(B, P)``, nats per datum, and the same with the divergence weighted.

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
