"""The interface of a method of inference, and what methods share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.compile.compiler import Compiler
from ppl_vae.compile.work import CountedWork, WorkCount
from ppl_vae.inference.encoder import derive_encoder
from ppl_vae.inference.families import FamilyName
from ppl_vae.inference.options import MethodOptions
from ppl_vae.inference.table import Table
from ppl_vae.parallel import ALONE, Ranks
from ppl_vae.program import Batch, BoundProgram, DerivedGuide, check_batch, without_guide

LAMBDA = "_lambda"
"""The name of the array of variational parameters, for methods whose lambda is data."""
NUMBER = "_number"
"""The name of the array of row numbers, for methods that remember every datum."""


class Step(NamedTuple):
    """One gradient step."""

    elbo: Tensor
    """The mean over the batch before the step, nats per datum: a detached scalar on the device."""
    num_data: int


class Method:
    """A method of inference for one program and one shape of data.

    Args:
        program: the program, with or without a guide.
        template: a few data.
        options: an instance of ``Options``.
        arrays: the training data, to standardise the input of a derived encoder.

    Raises:
        InputError: the program has no latents that the method can optimise.
    """

    Options: ClassVar[type[MethodOptions]]
    """The class of the method's options, a frozen dataclass."""
    uses_guide: ClassVar[bool] = True
    """False if the method does not use the program's own guide."""
    lambda_is_data: ClassVar[bool] = False
    """True if ``posterior`` takes lambda as data, the last tensor of a batch."""
    numbered: ClassVar[bool] = False
    """True if training batches have the number of each row as their last tensor."""

    options: Any
    """The method's options, an instance of ``Options``."""
    kl_weight: Tensor | None
    """The weight of the divergence as a scalar that ``steps`` sets in every epoch; None if it is always one."""
    program: BoundProgram
    """The program that is trained, saved and loaded."""
    posterior: BoundProgram
    """The program with the guide that is applied to data."""
    tables: dict[str, Table]
    """The lambda of every datum after its last visit, by part of the data: ``train`` and ``valid``."""
    compiler: Compiler
    """The compiler of the steps. The caller, who knows how many steps are planned, sets it."""
    held: Collection[str] = ()
    """The names of parameters of the program that are not trained."""
    ranks: Ranks
    """The processes that train together, each with its own data. The caller, who reads the data, sets them."""

    def __init__(
        self, program: BoundProgram, template: Batch, options: Any, arrays: Sequence[np.ndarray] | None = None
    ) -> None:
        self.options, self.compiler, self.ranks, self.tables = options, Compiler(), ALONE, {}
        self.kl_weight = options.make_kl_weight(template)
        guided = with_guide(program, template, options.family, arrays) if self.uses_guide else without_guide(program)
        self.program = self.posterior = guided

    def steps(self, batches: Iterable[Batch], optimizer: torch.optim.Optimizer, epoch: int) -> Iterator[Step]:
        """Run one epoch of training, counted from 1."""
        raise NotImplementedError

    def remember(self, num_train: int, num_valid: int) -> None:
        """Make the tables that the method needs for these numbers of data; it is called before training."""
        return None

    def begin(self, batch: Batch) -> Batch:
        """Return a batch for ``posterior`` in which lambda has not been optimised yet."""
        return batch

    def infer(self, batch: Batch) -> Batch:
        """Return a batch for ``posterior``, with the lambda of every datum if lambda is data."""
        return batch

    def validate(self, batch: Batch, epoch: int) -> Batch:
        """Return a batch for ``posterior`` from validation data, which are numbered if training batches are."""
        return self.infer(batch)

    def check_batch(self, batch: Batch) -> None:
        """Check that training takes a batch of this size, and count its work, which decides if steps are compiled.

        Raises:
            InputError: the densities cannot be computed.
        """
        with CountedWork() as counted:
            check_batch(self.posterior, self.begin(batch))  # two runs
        self.compiler.weigh(len(batch[0]), WorkCount(counted.work.operations // 2, counted.work.bytes // 2))

    def describe_compilation(self, rows: int) -> str:
        """Report if the training steps of batches with this number of rows are compiled, and why."""
        return f"steps {self.compiler.choice(rows)}"

    def describe_posterior(self) -> str:
        """Report in a sentence how the posterior of a datum is computed."""
        kind = f", {self._family_in_words}" if isinstance(self.program.guide, DerivedGuide) else ""
        return f"{self._guide_in_words} gives the posterior of a datum{kind}."

    @property
    def _family_in_words(self) -> str:
        """The variational family with its article."""
        words = {"diagonal": "a Gaussian with a diagonal covariance", "full": "a Gaussian with a full covariance"}
        return words.get(self.options.family, f"a {self.options.family}")

    @property
    def _guide_in_words(self) -> str:
        """The guide that is trained, as the subject of a sentence."""
        derived = isinstance(self.program.guide, DerivedGuide)
        return "An encoder that is derived from the model" if derived else "The program's own guide"


def with_guide(
    program: BoundProgram, template: Batch, family: FamilyName, arrays: Sequence[np.ndarray] | None = None
) -> BoundProgram:
    """Return the program, with a guide derived from its model if it has none and needs one."""
    if program.guide is not None or not random_latents(program):
        return program
    return derive_encoder(program, template, family, arrays)


def random_latents(program: BoundProgram) -> set[str]:
    """Return the names of the latents that are not summed out in training."""
    structure = program.structure
    return set(structure.latents) - set(structure.summed)
