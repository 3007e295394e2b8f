"""Per-sample inference: every datum has its own lambda, found by gradient steps; then theta takes one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_vae.inference.ascent import Ascent
from ppl_vae.inference.local import LocalSteps
from ppl_vae.inference.method import Step
from ppl_vae.inference.per_datum import FROM_PRIOR, FROM_TABLE, FoundLambda, LambdaMethod, LocalElbo, LocalOptions
from ppl_vae.inference.settling import MOST_STEPS
from ppl_vae.inference.table import Table, TableView
from ppl_vae.parallel import ALONE, Ranks
from ppl_vae.program import Batch, BoundProgram


@dataclass(frozen=True)
class PerSampleOptions(LocalOptions):
    """The options of per-sample inference.

    Args:
        warm_start: start lambda where the last visit left it. The default is false: the lambda of a datum starts at the
            prior at every visit.
    """

    warm_start: bool = False


class PerSample(LambdaMethod):
    """Every datum has its own lambda; a guide that the program has is not used."""

    Options = PerSampleOptions
    options: PerSampleOptions
    uses_guide, numbered = False, True

    def remember(self, num_train: int, num_valid: int) -> None:
        """See ``Method``."""
        sizes = {"train": num_train if self.options.warm_start else 0, "valid": num_valid}
        dtype = next((p.dtype for p in self.program.module.parameters()), torch.get_default_dtype())
        self.tables = {part: Table(size, self.family.width, dtype) for part, size in sizes.items() if size}

    def find(self, batch: Batch) -> FoundLambda:
        """See ``LambdaMethod``."""
        return self.optimise(batch, self.local.at_prior(batch), FROM_PRIOR)

    def validate(self, batch: Batch, epoch: int) -> Batch:
        """See ``Method``."""
        *data, numbers = batch
        table, start = self.tables["valid"].epoch(epoch), self.local.at_prior(tuple(data))
        steps = self.options.steps(self.options.local_steps, FROM_TABLE)
        rows = self.local.ascend(tuple(data), table.read(numbers, start), steps)
        table.write(numbers, rows)
        return (*data, rows.lam)

    def describe_posterior(self) -> str:
        """See ``Method``."""
        steps = self.options.inference_steps
        limit = (
            f"at most {MOST_STEPS} gradient steps, until it settles"
            if steps == "auto"
            else f"at most {steps} gradient steps of its own"
        )
        return f"The posterior of every datum, {self._family_in_words}, is found by {limit}."

    def steps(self, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        """See ``Method``."""
        self.options.set_kl_weight(self.kl_weight, epoch)
        table = self.tables["train"].epoch(epoch) if "train" in self.tables else None
        steps = self.options.steps(self.options.local_steps, FROM_PRIOR if table is None else FROM_TABLE)
        return per_sample_steps(
            self.program,
            batches,
            optimizer,
            replace(self.local, kl_weight=self.kl_weight),
            steps,
            table=table,
            clip_norm=self.options.clip_norm,
            ranks=self.ranks,
        )


def per_sample_steps(
    program: BoundProgram,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    local: LocalElbo,
    steps: LocalSteps = LocalSteps(),  # noqa: B008
    *,
    table: TableView | None = None,
    clip_norm: float | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Step]:
    r"""Optimise the lambda of every datum of a batch for some steps with theta fixed; then take one step in theta.

    .. math::
        \lambda_i \leftarrow \arg\max_{\lambda} \mathcal L(x_i; \theta, \lambda) \text{ nearly}, \qquad
        \theta \leftarrow \theta + \rho\, \mathrm{Adam}\Bigl(\nabla_\theta \frac1B \sum_i
        \mathcal L(x_i; \theta, \lambda_i)\Bigr)

    In the step in theta, the caller decides the mode of the modules and Pyro's validation. Lambda is optimised in
    evaluation mode.

    Source: Hoffman et al., Stochastic Variational Inference (2013), figure 4, with the local step by gradients, as in
    Ranganath, Gerrish and Blei, Black Box Variational Inference (2014).

    Args:
        program: the program; its guide, if it has one, is not used.
        batches: tuples of tensors, the arguments of ``model`` and, last, the number of each row in the data ``(B,)``.
        optimizer: an optimiser of ``program.parameters()``.
        local: the ELBO as a function of lambda. The weight of its divergence acts in both steps, and its compiler, the
            same one in all epochs, runs both as graphs.
        steps: the settings of the steps in lambda, and the number of draws per datum in the objective.
        table: a table from which each lambda starts and to which it is written; None always starts at the prior.
        clip_norm: largest norm of the gradient in theta; a larger gradient is scaled down to it.
        ranks: the processes that take every step in theta together, each with its own data and their lambda.

    Yields:
        Step: the ELBO of the batch at its lambda, nats per datum, before the step in theta.

    Example:
        >>> from ppl_vae.inference.families import Diagonal
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import LatentSpace, Program
        >>> x = torch.ones(8, 6)
        >>> program = Program(VAE(data_dim=6, latent_dim=2)).bind((x,))
        >>> local, batch = LocalElbo(LatentSpace(program), Diagonal(2)), (x, torch.arange(8))
        >>> adam = torch.optim.Adam(program.parameters().values(), lr=1e-2)
        >>> steps = list(per_sample_steps(program, [batch] * 30, adam, local, LocalSteps(num_steps=5)))
        >>> bool(steps[-1].elbo > steps[0].elbo)
        True
    """

    def objective(lam: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
        return local.at(lam, batch, steps.num_particles)

    name = f"the step of {program.name} in theta"
    ascend = Ascent(name, optimizer, local.compiler, module=program.module, clip_norm=clip_norm, ranks=ranks)
    for *data, numbers in batches:
        batch = tuple(data)
        rows = local.at_prior(batch)
        if table is not None:
            rows = table.read(numbers, rows)
        rows = local.ascend(batch, rows, steps)
        if table is not None:
            table.write(numbers, rows)
        yield Step(ascend(objective, rows.lam, *batch), len(numbers))
