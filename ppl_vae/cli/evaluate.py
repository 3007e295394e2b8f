"""The verb ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.cli.pictures import picture_reconstructions
from ppl_vae.evaluation.estimators import Settings, bounds_first
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evidence import threshold
from ppl_vae.plots import (
    aggregated_posterior,
    bound_over_samples,
    divergence_per_dimension,
    pareto_k_histogram,
    sandwich,
    worst_explained,
)
from ppl_vae.runs import write_evidence

WORST_DATA = 20
"""Number of data in the figure of those that are explained worst."""
FIGURES = ("bound", "pareto_k", "sandwich", "worst", "divergence", "aggregated")


def evaluate(
    run: OpenRun,
    estimators: str | None = None,
    selection: Selection = Selection(),
    settings: Settings = Settings(),
) -> Outcome:
    """Estimate the evidence of data, with errors and doubts.

    The run folder gets ``evidence.json``, ``evidence.nc`` and figures. The seed is that of the run, so that the same
    command gives the same numbers.

    Args:
        run: the run.
        estimators: one or several of prior, iwae, cubo, ais, bdmc and exact, such as iwae,ais; by default iwae, and
            exact if it is known.
        selection: the data.
        settings: settings of the estimators.

    Returns:
        Outcome: with an ``Evaluation``.
    """
    arrays = run.select(selection)
    names = None if estimators is None else [name.strip() for name in estimators.split(",") if name.strip()]
    evaluation = run.vi.evaluate(arrays, estimators=names, diagnostics=True, **asdict(settings))
    run.run.write_json("evidence.json", {"part": selection.part, **evaluation.numbers()})
    evidence = evaluation.evidence
    write_evidence(
        run.run.path / "evidence.nc",
        {name: _to_arrays(estimate.table()) for name, estimate in evidence.items()},
        {name: _to_arrays(estimate.curve) for name, estimate in evidence.items() if estimate.curve},
        rows=np.asarray(arrays["_row"]),
        of="predictive" if evaluation.shared else "evidence",
    )
    run.write_figures(_draw(run, arrays, evaluation), among=FIGURES)
    lines = [evaluation.table(selection.part), *evaluation.warnings()]
    lines += [f"\nwritten to {run.run.path}: evidence.json, evidence.nc, figures"]
    return Outcome(evaluation, lines)


def _draw(run: OpenRun, arrays: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Figure]:
    """Draw the evidence and the latents of the data that were evaluated."""
    evidence, rows = evaluation.evidence, evaluation.rows
    figures: dict[str, Figure] = {}
    curves = {name: _to_arrays(estimate.curve) for name, estimate in sorted(evidence.items()) if estimate.curve}
    if curves:  # those of iwae, whose first point is the ELBO, come before those of prior
        exact = rows["exact"].log_evidence if "exact" in rows else None
        references = {"ais": rows["ais"].log_evidence} if "ais" in rows else {}
        first_point = "ELBO, latents summed out" if evaluation.summed_out else "ELBO"
        if evaluation.shared:
            curves = {f"{name}, predictive": curve for name, curve in curves.items()}
        figures["bound"] = bound_over_samples(curves, exact=exact, references=references, first_point=first_point)
    if "iwae" in evidence:
        k = evidence["iwae"].columns["pareto_k"].numpy()
        figures["pareto_k"] = pareto_k_histogram(k, threshold(evaluation.settings.num_samples))
    if "bdmc" in evidence:
        figures["sandwich"] = sandwich(*(evidence["bdmc"].columns[side].numpy() for side in ("lower", "upper")))
    if best := next(iter(bounds_first(evidence)), None):
        log_evidence = evidence[best].log_evidence.numpy()
        worst = np.argsort(log_evidence)[:WORST_DATA]
        draws = run.vi.posterior({name: array[worst] for name, array in arrays.items()}, num_samples=32)
        lengths = arrays["lengths"][worst] if "lengths" in arrays else None
        data, means, look = picture_reconstructions(run.vi.fitted, draws, run.data, lengths)
        figures["worst"] = worst_explained(data, means, log_evidence[worst], **look, rows=arrays["_row"][worst])
    if (used := evaluation.diagnostics) is not None:
        by_dimension, names = used.divergence_by_dimension.numpy(), used.dimensions
        if np.isfinite(by_dimension).all() and used.active is not None:
            figures["divergence"] = divergence_per_dimension(by_dimension, used.active.numpy(), names=names)
        columns = (used.draws.numpy(), used.prior_draws.numpy(), used.aggregated_divergence.numpy())
        figures["aggregated"] = aggregated_posterior(*columns, names=names)
    return figures


def _to_arrays(tensors: Mapping[Any, Any]) -> dict[Any, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
