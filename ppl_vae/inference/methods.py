"""What ``guide=`` chooses: how lambda is found, in training and for data that are looked at afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.inference import (
    Baseline,
    Bound,
    Compiler,
    EncoderObjective,
    Family,
    FamilyName,
    Gradient,
    LocalSteps,
    Rows,
    Step,
    Table,
    amortized_steps,
    at_prior,
    derive_encoder,
    infer,
    make_family,
    per_sample_steps,
    semi_amortized_steps,
)
from ppl_vae.inference.per_sample import unless_worse
from ppl_vae.program import Batch, BoundProgram, DerivedGuide, LatentSpace, with_lambda, without_guide

LAMBDA = "_lambda"
"""The array of variational parameters, where they are data."""
NUMBER = "_number"
"""The array of the rows' numbers, where a method remembers them."""
FROM_PRIOR, FROM_AFAR, FROM_TABLE, FROM_ENCODER = 0.3, 0.1, 0.05, 0.02
"""Learning rates of the steps in lambda: the nearer it starts to its optimum, the smaller; of an encoder that has
overfitted, a datum may be far."""


@dataclass(frozen=True)
class Local:
    """How lambda is found; see ``VariationalInference``."""

    num_particles: int
    bound: Bound
    kl_weight: float
    kl_warmup_epochs: int
    free_bits: float
    analytic_kl: bool
    family: FamilyName
    local_steps: int
    local_learning_rate: float | None
    inference_steps: int
    warm_start: bool
    encoder_objective: EncoderObjective
    gradient: Gradient
    baseline: Baseline
    clip_norm: float | None

    def steps(self, num_steps: int, learning_rate: float) -> LocalSteps:
        """So many of them, at this rate unless another was asked for."""
        rate = learning_rate if self.local_learning_rate is None else self.local_learning_rate
        return LocalSteps(num_steps, rate, self.num_particles, self.gradient, self.baseline)

    def kl_weight_in(self, epoch: int) -> float:
        """The weight of the divergence in an epoch, counted from 1: it rises in equal steps to its value."""
        return self.kl_weight * min(1.0, epoch / max(1, self.kl_warmup_epochs))

    def make_kl_weight(self, template: Batch) -> Tensor | None:
        """A scalar to hold that weight, to which a graph refers; None where it is always one."""
        if self.kl_weight == 1 and self.kl_warmup_epochs <= 1:
            return None
        real = next((tensor for tensor in template if tensor.is_floating_point()), torch.empty(()))
        return torch.ones((), dtype=real.dtype, device=template[0].device)

    def weigh(self, kl_weight: Tensor | None, epoch: int) -> None:
        """Give that scalar, if there is one, its value in an epoch."""
        if kl_weight is not None:
            kl_weight.fill_(self.kl_weight_in(epoch))


def make_inference(
    guide: str, program: BoundProgram, template: Batch, local: Local, arrays: Sequence[np.ndarray] | None = None
) -> Inference:
    """The method of a name, for a program.

    Args:
        guide: its name.
        program: the program, with or without a guide.
        template: a few data.
        local: how lambda is found.
        arrays: the training data, to standardise what a derived encoder sees.

    Raises:
        InputError: the latents cannot be moved, or there are none to move.
    """
    kinds: dict[str, Callable[..., Inference]] = {
        "amortized": Amortized,
        "per-sample": PerSample,
        "semi-amortized": SemiAmortized,
    }
    return kinds[guide](program, template, local, arrays)


class Inference(Protocol):
    """A method of inference for one program and one shape of data."""

    program: BoundProgram
    """What is trained, saved and loaded."""
    tables: dict[str, Table]
    """Where every datum's lambda has been left, by part of the data: ``train`` and ``valid``."""
    posterior: BoundProgram
    """The program with the guide that data are looked at with."""
    local: bool
    """Whether that guide takes lambda as data, the last tensor of a batch."""
    numbered: bool
    """Whether training batches have the number of each row as their last tensor."""
    compiler: Compiler
    """Runs its steps, as graphs where that repays; whoever knows what is planned sets it."""

    def remember(self, num_train: int, num_valid: int) -> None:
        """Before training: make the tables that a method needs, for so many data."""
        ...

    def begin(self, batch: Batch) -> Batch:
        """A batch for ``posterior`` where lambda has not been optimised yet."""
        ...

    def infer(self, batch: Batch) -> Batch:
        """A batch for ``posterior``."""
        ...

    def steps(self, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        """One epoch of training."""
        ...

    def validate(self, batch: Batch, epoch: int) -> Batch:
        """A batch of validation data, numbered where training batches are, for ``posterior``."""
        ...


class Amortized:
    """lambda = f(x; phi): the program's own guide, or one that is derived from the model."""

    local = numbered = False

    def __init__(
        self, program: BoundProgram, template: Batch, local: Local, arrays: Sequence[np.ndarray] | None = None
    ) -> None:
        self.options, self.compiler = local, Compiler()
        self.tables: dict[str, Table] = {}
        self.kl_weight = local.make_kl_weight(template)
        self.program = self.posterior = with_guide(program, template, local, arrays)

    def begin(self, batch: Batch) -> Batch:
        """See ``Inference``."""
        return batch

    infer = begin

    def remember(self, num_train: int, num_valid: int) -> None:
        """See ``Inference``."""

    def validate(self, batch: Batch, epoch: int) -> Batch:
        """See ``Inference``."""
        return batch

    def steps(self, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        """See ``Inference``."""
        o = self.options
        o.weigh(self.kl_weight, epoch)
        return amortized_steps(
            self.program,
            batches,
            optimizer,
            num_particles=o.num_particles,
            bound=o.bound,
            kl_weight=1.0 if self.kl_weight is None else self.kl_weight,
            free_bits=o.free_bits,
            analytic_kl=o.analytic_kl,
            gradient=o.gradient,
            baseline=o.baseline,
            compiler=self.compiler,
            clip_norm=o.clip_norm,
        )


class _Local:
    """What per-sample and semi-amortized inference share: a posterior whose lambda is data."""

    local = True

    def __init__(self, program: BoundProgram, template: Batch, local: Local) -> None:
        self.options, self.program, self.compiler = local, program, Compiler()
        self.tables: dict[str, Table] = {}
        self.kl_weight = local.make_kl_weight(template)
        bare = without_guide(program)
        if not random_latents(bare):
            raise InputError(
                f"no latent of {program.name} is continuous and a datum's own, so that there is no lambda to optimise: "
                f"discrete latents are summed out; fit it with --guide amortized"
            )
        self.space = LatentSpace(bare)
        self.family: Family = make_family(local.family, self.space.size)
        self.posterior = with_lambda(self.space, self.family.distribution, self.begin(template)[-1])

    def begin(self, batch: Batch) -> Batch:
        """See ``Inference``."""
        return (*batch, at_prior(self.space, self.family, batch).lam)

    def remember(self, num_train: int, num_valid: int) -> None:
        """See ``Inference``."""


class PerSample(_Local):
    """Every datum has its own lambda; a guide that the program has is not used."""

    numbered = True

    def __init__(
        self, program: BoundProgram, template: Batch, local: Local, arrays: Sequence[np.ndarray] | None = None
    ) -> None:
        super().__init__(without_guide(program), template, local)

    def remember(self, num_train: int, num_valid: int) -> None:
        """See ``Inference``."""
        sizes = {"train": num_train if self.options.warm_start else 0, "valid": num_valid}
        dtype = next((p.dtype for p in self.program.module.parameters()), torch.get_default_dtype())
        self.tables = {part: Table(size, self.family.width, dtype) for part, size in sizes.items() if size}

    def infer(self, batch: Batch) -> Batch:
        """See ``Inference``."""
        local = self.options.steps(self.options.inference_steps, FROM_PRIOR)
        start = at_prior(self.space, self.family, batch)
        found = infer(self.space, self.family, batch, start, local, self.compiler)
        return (*batch, unless_worse(self.space, self.family, batch, start, found).lam)

    def validate(self, batch: Batch, epoch: int) -> Batch:
        """See ``Inference``."""
        *data, numbers = batch
        table, start = self.tables["valid"].epoch(epoch), at_prior(self.space, self.family, tuple(data))
        local = self.options.steps(self.options.local_steps, FROM_TABLE)
        found = infer(self.space, self.family, tuple(data), table.read(numbers, start), local, self.compiler)
        table.write(numbers, found)
        return (*data, found.lam)

    def steps(self, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        """See ``Inference``."""
        self.options.weigh(self.kl_weight, epoch)
        return per_sample_steps(
            self.program,
            batches,
            optimizer,
            space=self.space,
            family=self.family,
            local=self.options.steps(self.options.local_steps, FROM_TABLE if "train" in self.tables else FROM_PRIOR),
            table=self.tables["train"].epoch(epoch) if "train" in self.tables else None,
            kl_weight=self.kl_weight,
            compiler=self.compiler,
            clip_norm=self.options.clip_norm,
        )


class SemiAmortized(_Local):
    """lambda starts at f(x; phi) and takes some steps of its own."""

    numbered = False

    def __init__(
        self, program: BoundProgram, template: Batch, local: Local, arrays: Sequence[np.ndarray] | None = None
    ) -> None:
        super().__init__(with_guide(program, template, local, arrays), template, local)

    def encode(self, batch: Batch) -> Tensor:
        """Lambda at the encoder's output, ``(B, P)``."""
        return encoded(self.program, self.space, self.family, batch)

    def infer(self, batch: Batch) -> Batch:
        """See ``Inference``."""
        return (*batch, self._refined(batch)[1].lam)

    def _refined(self, batch: Batch) -> tuple[Rows, Rows]:
        """Where lambda starts, and where it has come to."""
        with torch.no_grad(), self.program.running(training=False):
            start = Rows.at(self.encode(batch))
        local = self.options.steps(self.options.local_steps, FROM_ENCODER)
        return start, infer(self.space, self.family, batch, start, local, self.compiler)

    def validate(self, batch: Batch, epoch: int) -> Batch:
        """See ``Inference``."""
        return self.infer(batch)

    def steps(self, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        """See ``Inference``."""
        self.options.weigh(self.kl_weight, epoch)
        return semi_amortized_steps(
            self.program,
            batches,
            optimizer,
            space=self.space,
            family=self.family,
            encode=self.encode,
            local=self.options.steps(self.options.local_steps, FROM_ENCODER),
            encoder_objective=self.options.encoder_objective,
            kl_weight=self.kl_weight,
            compiler=self.compiler,
            clip_norm=self.options.clip_norm,
        )


class FromEncoder(SemiAmortized):
    """lambda goes on from f(x; phi) as far as it can; where a datum is not better off, it stays."""

    def infer(self, batch: Batch) -> Batch:
        """See ``Inference``."""
        return (*batch, unless_worse(self.space, self.family, batch, *self._refined(batch)).lam)


def encoded(program: BoundProgram, space: LatentSpace, family: Family, batch: Batch) -> Tensor:
    """Lambda ``(B, P)`` at a guide's output: its own where it is of the family, else the Gaussian with its moments."""
    guide = program.guide
    if not isinstance(guide, DerivedGuide):
        return family.start(*space.start(batch, guide))
    _, lam = guide.parameters(*batch)
    own: Family = guide.distribution.__self__  # type: ignore[attr-defined]
    if type(own) is type(family):
        return lam
    draws = own.draw(lam, torch.randn(256, 1, family.size).to(lam))[0]
    return family.start(draws.mean(0), draws.std(0))


def with_guide(
    program: BoundProgram, template: Batch, local: Local, arrays: Sequence[np.ndarray] | None = None
) -> BoundProgram:
    """The program, with a guide derived from its model where it has none and needs one."""
    if program.guide is not None or not random_latents(program):
        return program
    return derive_encoder(program, template, local.family, arrays)


def random_latents(program: BoundProgram) -> set[str]:
    """Names of the latents that are not summed out in training."""
    structure = program.structure
    return set(structure.latents) - set(structure.summed)


def proposal(program: BoundProgram, template: Batch, local: Local, family: FamilyName) -> Inference:
    """Lambda of every datum for importance sampling, from the guide's posterior on where there is a guide."""
    local = replace(local, family=family, gradient="reparam")
    if program.guide is None:
        return PerSample(program, template, replace(local, local_learning_rate=FROM_PRIOR))
    local = replace(local, local_steps=local.inference_steps, local_learning_rate=FROM_AFAR)
    return FromEncoder(program, template, local)
