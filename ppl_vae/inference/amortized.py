"""Amortized inference: theta and phi take one gradient step a batch (stochastic variational inference)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.compile.compiler import Compiler
from ppl_vae.errors import InputError
from ppl_vae.inference.ascent import Ascent
from ppl_vae.inference.objectives import (
    Baseline,
    Bound,
    DecayingAverage,
    Gradient,
    check_gradient,
    elbo,
    iwae,
    leave_one_out,
    tempered,
)
from ppl_vae.program import Batch, BoundProgram, WeightedDraws, objective_terms, path_draws


class Step(NamedTuple):
    """One gradient step."""

    elbo: Tensor
    """Mean over the batch, before the step; a detached scalar on the device, so that no step waits for it."""
    num_data: int


def amortized_steps(
    program: BoundProgram,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    num_particles: int = 1,
    bound: Bound = "elbo",
    kl_weight: float | Tensor = 1.0,
    free_bits: float = 0.0,
    analytic_kl: bool = False,
    gradient: Gradient = "reparam",
    baseline: Baseline = "leave-one-out",
    compiler: Compiler | None = None,
    clip_norm: float | None = None,
) -> Iterator[Step]:
    """Ascend the ELBO, or another bound, in theta and phi together, one step a batch.

    Modules are in the mode, and Pyro validates, as the caller has set it: ``program.running(training=True)``.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), algorithm 1; for the score function, Ranganath,
    Gerrish and Blei, Black Box Variational Inference (2014), and Mnih and Gregor, Neural Variational Inference and
    Learning in Belief Networks (2014).

    Args:
        program: a program with a guide.
        batches: tuples of tensors, the arguments of ``model``.
        optimizer: over ``program.parameters()``.
        num_particles: draws per datum in the objective.
        bound: ``"elbo"``, or ``"iwae"``: the importance-weighted bound of ``num_particles`` draws, by its doubly
            reparameterised gradient; see ``iwae``. It takes none of the options that follow.
        kl_weight: of the divergence of the guide from the prior; a scalar tensor may change between the steps.
        free_bits: nats of divergence that each latent dimension has for nothing; see ``tempered``.
        analytic_kl: take the divergence in closed form where there is one; free bits always do.
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
        Step: the bound of the batch, nats per datum; with a ``kl_weight`` or ``free_bits``, the ELBO as it is without.

    Raises:
        InputError: the score function is to have the leave-one-out baseline of one particle; ``"iwae"`` beside another
            option, or of a program whose latents have no path.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(8, 6)
        >>> program = Program(VAE(data_dim=6, latent_dim=2)).bind((x,))
        >>> adam = torch.optim.Adam(program.parameters().values(), lr=1e-2)
        >>> steps = list(amortized_steps(program, [(x,)] * 50, adam))
        >>> bool(steps[-1].elbo > steps[0].elbo)
        True
    """
    check_gradient(gradient, baseline, num_particles)
    plain = not isinstance(kl_weight, Tensor) and (kl_weight, free_bits, analytic_kl) == (1.0, 0.0, False)
    if bound == "iwae" and not (plain and gradient == "reparam"):
        raise InputError(
            "bound='iwae' has no divergence and no score function: leave out kl_weight, free_bits, analytic_kl and "
            "gradient, or bound='elbo'"
        )
    average: DecayingAverage | None = None
    by_path = gradient == "reparam"

    def draw(batch: Batch) -> tuple[WeightedDraws, Tensor | None]:
        """Draws whose ELBO is ascended, and the ELBO where that is another."""
        if plain:
            return program.weighted_draws(batch, num_particles, tempered=True, reparameterised=by_path), None
        closed = analytic_kl or free_bits > 0
        terms = objective_terms(program, batch, num_particles, closed=closed, reparameterised=by_path)
        return tempered(terms, kl_weight, free_bits), tempered(terms).log_weight.mean()

    def objective(*batch: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        nonlocal average
        if bound == "iwae":
            value, ascended = iwae(path_draws(program, batch, num_particles))
            return value.mean(), ascended.mean()
        (draws, reported), subtracted = draw(batch), None
        if draws.score is not None and baseline == "leave-one-out" and num_particles > 1:
            subtracted = leave_one_out(draws.log_weight)
        if draws.score is not None and baseline == "decaying-average":
            if average is None:
                with torch.no_grad():
                    average = DecayingAverage(draw(batch)[0].log_weight.mean())
            subtracted = average.value
            average.update(draws.log_weight.mean())
        ascended = elbo(draws, subtracted).mean() + draws.shared
        return ascended if reported is None else (reported + draws.shared, ascended)

    name = f"the step of {program.name}"
    if baseline == "decaying-average" and compiler is not None:
        compiler.refuse(name, "its baseline goes from one step to the next")
        compiler = None
    ascend = Ascent(name, optimizer, compiler, module=program.module, clip_norm=clip_norm)
    for batch in batches:
        yield Step(ascend(objective, *batch), len(batch[0]))
