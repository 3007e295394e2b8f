"""From a fitted program and data to the gaps of inference: the best lambda of every datum in each family."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from ppl_vae.data import Batches
from ppl_vae.errors import Diverged, InputError, nearest
from ppl_vae.evaluation.estimate import estimate, progress_bar
from ppl_vae.evaluation.estimators import Settings
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evaluation.gap import Gap, LocalFit
from ppl_vae.evaluation.passes import passes, room_for
from ppl_vae.evaluation.results import error_of_mean
from ppl_vae.evidence import Evidence
from ppl_vae.inference import (
    LAMBDA,
    Compiler,
    Family,
    FamilyName,
    LocalSteps,
    Rows,
    at_prior,
    encoded,
    infer,
    make_family,
)
from ppl_vae.program import Batch, BoundProgram, LatentSpace, seeded, with_lambda, without_guide

CHOICE_DRAWS = 100
"""Draws that choose, for each datum, between the lambda from the encoder and that from the prior."""
SMALLER_STEPS = 10
"""The factor by which lambda moves more slowly from the optimum of a smaller family."""


@dataclass(frozen=True)
class GapSettings:
    """The settings of the gaps.

    Args:
        families: families of the posterior, from the smallest to the largest, such as diagonal,full,flow.
        local_steps: largest number of gradient steps in lambda of each datum, from the encoder's output and from the
            prior; a datum that has converged stops earlier.
        local_learning_rate: learning rate of these steps, at the start.
        num_particles: draws per datum and step.
        num_samples: draws per datum of every ELBO and of every estimate of the evidence.
    """

    families: str = "diagonal,full,flow"
    local_steps: int = 600
    local_learning_rate: float = 0.2
    num_particles: int = 4
    num_samples: int = 5000


def measure_gap(fitted: Fitted, arrays: Mapping[str, Any], settings: GapSettings) -> Gap:
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
    names = check_gap_settings(settings)
    program = fitted.program
    if not fitted.has_latents:
        raise InputError(f"{program.name} has no latents that a guide samples: its ELBO is the evidence, without a gap")
    space = LatentSpace(without_guide(program))
    batches, common = fitted.batches(arrays), Settings(num_samples=settings.num_samples)
    encoder = None if program.guide is None else _importance(fitted, program, batches, common)
    fits: dict[str, LocalFit] = {}
    smaller: Tensor | None = None
    for name in names:
        family = make_family(name, space.size)
        fits[name], smaller = _fit(fitted, space, family, arrays, batches, settings, common, smaller)
    candidates = {} if encoder is None else {"iwae with the encoder": encoder}
    candidates |= {f"iwae with {name}": fit.evidence for name, fit in fits.items()}
    if program.has_log_evidence:
        with torch.no_grad(), program.running(training=False):
            log_evidence = torch.cat([program.log_evidence(b).double().cpu() for b in batches.in_order()])
        by, mcse = "exact", 0.0
    else:
        by = max(candidates, key=lambda name: candidates[name].log_evidence.mean().item())
        log_evidence = candidates[by].log_evidence.double()
        mcse = error_of_mean(candidates[by].mcse, of_logs=True)
    return Gap(fits, encoder, log_evidence, by, mcse)


def check_gap_settings(settings: GapSettings) -> tuple[FamilyName, ...]:
    """Check every number and return the families; raises ``InputError``."""
    names = tuple(dict.fromkeys(name.strip() for name in settings.families.split(",") if name.strip()))
    known: tuple[FamilyName, ...] = get_args(FamilyName)
    for name in names:
        if name not in known:
            raise InputError(f"--families: {name!r} is unknown; {nearest(name, known)}")
    if not names:
        raise InputError(f"--families is empty: name one or more of {', '.join(known)}")
    for option in ("local_steps", "num_particles", "num_samples"):
        if (value := getattr(settings, option)) < 1:
            raise InputError(f"{option} is {value}: expected 1 or more")
    if not 0 < settings.local_learning_rate < math.inf:
        raise InputError(f"local_learning_rate is {settings.local_learning_rate}: expected a positive number")
    return tuple(name for name in known if name in names)


def _fit(
    fitted: Fitted,
    space: LatentSpace,
    family: Family,
    arrays: Mapping[str, Any],
    batches: Batches,
    settings: GapSettings,
    common: Settings,
    smaller: Tensor | None,
) -> tuple[LocalFit, Tensor]:
    """Find the best lambda of every datum in one family; return what it is worth, and lambda ``(N, P)``."""
    program = fitted.program
    posterior = with_lambda(space, family.distribution, at_prior(space, family, fitted.template).lam)
    local = LocalSteps(settings.local_steps, settings.local_learning_rate, settings.num_particles)

    def from_encoder(batch: Batch) -> Rows:
        with torch.no_grad(), program.running(training=False):
            return Rows.at(encoded(program, space, family, batch))

    def from_prior(batch: Batch) -> Rows:
        return at_prior(space, family, batch)

    starts = [from_prior] if program.guide is None else [from_encoder, from_prior]
    count = len(starts) + (smaller is not None)
    few = fitted.template
    room = room_for(lambda k: space.log_joint(few, _zeros(k, few, space)), len(few[0]))
    rows, lam, steps, seconds = room.rows(settings.num_particles), [], [], 0.0
    compiler = Compiler(fitted.compile, batches.sizes(rows))
    with seeded(fitted.seed), progress_bar(type(family).__name__.lower(), count * batches.num_data, "datum") as bar:
        for number, batch in enumerate(batches.in_order(batch_size=rows)):
            optima, begun = [], [(start(batch), local) for start in starts]
            if smaller is not None:
                grown = Rows.at(family.grown(smaller[number * rows : (number + 1) * rows].to(begun[0][0].lam)))
                optima.append(grown)
                begun.append((grown, local._replace(learning_rate=settings.local_learning_rate / SMALLER_STEPS)))
            for start_rows, local_steps in begun:
                began = time.perf_counter()
                with seeded(fitted.seed):
                    optima.append(infer(space, family, batch, start_rows, local_steps, compiler))
                seconds += time.perf_counter() - began
                bar.update(len(batch[0]))
            lam.append(_better(posterior, batch, optima, room.draws(len(batch[0])), fitted.seed).cpu())
            steps += [optimum.taken.mean().item() * len(batch[0]) for optimum in optima]
    best = torch.cat(lam)
    located = fitted.batches({**arrays, LAMBDA: best.numpy()})
    evidence = _importance(fitted, posterior, located, common)
    runs = count * batches.num_data
    return LocalFit(evidence, seconds / runs, sum(steps) / runs), best


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


def _importance(fitted: Fitted, program: BoundProgram, batches: Batches, settings: Settings) -> Evidence:
    with program.running(seed=fitted.seed, training=False):
        estimates = estimate(program, batches, ["iwae"], settings, fitted.seed, Compiler(fitted.compile))
    return estimates["iwae"].evidence


def _zeros(num_draws: int, batch: Batch, space: LatentSpace) -> Tensor:
    floats = [p for p in space.program.module.parameters() if p.is_floating_point()]
    like = floats[0] if floats else batch[0]
    return like.new_zeros(num_draws, len(batch[0]), space.size)
