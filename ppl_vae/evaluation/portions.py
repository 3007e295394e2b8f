"""An evaluation in portions: ranges of rows are measured one by one, by one process or by many, and then concluded."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data import lengths_of
from ppl_vae.evaluation.diagnose import LatentUse, look_at_latents, rows_to_look_at, summarise_latents
from ppl_vae.evaluation.estimate import Estimate, Work, estimate, join_evidence, rows_at_once
from ppl_vae.evaluation.estimators import WITH_ELBO, Settings, estimators_for
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.rows import summarise
from ppl_vae.evaluation.settled import summarise_settling
from ppl_vae.evidence import Evidence
from ppl_vae.inference import Compiler, Method, proposal
from ppl_vae.inference.settling import Settling
from ppl_vae.program import generates, observed_numbers, observes_discrete, seeded

if TYPE_CHECKING:
    from ppl_vae.evaluation.fitted import Fitted


class EvaluatedRows(NamedTuple):
    """The measurements of a range of rows, of which the evaluation of all is computed."""

    num_data: int
    numbers: float
    """The number of observed numbers in all these data."""
    estimates: dict[str, Estimate]
    """By estimator; one of simulated data is left out if the range is behind them."""
    used: LatentUse | None = None
    """The latents, if they are diagnosed and the guide samples any."""
    inference_seconds: float | None = None
    """The time to find the lambda of these data, if each has its own."""
    lengths: Tensor | None = None
    """The lengths of these data, ``(N,)``, if they are sequences."""
    settling: Settling | None = None
    """How their lambda has settled, if it takes steps until it does."""

    def content(self) -> dict[str, Any]:
        """Return all numbers as mappings of tensors and plain values, see ``of``."""
        estimates = {
            name: {**estimate.evidence.content(), "seconds": estimate.seconds}
            for name, estimate in self.estimates.items()
        }
        used, settling = (part and part._asdict() for part in (self.used, self.settling))
        return {**self._asdict(), "estimates": estimates, "used": used, "settling": settling}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> EvaluatedRows:
        """Return the portion with this content."""
        estimates = {}
        for name, fields in content["estimates"].items():
            evidence = {field: value for field, value in fields.items() if field != "seconds"}
            estimates[name] = Estimate(Evidence(**evidence), fields["seconds"])
        used = content["used"] and LatentUse(**content["used"])
        settling = Settling(**content["settling"]) if content.get("settling") else None
        return cls(**{**content, "estimates": estimates, "used": used, "settling": settling})


def choose_estimators(fitted: Fitted, names: Collection[str] | None) -> tuple[str, ...]:
    """Return the estimators that are asked for, each once, or those of the default."""
    return estimators_for(fitted.program) if names is None else tuple(dict.fromkeys(names))


def measure(
    fitted: Fitted, arrays: Any, names: Collection[str], settings: Settings, *, diagnostics: bool = False
) -> EvaluatedRows:
    """Estimate the evidence of data, which may be a range of all: ``fitted.place`` is their place."""
    method = _method(fitted, settings)
    started = time.perf_counter()
    program, data, settling = fitted.located(arrays, method, settings.inference_steps)
    seconds = time.perf_counter() - started if method.lambda_is_data else None
    batches = fitted.batches(data)
    compiler = fitted._compilers.setdefault((fitted.compile, settings), Compiler(fitted.compile))
    with torch.no_grad(), program.running(seed=fitted.seed, training=False):
        estimates = estimate(
            Work(program, batches, settings, compiler, fitted.place, trims=fitted.trims), names, fitted.seed
        )
        used = look_at_latents(program, batches, fitted.seed, fitted.place) if diagnostics else None
        numbers = sum(observed_numbers(program, batch).sum().item() for batch in batches.in_order())
        lengths = lengths_of(batches)
    return EvaluatedRows(batches.num_data, numbers, estimates, used, seconds, lengths, settling)


def rows_of_block(fitted: Fitted, names: Collection[str], settings: Settings, *, diagnostics: bool = False) -> int:
    """Return the least number of rows, a power of two, of which every portion but the last must have a multiple."""
    method = _method(fitted, settings)
    with torch.no_grad(), method.posterior.running(training=False):
        rows = [rows_at_once(method.posterior, settings, name) for name in names]
        rows += [rows_to_look_at(method.posterior)] if diagnostics else []
    return max(rows + ([fitted.rows_to_infer] if method.lambda_is_data else []))


def conclude(
    fitted: Fitted, portions: Sequence[EvaluatedRows], settings: Settings, rows: np.ndarray | None = None
) -> Evaluation:
    """Return the evaluation of all data, given what was measured of their parts, in the order of the rows.

    Args:
        fitted: the fitted object.
        portions: what ``measure`` returns of ranges of the data.
        settings: the settings of the estimators.
        rows: the numbers of the data by which they are named; by default from 0.
    """
    program, names = _method(fitted, settings).posterior, list(portions[0].estimates)
    num_data = sum(portion.num_data for portion in portions)
    estimates = {}
    for name in names:
        parts = [portion.estimates[name] for portion in portions if name in portion.estimates]
        evidence, seconds = join_evidence([part.evidence for part in parts]), sum(part.seconds for part in parts)
        estimates[name] = Estimate(evidence, seconds)
    looks = [portion.used for portion in portions if portion.used is not None]
    lengths = [portion.lengths for portion in portions if portion.lengths is not None]
    settlings = [portion.settling for portion in portions if portion.settling is not None]
    waits = [portion.inference_seconds for portion in portions if portion.inference_seconds is not None]
    with torch.no_grad(), program.running(seed=fitted.seed, training=False):
        shared, ratios = program.global_posterior, None
        if shared is not None and WITH_ELBO in names:
            with seeded(fitted.seed):
                ratios = program.shared_log_ratios()
        return Evaluation(
            num_data=num_data,
            numbers_per_datum=sum(portion.numbers for portion in portions) / num_data,
            rows=summarise(estimates, ratios, torch.cat(lengths) if len(lengths) == len(portions) else None),
            evidence={name: estimate.evidence for name, estimate in estimates.items()},
            settings=settings,
            diagnostics=summarise_latents(program, looks, fitted.seed) if looks else None,
            inference_seconds=sum(waits) if waits else None,
            settled=summarise_settling(Settling.joined(settlings), rows) if settlings else None,
            generates=generates(program),
            discrete=observes_discrete(program),
            shared=shared.names if shared is not None else (),
            summed_out=program.structure.collapsed if WITH_ELBO in names else (),
        )


def _method(fitted: Fitted, settings: Settings) -> Method:
    """Return the method whose posterior is the proposal of an evaluation; a per-sample method is made once."""
    if settings.proposal != "per-sample":
        return fitted.inference
    key = (fitted.inference, fitted.options, settings.proposal_family, fitted.compile)
    if key not in fitted._proposals:
        method = proposal(fitted.program, fitted.template, fitted.options, settings.proposal_family)
        method.compiler = Compiler(fitted.compile)
        fitted._proposals[key] = method
    return fitted._proposals[key]
