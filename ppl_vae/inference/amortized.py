"""Amortized inference: theta and phi take one gradient step a batch (stochastic variational inference)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ppl_vae.compile.compiler import Compiler
from ppl_vae.errors import InputError
from ppl_vae.inference.ascent import Ascent
from ppl_vae.inference.method import Method, Step
from ppl_vae.inference.objectives import Bound, DecayingAverage, check_gradient, elbo, iwae, leave_one_out, tempered
from ppl_vae.inference.options import OWN, Count, MethodOptions, NotNegative, Share
from ppl_vae.parallel import ALONE, Ranks
from ppl_vae.program import (
    Batch,
    BoundProgram,
    WeightedDraws,
    check_density_repeats,
    objective_terms,
    path_draws,
    with_encoder_noise,
)


@dataclass(frozen=True)
class AmortizedOptions(MethodOptions):
    """The options of amortized inference.

    Args:
        bound: bound that training ascends. Validation uses it too. "elbo" is the evidence lower bound. "iwae" is the
            importance-weighted bound of num_particles draws, with its doubly reparameterised gradient.
        free_bits: KL per latent dimension that is not penalised. It is in nats, on average over a batch. The evaluation
            stays the same. The default 0 penalises all of it.
        analytic_kl: compute the KL term in closed form if possible. Otherwise training estimates it from the draws. The
            default is false.
        accumulate: number of parts of a batch. Their gradients are computed one after the other and added, for batches
            that do not fit in memory. The default 1 computes the gradient at once.
        encoder_noise: share of x to replace for the encoder. In training, the encoder reads these numbers from another
            datum of the batch, so that it overfits less; the model reads the data themselves. The default 0 replaces
            none.
    """

    bound: Bound = field(default="elbo", metadata=OWN)
    free_bits: NotNegative = field(default=0.0, metadata=OWN)
    analytic_kl: bool = field(default=False, metadata=OWN)
    accumulate: Count = field(default=1, metadata={"own": True, "group": "optimiser"})
    encoder_noise: Share = field(default=0.0, metadata=OWN)

    def check(self) -> None:
        """Check that the values agree with each other; see ``MethodOptions.check``."""
        if self.bound == "iwae":
            default = AmortizedOptions()
            for name in ("kl_weight", "kl_warmup_epochs", "free_bits", "analytic_kl", "gradient"):
                if getattr(self, name) != getattr(default, name):
                    raise InputError(f"bound='iwae' has no part for {name}: leave that out, or take bound='elbo'")
            if self.num_particles == 1:
                raise InputError("bound='iwae' of one draw is the ELBO: take more, --num-particles 50")
        super().check()


class Amortized(Method):
    """lambda = f(x; phi), with the program's own guide or one that is derived from the model."""

    Options = AmortizedOptions
    options: AmortizedOptions

    def check_batch(self, batch: Batch) -> None:
        """See ``Method``; the importance-weighted bound needs a guide that has the same density in every run."""
        super().check_batch(batch)
        if self.options.encoder_noise:
            with_encoder_noise(self.program, batch[0], self.options.encoder_noise)
        if self.options.bound == "iwae":
            check_density_repeats(self.program, batch)

    def steps(self, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        """See ``Method``."""
        self.options.set_kl_weight(self.kl_weight, epoch)
        return amortized_steps(
            self.program,
            batches,
            optimizer,
            self.options,
            kl_weight=self.kl_weight,
            compiler=self.compiler,
            ranks=self.ranks,
        )


def amortized_steps(
    program: BoundProgram,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    options: AmortizedOptions = AmortizedOptions(),
    *,
    kl_weight: Tensor | None = None,
    compiler: Compiler | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Step]:
    """Ascend the ELBO, or another bound, in theta and phi together, one step a batch.

    The caller sets the mode of the modules and Pyro's validation: ``program.running(training=True)``.

    The bound ``"iwae"`` is described at ``iwae``, free bits at ``tempered``; free bits always take the divergence in
    closed form where there is one. With ``gradient="reparam"``, sites that have no path use the score function. Its
    baseline ``"leave-one-out"`` takes for each draw the other draws of the same datum, and with one particle there is
    none. ``"decaying-average"`` is one number, the average of the log weights of the steps before; each call starts a
    new average from additional draws.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), algorithm 1; for the score function, Ranganath,
    Gerrish and Blei, Black Box Variational Inference (2014), and Mnih and Gregor, Neural Variational Inference and
    Learning in Belief Networks (2014).

    Args:
        program: a program with a guide.
        batches: tuples of tensors, the arguments of ``model``.
        optimizer: an optimiser of ``program.parameters()``.
        options: the objective and its gradient.
        kl_weight: the weight of the divergence as a scalar tensor, which may change between the steps; by default
            the options give it.
        compiler: a compiler that runs the step as a graph, the same one in all epochs. With a decaying average, which
            is passed from step to step, the step runs in Python.
        ranks: the processes that take every step together, each with its own part of the batch. Free bits and a
            decaying average are those of a part.

    Yields:
        Step: the bound of the batch, nats per datum; with a ``kl_weight`` or ``free_bits``, the ELBO without them.

    Raises:
        InputError: the score function has the leave-one-out baseline and only one particle; ``"iwae"`` is combined with
            another option; or the program's latents have no path.

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
    num_particles, bound, baseline = options.num_particles, options.bound, options.baseline
    check_gradient(options.gradient, baseline, num_particles)
    weight = options.kl_weight if kl_weight is None else kl_weight
    plain = kl_weight is None and (weight, options.free_bits, options.analytic_kl) == (1.0, 0.0, False)
    by_path = options.gradient == "reparam"
    if bound == "iwae" and not (plain and by_path):
        raise InputError(
            "bound='iwae' has no divergence and no score function: leave out kl_weight, free_bits, analytic_kl and "
            "gradient, or bound='elbo'"
        )
    average: DecayingAverage | None = None

    def draw(program: BoundProgram, batch: Batch) -> tuple[WeightedDraws, Tensor | None]:
        """Return draws whose ELBO is ascended, and the ELBO to report if it differs."""
        if plain:
            return program.weighted_draws(batch, num_particles, tempered=True, reparameterised=by_path), None
        closed = options.analytic_kl or options.free_bits > 0
        terms = objective_terms(program, batch, num_particles, closed=closed, reparameterised=by_path)
        return tempered(terms, weight, options.free_bits), tempered(terms).log_weight.mean()

    def objective(*batch: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        nonlocal average
        drawn = with_encoder_noise(program, batch[0], options.encoder_noise) if options.encoder_noise else program
        if bound == "iwae":
            value, ascended = iwae(path_draws(drawn, batch, num_particles))
            return value.mean(), ascended.mean()
        (draws, reported), subtracted = draw(drawn, batch), None
        if draws.score is not None and baseline == "leave-one-out" and num_particles > 1:
            subtracted = leave_one_out(draws.log_weight)
        if draws.score is not None and baseline == "decaying-average":
            if average is None:
                with torch.no_grad():
                    average = DecayingAverage(draw(drawn, batch)[0].log_weight.mean())
            subtracted = average.value
            average.update(draws.log_weight.mean())
        ascended = elbo(draws, subtracted).mean() + draws.shared
        return ascended if reported is None else (reported + draws.shared, ascended)

    name = f"the step of {program.name}"
    if baseline == "decaying-average" and compiler is not None:
        compiler.refuse(name, "its baseline goes from one step to the next")
        compiler = None
    ascend = Ascent(
        name,
        optimizer,
        compiler,
        module=program.module,
        clip_norm=options.clip_norm,
        ranks=ranks,
        num_parts=options.accumulate,
    )
    for batch in batches:
        yield Step(ascend(objective, *batch), len(batch[0]))
