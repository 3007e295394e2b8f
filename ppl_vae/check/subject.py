"""The object of all checks: a fit, data of several kinds, and what several checks compute of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data import NamedArrays, as_source, subset, with_numbers
from ppl_vae.errors import InputError
from ppl_vae.evaluation.arguments import Arrays
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evaluation.passes import apply_to_each, passes
from ppl_vae.evidence import Evidence, iwae, weigh
from ppl_vae.inference.options import Count, CountOrZero, Seed, Share, from_names
from ppl_vae.inference.per_datum import InferenceSteps
from ppl_vae.program import Batch, BoundProgram, SharedDraws, latent_quantities, simulate

T = TypeVar("T")
CheckNeed = Literal["latents", "simulation", "training data", "test data", "history"]
DRAWN, TRAINED, SIMULATED = 0, 101, 202
"""What is added to the seed for draws of test data, of training data, and for simulated data."""
Refit = Callable[[Arrays, int], Fitted]
"""A function that fits the guide anew to other data, with theta as it is, from arrays and a seed."""
ROW = "_row"
"""The name of the array of the numbers of the rows."""
NUM_ELBO_DRAWS = 64
"""The number of draws per datum of the ELBO before and after steps in lambda, the same for both."""


@dataclass(frozen=True)
class CheckSettings:
    """The settings of the checks.

    Args:
        num_data: number of test data, and of training data, that are looked at. More data show smaller faults.
        num_simulations: number of data that are simulated from the model to see if inference finds their latents.
        num_samples: number of draws per datum from the guide.
        calibration_fits: number of simulated data sets for the calibration of latents that all data share. Each takes a
            fit of its own, so that 40 fits take forty times as long as the fit. The default 0 leaves it out.
        inference_steps: largest number of steps in the lambda of a datum, if each has its own; "auto" takes steps until
            it has settled. The default null takes the number of the fit.
        statistic: your own statistic of data for the predictive checks, path/to/file.py:function. It takes an array of
            what a site observes, and returns a number, or several by name.
        level: chance that the page shows a failure if all is well. The tests of the page share it equally.
        seed: seed of all draws; null takes that of the fit.
    """

    num_data: Count = 500
    num_simulations: Count = 300
    num_samples: Count = 1000
    calibration_fits: CountOrZero = 0
    inference_steps: InferenceSteps | None = None
    statistic: str | None = None
    level: Share = 0.05
    seed: Seed | None = None


def make_check_settings(given: Mapping[str, Any]) -> CheckSettings:
    """Make settings from values by name; raises ``InputError`` for an unknown name."""
    return from_names(CheckSettings, given, "a check")


class WeightedLatents(NamedTuple):
    """Draws from the guide for every datum, with their importance weights, on the CPU."""

    latents: dict[str, Tensor]
    """By site, ``(K, N, ...)``."""
    log_weight: Tensor
    """log p(x, z) - log q(z given x), ``(K, N)``, nats, in double precision."""


class DensitiesOfDraws(NamedTuple):
    """Log densities at the latents of simulated data, ``(N,)``, and at draws of their posteriors, ``(K, N)``; nats."""

    log_likelihood: tuple[np.ndarray, np.ndarray]
    """log p(x | z)."""
    log_joint: tuple[np.ndarray, np.ndarray]
    """log p(x, z)."""
    hidden: dict[str, np.ndarray]
    """True for the numbers of a latent that a mask hides, ``(N, ...)``; only of latents with a mask."""


@dataclass(eq=False)
class CheckedData:
    """Some data, and what the fit finds about them, each computed once.

    Attributes:
        fitted: the fitted object.
        arrays: the data by the names of the model's arguments.
        rows: the numbers of the data in their part, ``(N,)``.
        settings: the settings of the checks.
        seed: the seed of the draws.
        latents: the latents from which the data were simulated, by site ``(N, ...)``; empty for real data.
    """

    fitted: Fitted
    arrays: Arrays
    rows: np.ndarray
    settings: CheckSettings
    seed: int
    latents: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def located(self) -> tuple[BoundProgram, Arrays]:
        """The program that has the posteriors of the data, and the data, with their lambda if it is data."""
        program, data, _ = self.fitted.located(self.arrays, None, self.settings.inference_steps)
        return program, data

    def each_batch(self, function: Callable[[BoundProgram, Batch], T], num_draws: int = 1) -> list[T]:
        """Apply a function to one batch after the other, see ``Fitted.each_batch``."""
        program, data = self.located
        with torch.no_grad(), program.running(seed=self.seed, training=False):
            rows = self.fitted.room.rows_to_weigh(num_draws)
            return apply_to_each(partial(function, program), self.fitted.batches(data), rows, self.seed)

    def elbo_draws(self, posterior: BoundProgram, batch: Batch, lam: Tensor, seed: int) -> Tensor:
        """Return draws of the ELBO of a batch at its lambda, ``(K, B)``, the same ones for any lambda.

        Args:
            posterior: the program whose guide takes lambda as data.
            batch: the arguments of ``model``.
            lam: lambda, ``(B, P)``.
            seed: the seed of the draws.
        """
        with torch.no_grad(), posterior.running(seed=seed, training=False):
            counts = passes(NUM_ELBO_DRAWS, self.fitted.room.draws(len(lam)))
            return torch.cat([posterior.log_weights((*batch, lam), k).double() for k in counts])

    @cached_property
    def draws(self) -> WeightedLatents:
        """The ``num_samples`` draws from the guide for every datum; latents that are summed out are drawn too."""
        count, room = self.settings.num_samples, self.fitted.room

        def draw(program: BoundProgram, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
            parts = [program.weighted_posterior(batch, k) for k in passes(count, room.draws(len(batch[0])))]
            latents = {name: torch.cat([d.latents[name] for _, d in parts]).cpu() for name in parts[0][1].latents}
            return latents, torch.cat([weight.double().cpu() for weight, _ in parts])

        parts = self.each_batch(draw, count)
        latents = {name: torch.cat([latents[name] for latents, _ in parts], 1) for name in parts[0][0]}
        return WeightedLatents(latents, torch.cat([weight for _, weight in parts], 1))

    @cached_property
    def quantities(self) -> DensitiesOfDraws:
        """The log densities of simulated data at their latents and at the draws from the guide, and what masks hide."""
        drawn, count, row = self.draws.latents, self.settings.num_samples, 0

        def compute(program: BoundProgram, batch: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
            nonlocal row
            rows, start, device = slice(row, row + len(batch[0])), 0, batch[0].device
            row = rows.stop
            own = latent_quantities(program, batch, {n: z[None, rows].to(device) for n, z in self.latents.items()})
            parts = []
            for k in passes(count, self.fitted.room.draws(len(batch[0]))):
                some = {name: z[start : start + k, rows].to(device) for name, z in drawn.items()}
                parts.append(latent_quantities(program, batch, some))
                start += k
            likelihood, joint = torch.cat([p.log_likelihood for p in parts]), torch.cat([p.log_joint for p in parts])
            return [own.log_likelihood[0], likelihood, own.log_joint[0], joint], own.hidden

        parts = self.each_batch(compute, count)
        numbers = zip(*(numbers for numbers, _ in parts), strict=True)
        own, of_draws, own_joint, joint_of_draws = (torch.cat(part, -1).double().cpu().numpy() for part in numbers)
        hidden = {name: torch.cat([mask[name] for _, mask in parts]).cpu().numpy() for name in parts[0][1]}
        return DensitiesOfDraws((own, of_draws), (own_joint, joint_of_draws), hidden)

    @cached_property
    def evidence(self) -> Evidence:
        """The importance-sampled evidence of every datum by these draws, with the ELBO and Pareto's k."""
        log_weight, taken = self.draws.log_weight, 0

        def next_draws(count: int) -> tuple[Tensor, ...]:
            nonlocal taken
            taken += count
            return (log_weight[taken - count : taken],)

        return iwae(weigh(next_draws, len(log_weight), len(log_weight)))


@dataclass(eq=False)
class CheckedFit:
    """A fitted object with its data, as every check gets it; what several checks need is computed once.

    Attributes:
        fitted: the fitted object.
        settings: the settings of the checks.
        test: data that the fit has not seen; empty if none are given.
        train: data that the fit has seen; empty if none are given.
        history: the rows of the validations of training, in their order, such as those of ``metrics.jsonl``.
        level: the level of the tests of one check, which corrects for the number of its own.
        refit: function that fits the guide anew to other data; None if it cannot be done.
    """

    fitted: Fitted
    settings: CheckSettings
    test: CheckedData
    train: CheckedData
    history: Sequence[Mapping[str, Any]] = ()
    level: float = 0.05
    refit: Refit | None = None

    @property
    def seed(self) -> int:
        """The seed of all draws."""
        return seed_of(self.fitted, self.settings)

    def lacks(self, need: CheckNeed) -> str | None:
        """Return the reason why something is missing, as the end of a sentence, or None if it is there."""
        if need == "latents" and not self.fitted.has_latents:
            return "the program has no latents that a guide samples"
        if need == "simulation" and not self.fitted.generates:
            return "the model computes with the data that it observes, so that no data can be simulated from it"
        if need == "test data" and not len(self.test):
            return "there are no test data"
        if need == "training data" and not len(self.train):
            return "the training data are not given: vi.check(x, train=x_train)"
        if need == "history" and not any(row.get("elbo_valid") is not None for row in self.history):
            return "training had no validation data, so that nothing is known of its course"
        return None

    @cached_property
    def simulated(self) -> CheckedData:
        """Data that are simulated from the model under the conditions of test data, with their latents.

        Raises:
            InputError: data cannot be simulated from the program.
        """
        fitted, count = self.fitted, self.settings.num_simulations
        if (shared := fitted.program.global_posterior) is not None:
            raise InputError(
                f"the latent {shared.names[0]!r} is shared by all data, so that data from which its value is known "
                "would need a fit of their own"
            )
        seed = self.seed + SIMULATED
        simulated = simulate_like(fitted, self.test if len(self.test) else self.train, count, seed)
        return CheckedData(fitted, simulated.arrays, np.arange(count), self.settings, seed, simulated.latents)


class SimulatedData(NamedTuple):
    """Data that are simulated from a model."""

    arrays: Arrays
    """The data by the names of the model's arguments."""
    latents: dict[str, Tensor]
    """The latents of each datum, ``(N, ...)`` by site."""
    shared: dict[str, Tensor]
    """The latents that all data share, by site; empty if there are none."""


def simulate_like(fitted: Fitted, conditions: CheckedData, count: int, seed: int) -> SimulatedData:
    """Simulate a number of data from the model, under the conditions of some data, which are repeated.

    Latents that all data share are drawn once, from their prior.

    Raises:
        InputError: data cannot be simulated from the program.
    """
    at, program = np.arange(count) % len(conditions), fitted.program
    chosen = NamedArrays({name: np.asarray(array)[at] for name, array in conditions.arrays.items()})
    draw, rows = partial(simulate, program, shared=program.global_posterior is not None), fitted.room.rows()
    shared = SharedDraws(program.global_posterior, from_prior=True)
    with torch.no_grad(), program.running(seed=seed, training=False), shared:
        parts = apply_to_each(draw, fitted.batches(chosen), rows, seed)
    batches = zip(*(part.batch for part in parts), strict=True)
    arrays = {name: torch.cat(tensors).cpu().numpy() for name, tensors in zip(fitted.arguments, batches, strict=True)}
    latents = {name: torch.cat([part.latents[name][0] for part in parts]).cpu() for name in parts[0].latents}
    return SimulatedData(arrays, latents, {name: value.cpu() for name, value in shared.values.items()})


def seed_of(fitted: Fitted, settings: CheckSettings) -> int:
    """Return the seed of all draws: that of the settings, or that of the fit."""
    return fitted.seed if settings.seed is None else settings.seed


def choose_data(fitted: Fitted, arrays: tuple[Any, ...], settings: CheckSettings, offset: int = DRAWN) -> CheckedData:
    """Return ``num_data`` of some data, chosen by the seed; none if no arrays are given.

    Args:
        fitted: the fitted object.
        arrays: the data of a call, as ``Fitted.checked`` takes them.
        settings: the settings of the checks.
        offset: a number that is added to the seed.

    Raises:
        InputError: bad data, or data of another shape than in the fit.
    """
    seed = seed_of(fitted, settings) + offset
    if not arrays:
        return CheckedData(fitted, {}, np.arange(0), settings, seed)
    chosen = subset(with_numbers(fitted.checked(arrays), ROW), settings.num_data, seed)
    read = as_source(chosen).read(slice(None))
    return CheckedData(fitted, {name: read[name] for name in fitted.arguments}, read[ROW], settings, seed)
