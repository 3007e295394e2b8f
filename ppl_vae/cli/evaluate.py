"""The verb ``evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae import plots
from ppl_vae.cli.jobs import ChosenRows, Content, Job, choose_rows, do
from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.display.lists import split_list
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.evaluation.estimators import Settings, bounds_first, check_estimators
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.portions import EvaluatedRows, choose_estimators, conclude, measure, rows_of_block
from ppl_vae.evaluation.refit import refit_encoder as train_encoder
from ppl_vae.inference.options import Count, check_value
from ppl_vae.parallel import present
from ppl_vae.runs import write_evidence
from ppl_vae.uses.pictures import picture_reconstructions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST_DATA = 20
"""Number of data in the figure of those that are explained worst."""
FIGURES = ("bound", "pareto_k", "sandwich", "worst", "divergence", "aggregated")


def evaluate(
    run: OpenRun,
    estimators: str | None = None,
    selection: Selection = Selection(),
    settings: Settings = Settings(),
    refit_encoder: int = 0,
    shard: str | None = None,
) -> Outcome:
    """Estimate the log evidence of data, with error bars and warnings.

    The run folder gets ``evidence.json``, ``evidence.nc`` and figures. The seed is that of the run, so that the same
    command gives the same numbers.

    Args:
        run: the run.
        estimators: names from prior, iwae, cubo, ais, smc, bdmc and exact, such as iwae,ais. By default these are iwae,
            and exact if the evidence is known.
        selection: the data.
        settings: settings of the estimators.
        refit_encoder: number of epochs for which the encoder alone is first trained on these data. The model stays as
            it is, so that bounds on its evidence become tighter; the ELBO is then no longer that of the fit. The run
            keeps its own encoder. The default 0 evaluates with that.
        shard: share of the data to process, such as 3/16. The verb merge joins the shares. The default is all data.

    Returns:
        Outcome: with an ``Evaluation``.
    """
    job = prepare(run, estimators, selection, settings, refit_encoder)
    if refit_encoder:
        check_value("refit_encoder", refit_encoder, Count)
        if shard is not None or present().size > 1:
            raise InputError("--refit-encoder trains on all the data: leave out --shard and --processes")
        rows = choose_rows(run, selection)
        arrays = rows.read(np.arange(rows.num_rows))
        train_encoder(run.vi.fitted, run.vi.fitted.checked((arrays,)), refit_encoder)
    return do(job, shard)


def prepare(
    run: OpenRun,
    estimators: str | None = None,
    selection: Selection = Selection(),
    settings: Settings = Settings(),
    refit_encoder: int = 0,
) -> Job:
    """Return the job of ``evaluate``, which has its options but the shard."""
    names = None if estimators is None else split_list(estimators)
    chosen = choose_estimators(run.vi.fitted, names)
    check_estimators(chosen, settings)
    rows = choose_rows(run, selection)

    def compute(vi: VariationalInference, arrays: dict[str, np.ndarray]) -> Content:
        return measure(vi.fitted, vi.fitted.checked((arrays,)), chosen, settings, diagnostics=True).content()

    def finish(portions: Iterator[Content]) -> Outcome:
        measured = [EvaluatedRows.of(content) for content in portions]
        evaluation = conclude(run.vi.fitted, measured, settings, rows.all_numbers)
        return _write(run, rows, selection, evaluation, refit_encoder)

    options = {"estimators": estimators, **asdict(selection), **asdict(settings)}
    block = rows_of_block(run.vi.fitted, chosen, settings, diagnostics=True)
    return Job("evaluate", run, rows, options, compute, finish, block)


def _write(run: OpenRun, rows: ChosenRows, selection: Selection, evaluation: Evaluation, refit_encoder: int) -> Outcome:
    """Write the results of an evaluation."""
    refitted = {"refit_encoder": refit_encoder} if refit_encoder else {}
    run.run.write_json("evidence.json", {"part": selection.part, **refitted, **evaluation.numbers()})
    evidence = evaluation.evidence
    write_evidence(
        run.run.path / "evidence.nc",
        {name: _to_arrays(estimate.table()) for name, estimate in evidence.items()},
        {name: _to_arrays(estimate.curve) for name, estimate in evidence.items() if estimate.curve},
        rows=rows.all_numbers,
        of="predictive" if evaluation.shared else "evidence",
    )
    run.write_figures(_draw(run, rows, evaluation), among=FIGURES)
    lines = [evaluation.table(selection.part), *evaluation.warnings()]
    if refit_encoder:
        lines += [
            f"The encoder alone was trained for {refit_encoder} epochs on these data, with the model fixed: these are "
            f"bounds on the evidence of the model of the fit, and not what its own encoder reaches."
        ]
    lines += [f"\nwritten to {run.run.path}: evidence.json, evidence.nc, figures"]
    return Outcome(evaluation, lines)


def _draw(run: OpenRun, rows: ChosenRows, evaluation: Evaluation) -> dict[str, Figure]:
    """Draw the evidence and the latents of the data that were evaluated."""
    evidence = evaluation.evidence
    figures: dict[str, Figure] = {}
    if any(estimate.curve for estimate in evidence.values()):
        figures["bound"] = evaluation.plot_bound()
    if "iwae" in evidence:
        figures["pareto_k"] = evaluation.plot_pareto_k()
    if "bdmc" in evidence:
        figures["sandwich"] = plots.sandwich(*(evidence["bdmc"].columns[side].numpy() for side in ("lower", "upper")))
    if best := next(iter(bounds_first(evidence)), None):
        log_evidence = evidence[best].log_evidence.numpy()
        worst = np.argsort(log_evidence)[:WORST_DATA]
        arrays = rows.read(worst)
        draws = run.vi.posterior(arrays, num_samples=32)
        lengths = arrays.get("lengths")
        data, means, look = picture_reconstructions(run.vi.fitted, draws, run.data, lengths)
        figures["worst"] = plots.worst_explained(data, means, log_evidence[worst], **look, rows=arrays["_row"])
    if (used := evaluation.diagnostics) is not None:
        by_dimension, names = used.divergence_by_dimension.numpy(), used.dimensions
        if np.isfinite(by_dimension).all() and used.active is not None:
            figures["divergence"] = plots.divergence_per_dimension(
                by_dimension, used.active.numpy(), errors=used.divergence_by_dimension_se.numpy(), names=names
            )
        figures["aggregated"] = plots.aggregated_posterior(
            used.draws.numpy(),
            used.prior_draws.numpy(),
            used.aggregated_divergence.numpy(),
            errors=used.aggregated_divergence_se.numpy(),
            gaussian_prior=used.gaussian_prior.numpy(),
            names=names,
        )
    return figures


def _to_arrays(tensors: Mapping[Any, Any]) -> dict[Any, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
