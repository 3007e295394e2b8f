"""From a fitted program and data to the gaps of inference: the best lambda of every datum in each family."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from ppl_vae.data import sizes
from ppl_vae.display.bars import progress_bar
from ppl_vae.display.lists import split_list
from ppl_vae.errors import Diverged, InputError, nearest
from ppl_vae.evaluation.estimate import Work, estimate, join_evidence, rows_at_once
from ppl_vae.evaluation.estimators import Settings
from ppl_vae.evaluation.fitted import Arrays, Fitted
from ppl_vae.evaluation.gap import Gap, LocalFit
from ppl_vae.evaluation.passes import passes, room_for
from ppl_vae.evaluation.results import error_of_mean
from ppl_vae.evidence import Evidence
from ppl_vae.inference import LAMBDA, Compiler, FamilyName, LocalElbo, LocalSteps, Rows, make_family
from ppl_vae.inference.options import Count, Positive, check_values
from ppl_vae.parallel import seed_at
from ppl_vae.program import Batch, BoundProgram, LatentSpace, seeded, with_lambda, without_guide

CHOICE_DRAWS = 100
"""Draws that choose, for each datum, between the lambda from the encoder and that from the prior."""
SMALLER_STEPS = 10
"""The factor by which lambda moves more slowly from the optimum of a smaller family."""


@dataclass(frozen=True)
class GapSettings:
    """The settings of the gaps.

    Args:
        families: variational families, from the smallest to the largest.
        local_steps: largest number of gradient steps in lambda. They start from the encoder's output and from the
            prior; a datum that has converged stops earlier.
        local_learning_rate: learning rate of these steps, at the start.
        num_particles: number of draws per datum and step.
        num_samples: number of draws per datum in each estimate.
    """

    families: str = "diagonal,full,flow"
    local_steps: Count = 600
    local_learning_rate: Positive = 0.2
    num_particles: Count = 4
    num_samples: Count = 5000


def measure_gap(fitted: Fitted, arrays: Arrays, settings: GapSettings) -> Gap:
    """Optimise the lambda of every datum in each family, theta fixed, and put the ELBOs beside the evidence.

    In each family, lambda has several starts: the Gaussian with the moments of the encoder's posterior, the prior, and,
    with smaller steps, the optimum of the family before. Each datum keeps the best result; draws that the result does
    not have choose it. All ELBOs have the same random numbers. The evidence is exact if it is known. Otherwise it is
    the highest, on average, of the importance-sampled estimates with the encoder and with each q* as the proposal; all
    of them are lower bounds.

    Args:
        fitted: the fitted program.
        arrays: the data by name.
        settings: the settings of the optimisation and of the estimates.

    Raises:
        InputError: a family or a number that cannot be, or latents that cannot be moved.
        Diverged: an ELBO is not finite.

    Example:
        >>> import numpy as np
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> x = np.random.default_rng(0).normal(size=(50, 5)).astype("float32")
        >>> vi = VariationalInference(FactorAnalysis(data_dim=5, latent_dim=2), max_epochs=5).fit(x)
        >>> gap = measure_gap(vi.fitted, {"x": x}, GapSettings(families="full", local_steps=300, num_samples=100))
        >>> mean, se = gap.gaps("full")["approximation"]     # the posterior is a Gaussian
        >>> abs(mean) < 0.01, gap.by
        (True, 'exact')
    """
    check_gap_settings(settings)
    return conclude_gap(fitted, [measure_gap_of(fitted, arrays, settings)])


class FamilyPortion(NamedTuple):
    """The best lambda of each of a range of rows in one family, and what it took to find them."""

    evidence: Evidence
    """See ``LocalFit``."""
    seconds: float
    steps: float
    """The number of steps of all data from all starts."""
    runs: int
    """The number of data times the number of their starts."""


class GapPortion(NamedTuple):
    """The measurements of a range of rows, of which the gaps of all are computed."""

    num_data: int
    encoder: Evidence | None
    """See ``Gap``."""
    families: dict[str, FamilyPortion]
    """By family."""
    exact: Tensor | None
    """The log evidence if it is known, ``(N,)``."""

    def content(self) -> dict[str, Any]:
        """Return all numbers as mappings of tensors and plain values, see ``of``."""
        families = {name: {**fit._asdict(), "evidence": fit.evidence.content()} for name, fit in self.families.items()}
        return {**self._asdict(), "encoder": self.encoder and self.encoder.content(), "families": families}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> GapPortion:
        """Return the portion with this content."""
        families = {
            name: FamilyPortion(**{**fit, "evidence": Evidence(**fit["evidence"])})
            for name, fit in content["families"].items()
        }
        return cls(
            **{**content, "encoder": content["encoder"] and Evidence(**content["encoder"]), "families": families}
        )


def measure_gap_of(fitted: Fitted, arrays: Arrays, settings: GapSettings) -> GapPortion:
    """Measure what ``measure_gap`` does of data that may be a range of all: ``fitted.place`` is their place."""
    program = fitted.program
    locals_ = _locals(fitted, settings)
    encoder = None if program.guide is None else _importance(fitted, program, arrays, settings.num_samples)
    fits: dict[str, FamilyPortion] = {}
    smaller: Tensor | None = None
    for name, local in locals_.items():
        fits[name], smaller = _fit(fitted, name, local, arrays, settings, smaller)
    exact = None
    if program.has_log_evidence:
        with torch.no_grad(), program.running(training=False):
            batches = fitted.batches(arrays).in_order()
            exact = torch.cat([program.log_evidence(batch).double().cpu() for batch in batches])
    return GapPortion(len(next(iter(fits.values())).evidence.log_evidence), encoder, fits, exact)


def conclude_gap(fitted: Fitted, portions: Sequence[GapPortion]) -> Gap:
    """Return the gaps of all data, given what was measured of their parts, in the order of the rows."""
    fits = {}
    for name in portions[0].families:
        parts = [portion.families[name] for portion in portions]
        evidence = join_evidence([part.evidence for part in parts])
        runs = sum(part.runs for part in parts)
        seconds, steps = sum(part.seconds for part in parts), sum(part.steps for part in parts)
        fits[name] = LocalFit(evidence, seconds / runs, steps / runs)
    encoders = [portion.encoder for portion in portions if portion.encoder is not None]
    encoder = join_evidence(encoders) if encoders else None
    candidates = {} if encoder is None else {"iwae with the encoder": encoder}
    candidates |= {f"iwae with {name}": fit.evidence for name, fit in fits.items()}
    known = [portion.exact for portion in portions if portion.exact is not None]
    if known:
        log_evidence, by, mcse = torch.cat(known), "exact", 0.0
    else:
        by = max(candidates, key=lambda name: candidates[name].log_evidence.mean().item())
        log_evidence = candidates[by].log_evidence.double()
        mcse = error_of_mean(candidates[by].mcse, of_logs=True)
    of = None if fitted.program.global_posterior is None else "predictive"
    return Gap(fits, encoder, log_evidence, by, mcse, of)


@torch.no_grad()
def rows_of_gap(fitted: Fitted, settings: GapSettings) -> int:
    """Return the least number of rows, a power of two, of which every portion but the last must have a multiple."""
    programs = [] if fitted.program.guide is None else [fitted.program]
    programs += [_posterior(local, fitted.template) for local in _locals(fitted, settings).values()]
    rows = [_rows_to_fit(fitted, settings)]
    for program in programs:
        with program.running(training=False):
            rows.append(rows_at_once(program, Settings(num_samples=settings.num_samples), "iwae"))
    return max(rows)


def _locals(fitted: Fitted, settings: GapSettings) -> dict[str, LocalElbo]:
    """Return the ELBO as a function of lambda, by the name of the family."""
    names, program = check_gap_settings(settings), fitted.program
    if not fitted.has_latents:
        raise InputError(f"{program.name} has no latents that a guide samples: its ELBO is the evidence, without a gap")
    space = LatentSpace(without_guide(program))
    return {name: LocalElbo(space, make_family(name, space.size), Compiler(fitted.compile)) for name in names}


def _posterior(local: LocalElbo, template: Batch) -> BoundProgram:
    """Return the program whose guide takes lambda as data."""
    return with_lambda(local.space, local.family.distribution, local.at_prior(template).lam)


def _rows_to_fit(fitted: Fitted, settings: GapSettings) -> int:
    """Return the number of data whose lambda is optimised at once."""
    return min(fitted.rows_to_infer, fitted.room.rows(settings.num_particles))


def check_gap_settings(settings: GapSettings) -> tuple[FamilyName, ...]:
    """Check every number and return the families; raises ``InputError``."""
    names = tuple(dict.fromkeys(split_list(settings.families)))
    known: tuple[FamilyName, ...] = get_args(FamilyName)
    for name in names:
        if name not in known:
            raise InputError(f"--families: {name!r} is unknown; {nearest(name, known)}")
    if not names:
        raise InputError(f"--families is empty: name one or more of {', '.join(known)}")
    check_values(settings)
    return tuple(name for name in known if name in names)


def _fit(
    fitted: Fitted, name: str, local: LocalElbo, arrays: Arrays, settings: GapSettings, smaller: Tensor | None
) -> tuple[FamilyPortion, Tensor]:
    """Find the best lambda of every datum in one family; return what it is worth, and lambda ``(N, P)``."""
    program, space, family, template = fitted.program, local.space, local.family, fitted.template
    prior, posterior = local.at_prior(template).lam, _posterior(local, template)
    room = room_for(lambda k: space.log_joint(template, prior[:, : space.size].expand(k, -1, -1)), len(template[0]))
    steps = LocalSteps(settings.local_steps, settings.local_learning_rate, settings.num_particles)
    slow = steps._replace(learning_rate=settings.local_learning_rate / SMALLER_STEPS)
    batches, rows = fitted.batches(arrays), _rows_to_fit(fitted, settings)
    assert local.compiler is not None
    local.compiler.plan(sizes(fitted.place.num_data or batches.num_data, rows))
    runs = (1 + (program.guide is not None) + (smaller is not None)) * batches.num_data
    lam, taken, seconds = [], 0.0, 0.0
    with progress_bar(f"gap, {name}", runs, "datum") as bar:
        for number, batch in enumerate(batches.in_order(batch_size=rows)):
            seed = seed_at(fitted.seed, fitted.place.first_row + number * rows)
            starts: list[tuple[Rows, LocalSteps]] = []
            if program.guide is not None:
                with torch.no_grad(), program.running(seed=seed, training=False):
                    starts.append((Rows.at(local.at_guide(program, batch)), steps))
            starts.append((local.at_prior(batch), steps))
            optima = []
            if smaller is not None:
                grown = Rows.at(family.grown(smaller[number * rows : (number + 1) * rows].to(prior)))
                optima.append(grown)
                starts.append((grown, slow))
            for start, how in starts:
                began = time.perf_counter()
                with seeded(seed):
                    optima.append(local.ascend(batch, start, how))
                seconds += time.perf_counter() - began
                bar.update(len(batch[0]))
            lam.append(_better(posterior, batch, optima, room.draws(len(batch[0])), seed).cpu())
            taken += sum(optimum.taken.sum().item() for optimum in optima)
    best = torch.cat(lam)
    evidence = _importance(fitted, posterior, {**arrays, LAMBDA: best.numpy()}, settings.num_samples)
    return FamilyPortion(evidence, seconds, taken, runs), best


@torch.no_grad()
def _better(posterior: BoundProgram, batch: Batch, optima: list[Rows], at_once: int, seed: int) -> Tensor:
    """Return for every datum the lambda with the highest ELBO, ``(B, P)``."""
    elbos = []
    for rows in optima:
        with posterior.running(seed=seed + 1, training=False):
            parts = (posterior.log_weights((*batch, rows.lam), k).sum(0) for k in passes(CHOICE_DRAWS, at_once))
            elbos.append(torch.stack(list(parts)).sum(0) / CHOICE_DRAWS)
    stacked = torch.stack(elbos).nan_to_num(nan=-math.inf)
    if not bool(torch.isfinite(stacked.max(0).values).all()):
        raise Diverged("the ELBO of a datum is not finite after its lambda was optimised: lower --local-learning-rate")
    chosen = stacked.argmax(0)
    return torch.stack([rows.lam for rows in optima])[chosen, torch.arange(len(chosen), device=chosen.device)]


def _importance(fitted: Fitted, program: BoundProgram, arrays: Arrays, num_samples: int) -> Evidence:
    batches, compiler = fitted.batches(arrays), Compiler(fitted.compile)
    with program.running(seed=fitted.seed, training=False):
        work = Work(program, batches, Settings(num_samples=num_samples), compiler, fitted.place)
        return estimate(work, ["iwae"], fitted.seed)["iwae"].evidence
