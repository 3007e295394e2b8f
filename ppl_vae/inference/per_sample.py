"""Per-sample inference: every datum has its own lambda, found by gradient steps; then theta takes one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.inference.amortized import Step
from ppl_vae.inference.ascent import Ascent
from ppl_vae.inference.compiler import Compiler
from ppl_vae.inference.families import Family
from ppl_vae.inference.local import Rows, refine
from ppl_vae.inference.objectives import Baseline, Gradient
from ppl_vae.inference.table import Epoch
from ppl_vae.program import Batch, LatentSpace, Program, global_term


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
) -> Rows:
    """Optimise the lambda of every datum of a batch, theta fixed and the modules in evaluation mode.

    Args:
        space: of the program.
        family: the variational family.
        batch: the data.
        rows: where each datum starts.
        local: how.
        compiler: runs the steps as a graph; one and the same for all batches.

    Example:
        >>> from ppl_vae.inference.families import Full
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> program, x = Program(FactorAnalysis(data_dim=4, latent_dim=2)), torch.zeros(3, 4)
        >>> space, family = LatentSpace(program, (x,)), Full(2)
        >>> infer(space, family, (x,), at_prior(space, family, (x,)), LocalSteps(num_steps=5)).lam.shape
        torch.Size([3, 5])
    """

    def log_joint(u: Tensor, data: Batch) -> Tensor:
        return space.log_joint(data, u, slope=local.gradient == "reparam")

    with space.program.scope(training=False):
        return refine(log_joint, family, rows, batch, **local._asdict(), compiler=compiler, module=space.program.module)


def at_prior(space: LatentSpace, family: Family, batch: Batch) -> Rows:
    """Lambda of the prior, for every datum of a batch."""
    with torch.no_grad():
        return Rows.at(family.start(*space.start(batch)))


def per_sample_steps(
    program: Program,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    space: LatentSpace,
    family: Family,
    local: LocalSteps = LocalSteps(),  # noqa: B008
    table: Epoch | None = None,
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
        optimizer: over ``program.parameters(batch)``.
        space: of the program.
        family: the variational family.
        local: how lambda is optimised, and how many draws per datum the objective has.
        table: where lambda starts, and where it is left; None starts every time at the prior.
        compiler: runs both steps as graphs; one and the same for all epochs.
        clip_norm: gradients in theta of a larger norm are scaled down to it.

    Yields:
        Step: the ELBO of the batch at its lambda, nats per datum, before the step in theta.

    Example:
        >>> from ppl_vae.inference.families import Diagonal
        >>> from ppl_vae.models.vae import VAE
        >>> program, x = Program(VAE(data_dim=6, latent_dim=2)), torch.ones(8, 6)
        >>> space, batch = LatentSpace(program, (x,)), (x, torch.arange(8))
        >>> adam = torch.optim.Adam(program.parameters((x,)).values(), lr=1e-2)
        >>> steps = list(per_sample_steps(program, [batch] * 30, adam, space=space, family=Diagonal(2)))
        >>> bool(steps[-1].elbo > steps[0].elbo)
        True
    """

    def objective(lam: Tensor, *batch: Tensor) -> Tensor:
        return elbo_at(space, family, batch, lam, local.num_particles) + global_term(program)

    ascend = Ascent(
        f"the step of {program.name} in theta", optimizer, compiler, module=program.module, clip_norm=clip_norm
    )
    for *data, numbers in batches:
        batch = tuple(data)
        rows = at_prior(space, family, batch)
        if table is not None:
            rows = table.read(numbers, rows)
        rows = infer(space, family, batch, rows, local, compiler)
        if table is not None:
            table.write(numbers, rows)
        yield Step(ascend(objective, rows.lam, *batch), len(numbers))


def elbo_at(space: LatentSpace, family: Family, batch: Batch, lam: Tensor, num_particles: int) -> Tensor:
    """The ELBO of a batch at lambda ``(B, P)``, nats per datum: a scalar, differentiable in theta and in lambda."""
    noise = torch.randn(num_particles, len(lam), family.size).to(lam)
    u, log_q = family.draw(lam, noise)
    return (space.log_joint(batch, u) - log_q).mean()
