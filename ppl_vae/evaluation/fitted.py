"""A fitted program and its results for data: posterior means, evidence, draws, reconstructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data import Batches, as_condition, is_padded, shortened, sizes, trim
from ppl_vae.errors import InputError, nearest
from ppl_vae.evaluation.arguments import Arrays, make_batches
from ppl_vae.evaluation.estimators import check_estimators, make_settings
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.located import Located, locate
from ppl_vae.evaluation.naming import Naming
from ppl_vae.evaluation.passes import ROWS_PER_PASS, Room, apply_to_each, room_for
from ppl_vae.evaluation.portions import choose_estimators, conclude, measure
from ppl_vae.evaluation.results import PosteriorDraws, PriorDraws, join, single
from ppl_vae.inference import Compile, Compiler, LocalOptions, Method, random_latents
from ppl_vae.inference.amortized import Amortized
from ppl_vae.inference.per_datum import InferenceSteps, LambdaMethod
from ppl_vae.parallel import ALL, RowSpan
from ppl_vae.program import (
    Batch,
    BoundProgram,
    Draws,
    averages,
    classes_of,
    coded_columns,
    draw_shared,
    generates,
    has_totals,
    observed_arguments,
    posterior_given,
    posterior_moments,
    predict,
    weighs_alike,
)

T = TypeVar("T")
INFERRED_TOGETHER = 16
"""The lambda of as many data is optimised at once as could have this number of draws each in a pass."""


@dataclass
class Fitted:
    """A fitted program with everything that is needed to apply it to data.

    Args:
        inference: the method of inference, which finds lambda for data; it has the program.
        arguments: names of the arrays that the model takes.
        template: a few data, on the device.
        device: where the program and its data are.
        dtype: the type of real numbers.
        options: the options of the steps in lambda.
        num_samples: number of draws per datum in estimates of the evidence.
        seed: seed of all random numbers.
        compile: which functions run as compiled graphs.
        train_seconds: the time that the fit took.
        memory: the memory that data may take on the device, see ``choose_batches``.
        naming: names of arrays and columns in the fit, by which later data are matched.
        place: the place of the data to which it is applied among all data, see ``at``.
    """

    inference: Method
    arguments: tuple[str, ...]
    template: Batch
    device: torch.device
    dtype: torch.dtype
    options: LocalOptions
    num_samples: int
    seed: int
    compile: Compile
    train_seconds: float = math.nan
    memory: str | int | None = None
    naming: Naming = field(default_factory=Naming)
    place: RowSpan = ALL
    _room: Room | None = field(default=None, init=False, repr=False, compare=False)
    _trims: bool | None = field(default=None, init=False, repr=False, compare=False)
    _compilers: dict[Any, Compiler] = field(default_factory=dict, init=False, repr=False, compare=False)
    _proposals: dict[Any, Method] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def program(self) -> BoundProgram:
        """The program that was trained."""
        return self.inference.program

    @property
    def has_latents(self) -> bool:
        """True if there is a posterior to look at: latents that a guide samples."""
        return bool(random_latents(self.program))

    @property
    def generates(self) -> bool:
        """True if the model draws data without looking at the data that it observes."""
        return generates(self.program)

    @property
    def has_totals(self) -> bool:
        """True if the model draws counts whose totals it takes from data."""
        return has_totals(self.program)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names that draws can be conditioned on: arguments of the model that no site observes, and its latents."""
        given = zip(self.arguments, observed_arguments(self.program), strict=True)
        free = [name for name, observed in given if not observed and name not in self.naming.holes.masks]
        return (*free, *(name for name in self.program.structure.latents if name not in free))

    @property
    def classes(self) -> dict[str, int]:
        """The number of classes of each site whose values are classes, and whose means are their probabilities."""
        return classes_of(self.program)

    def most_probable(self, means: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return means by observed site in the shape of data: of classes, the number of the most probable one."""
        classes = self.classes
        return {
            name: np.where(np.isnan(mean).any(-1), np.nan, mean.argmax(-1)) if name in classes else mean
            for name, mean in means.items()
        }

    @property
    def name_of_means(self) -> str:
        """The name of what ``most_probable`` returns: "mean", "most probable class", or both."""
        observed, classes = set(self.program.structure.observed), self.classes
        kinds = {"mean": observed - set(classes), "most probable class": observed & set(classes)}
        return " or ".join(name for name, sites in kinds.items() if sites)

    @property
    def begun(self) -> Batch:
        """The template as ``inference.posterior`` takes it."""
        return self.inference.begin(self.template)

    @property
    def room(self) -> Room:
        """The number of draws from the guide that fit into a pass; measured once."""
        if self._room is None:
            program, batch = self.inference.posterior, self.begun
            with program.running(training=False):
                self._room = room_for(partial(program.log_weights, batch), len(batch[0]))
        return self._room

    @property
    def trims(self) -> bool:
        """True if the padding of sequences can be cut off without a change of any log weight; tried once."""
        if self._trims is None:
            program, names = self.inference.posterior, self.arguments
            self._trims = False
            if isinstance(self.inference, Amortized) and is_padded(names):
                with program.running(training=False):
                    whole = shortened(names, self.template)
                    self._trims = whole is not None and weighs_alike(program, whole, trim(names, whole))
        return self._trims

    @property
    def rows_to_infer(self) -> int:
        """The number of data whose lambda is optimised at once: no more than keep a processor busy."""
        return self.room.rows(INFERRED_TOGETHER)

    def at(self, place: RowSpan) -> Fitted:
        """Return this object for data that have a place among others; the draws for a datum are as if all were given.

        The first row has to be a multiple of the numbers of data at once, such as ``ROWS_PER_PASS``.
        """
        other = replace(self, place=place)
        other._room, other._compilers, other._proposals = self.room, self._compilers, self._proposals
        return other

    # ------------------------------------------------------------------------------------------------------- data

    def checked(self, arrays: tuple[Any, ...]) -> Arrays:
        """Return data as named arrays, each datum of the shape that the program was fitted to.

        Raises:
            InputError: bad data, or data of another shape.
        """
        named = self.naming.read(arrays, self.program.argument_names)
        for name, row in zip(self.arguments, self.template, strict=True):
            if name in named and named[name].shape[1:] != row.shape[1:]:
                raise InputError(
                    f"a datum of {name!r} has shape {named[name].shape[1:]}: expected {tuple(row.shape[1:])}, as in "
                    f"the fit; the first dimension counts the data"
                )
        return named

    def batches(self, arrays: Arrays, batch_size: int = ROWS_PER_PASS) -> Batches:
        """Return data as the model takes them, on the device; behind the model's arguments lambda, if it is given."""
        return make_batches(arrays, self.arguments, batch_size, self.device, self.dtype, memory=self.memory)

    def located(self, arrays: Arrays, method: Method | None = None, steps: InferenceSteps | None = None) -> Located:
        """Return the program that is applied to data, and the data, to which lambda is added if it is data."""
        method = method or self.inference
        if not isinstance(method, LambdaMethod):
            return Located(method.posterior, arrays)
        method.options = replace(method.options, inference_steps=steps or self.options.inference_steps)
        batches, rows = self.batches(arrays), self.rows_to_infer
        method.compiler.plan(sizes(self.place.num_data or batches.num_data, rows))
        return locate(method, arrays, batches, rows, self.seed, self.place)

    def each_batch(
        self, arrays: tuple[Any, ...], function: Callable[[BoundProgram, Batch], T], num_draws: int = 1
    ) -> list[T]:
        """Apply a function to every batch of data; a batch is so small that the draws fit in memory.

        The function's program has a fitted guide, and is in evaluation mode and in its scope. If lambda is data, it
        has been found, and is the last tensor of a batch. Random numbers depend on the seed and on the place of the
        batch among all data.

        Args:
            arrays: the data.
            function: takes a program and a batch.
            num_draws: the number of draws per datum that the function takes at once.

        Returns:
            The function's values, one for every batch.
        """
        program, data, _ = self.located(self.checked(arrays))
        with torch.no_grad(), program.running(seed=self.seed, training=False):
            rows = self.room.rows(num_draws)
            return apply_to_each(partial(function, program), self.batches(data), rows, self.seed, self.place)

    # ------------------------------------------------------------------------------------------------- evaluation

    def evaluate(
        self, *arrays: Any, estimators: Collection[str] | None = None, diagnostics: bool = False, **settings: Any
    ) -> Evaluation:
        """Estimate the evidence of data; see ``VariationalInference.evaluate``."""
        chosen = make_settings({"num_samples": self.num_samples} | settings)
        names = choose_estimators(self, estimators)
        check_estimators(names, chosen)
        portion = measure(self, self.checked(arrays), names, chosen, diagnostics=diagnostics)
        return conclude(self, [portion], chosen)

    # ------------------------------------------------------------------------------------------------------ draws

    def transform(self, *arrays: Any) -> np.ndarray:
        """Return posterior means of the latents, ``(N, D)``; several sites are flattened and joined.

        Raises:
            InputError: bad data, or a program without latents that a guide samples.
        """
        means = self.latent_means(*arrays)
        return np.concatenate([mean.reshape(len(mean), -1) for mean in means.values()], axis=1)

    def latent_means(self, *arrays: Any) -> dict[str, np.ndarray]:
        """Return posterior means of the latents, ``(N, ...)`` by site; see ``transform``."""
        if not self.has_latents:
            raise InputError(f"{self.program.name} has no latents to transform to that a guide samples")
        return join(self.each_batch(arrays, lambda program, batch: posterior_moments(program, batch).mean))

    def check_generates(self) -> None:
        """Raise ``InputError`` if the model draws no data without looking at those that it observes."""
        if not self.generates:
            raise InputError(
                f"{self.program.name} does not generate: its model computes with the data that it observes, so that "
                f"draws would be reconstructions of these; call reconstruct"
            )

    def prior(self, num_data: int, *arrays: Any, **conditions: Any) -> PriorDraws:
        """Draw latents from the prior, and data given them; see ``VariationalInference.prior``."""
        if not isinstance(num_data, int | np.integer) or num_data < 1:
            raise InputError(f"num_data is {num_data!r}: expected a whole number, 1 or more")
        self.check_generates()
        batch = self.conditioned(num_data, conditions, arrays)
        with torch.no_grad(), self.program.running(seed=self.seed, training=False):
            named = set(conditions) - set(self.arguments)
            like = self.program.prior(self.template).latents if named else {}
            latents = {name: as_condition(name, conditions[name], like[name][0], num_data)[None] for name in named}
            draws = predict(self.program, batch, latents)
        return PriorDraws(
            *({k: v[0].cpu().numpy() for k, v in part.items()} for part in (draws.latents, draws.observed, draws.means))
        )

    def conditioned(self, num_data: int, conditions: Mapping[str, Any], arrays: tuple[Any, ...] = ()) -> Batch:
        """Return a batch under these conditions; of arrays that are observed, only the totals of counts matter.

        Args:
            num_data: the number of data.
            conditions: values by name.
            arrays: data whose observed arrays are repeated; by default the template.

        Raises:
            InputError: a condition that the model does not take, or a value that cannot be.
        """
        known = self.conditions
        for name in conditions.keys() - set(known):
            if name in self.arguments:
                raise InputError(
                    f"the model draws {name!r}, so that it is no condition; conditions: {', '.join(known) or 'none'}"
                )
            raise InputError(f"the model takes no condition {name!r}; {nearest(name, known)}")
        given = self.template
        if arrays:
            batches = self.batches(self.checked(arrays))
            data = next(batches.in_order(batch_size=batches.num_data))
            given = tuple(row if name in known else x for name, row, x in zip(self.arguments, given, data, strict=True))
        return tuple(
            as_condition(name, self.naming.code(name, conditions[name]), row, num_data)
            if name in conditions
            else self.naming.repeated(name, row, num_data)
            for name, row in zip(self.arguments, given, strict=True)
        )

    def reconstruct(self, *arrays: Any) -> Any:
        """Return the posterior-predictive mean of data, ``(N, ...)``; a dictionary if several sites are observed.

        Data that are classes have no mean: for them, return the probabilities of the classes, ``(N, ..., C)``.
        """
        coded = coded_columns(self.program)

        def means(program: BoundProgram, batch: Batch) -> dict[str, Tensor]:
            num_draws = min(64, self.room.draws(len(batch[0])))
            return averages(program.posterior(batch, num_draws), coded)

        return single(join(self.each_batch(arrays, means)))

    def observed(self, *arrays: Any) -> dict[str, np.ndarray]:
        """Return what the observed sites observe of data, ``(N, ...)`` by site."""
        batches = self.batches(self.checked(arrays))
        with torch.no_grad(), self.program.running(seed=self.seed, training=False):
            return join([self.program.prior(batch).data for batch in batches.in_order()])

    def posterior(self, *arrays: Any, num_samples: int) -> PosteriorDraws:
        """Draw latents from the guide, and data given them; latents that all data share are drawn once for all."""
        posterior = self.inference.posterior
        with posterior.running(seed=self.seed, training=False):
            shared = draw_shared(posterior, num_samples)
        coded = coded_columns(self.program)

        def draw(program: BoundProgram, batch: Batch) -> tuple[Draws, dict[str, Tensor]]:
            draws = posterior_given(program, batch, shared, num_samples)
            return draws._replace(shares={}), averages(draws, coded)

        pairs = self.each_batch(arrays, draw, num_samples)

        def joined(name: str, axis: int) -> dict[str, np.ndarray]:
            return join([getattr(draws, name) for draws, _ in pairs], axis)

        names = posterior.global_posterior.names if posterior.global_posterior else ()
        of_all = {name: shared[name].cpu().numpy() for name in names}
        by_datum = joined("latents", 1), joined("observed", 1), joined("means", 1), joined("data", 0)
        return PosteriorDraws(*by_datum, of_all, join([average for _, average in pairs]))
