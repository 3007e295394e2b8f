"""Amortized inference: theta and phi take one gradient step a batch (stochastic variational inference)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.inference.ascent import Ascent
from ppl_vae.inference.compiler import Compiler
from ppl_vae.inference.objectives import Baseline, DecayingAverage, Gradient, check_gradient, elbo, leave_one_out
from ppl_vae.program import Batch, Program, WeightedDraws, global_term


class Step(NamedTuple):
    """One gradient step."""

    elbo: Tensor
    """Mean over the batch, before the step; a detached scalar on the device, so that no step waits for it."""
    num_data: int


def amortized_steps(
    program: Program,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    num_particles: int = 1,
    gradient: Gradient = "reparam",
    baseline: Baseline = "leave-one-out",
    compiler: Compiler | None = None,
    clip_norm: float | None = None,
) -> Iterator[Step]:
    """Ascend the ELBO in theta and phi together, one step a batch.

    Modules are in the mode, and Pyro validates, as the caller has set it: ``program.scope(training=True)``.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), algorithm 1; for the score function, Ranganath,
    Gerrish and Blei, Black Box Variational Inference (2014), and Mnih and Gregor, Neural Variational Inference and
    Learning in Belief Networks (2014).

    Args:
        program: a program with a guide.
        batches: tuples of tensors, the arguments of ``model``.
        optimizer: over ``program.parameters(batch)``.
        num_particles: draws per datum in the objective.
        gradient: ``"reparam"`` goes along the path of the draws, and takes the score function for sites that have no
            path; ``"score-function"`` takes it for all of them.
        baseline: of the score function: ``"leave-one-out"``, each draw's from the other draws of its datum;
            ``"decaying-average"``, one number, the average of the log weights of the steps before, which begins anew
            with each call, with draws of its own; or ``"none"``. With one particle and ``gradient="reparam"``,
            leave-one-out is none.
        compiler: runs the step as a graph; one and the same for all epochs. A decaying average, which goes from step to
            step, is left to Python.
        clip_norm: gradients of a larger norm are scaled down to it.

    Yields:
        Step: the ELBO of the batch, nats per datum.

    Raises:
        InputError: the score function is to have the leave-one-out baseline of one particle.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> program, x = Program(VAE(data_dim=6, latent_dim=2)), torch.ones(8, 6)
        >>> adam = torch.optim.Adam(program.parameters((x,)).values(), lr=1e-2)
        >>> steps = list(amortized_steps(program, [(x,)] * 50, adam))
        >>> bool(steps[-1].elbo > steps[0].elbo)
        True
    """
    check_gradient(gradient, baseline, num_particles)
    average: DecayingAverage | None = None

    def draw(batch: Batch) -> WeightedDraws:
        return program.weighted_draws(batch, num_particles, tempered=True, reparameterised=gradient == "reparam")

    def objective(*batch: Tensor) -> Tensor:
        nonlocal average
        draws, subtracted = draw(batch), None
        if draws.score is not None and baseline == "leave-one-out" and num_particles > 1:
            subtracted = leave_one_out(draws.log_weight)
        if draws.score is not None and baseline == "decaying-average":
            if average is None:
                with torch.no_grad():
                    average = DecayingAverage(draw(batch).log_weight.mean())
            subtracted = average.value
            average.update(draws.log_weight.mean())
        return elbo(draws, subtracted).mean() + global_term(program)

    name = f"the step of {program.name}"
    if baseline == "decaying-average" and compiler is not None:
        compiler.refuse(name, "its baseline goes from one step to the next")
        compiler = None
    ascend = Ascent(name, optimizer, compiler, module=program.module, clip_norm=clip_norm)
    for batch in batches:
        yield Step(ascend(objective, *batch), len(batch[0]))
