"""Figures: each function takes arrays and returns one ``matplotlib.figure.Figure``.

Nothing here uses pyplot or changes ``rcParams``. A figure belongs to its caller, who saves it
(``figure.savefig("elbo.png", dpi=150)``), and is drawn without a display. A
function, and with it matplotlib, is imported when it is first used; a notebook then shows figures without pyplot.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ppl_vae.display.figures import show_figures_in_notebook

if TYPE_CHECKING:
    from ppl_vae.plots.bound import bound_over_samples, variance_over_particles
    from ppl_vae.plots.calibration import coverage, ecdf_differences, rank_histograms
    from ppl_vae.plots.evidence import pareto_k_histogram, sandwich, worst_explained
    from ppl_vae.plots.gap import gaps
    from ppl_vae.plots.imputation import filled_columns
    from ppl_vae.plots.latents import latent_space
    from ppl_vae.plots.posteriors import posteriors_beside_prior
    from ppl_vae.plots.predictive import evidence_of_two, statistics_among_draws
    from ppl_vae.plots.samples import prior_samples, reconstructions
    from ppl_vae.plots.sheets import sheet
    from ppl_vae.plots.style import number
    from ppl_vae.plots.sweep import bound_over_trials
    from ppl_vae.plots.training import elbo_over_epochs, elbo_over_rates
    from ppl_vae.plots.usage import aggregated_posterior, divergence_per_dimension

__all__ = [
    "aggregated_posterior",
    "bound_over_samples",
    "bound_over_trials",
    "coverage",
    "divergence_per_dimension",
    "ecdf_differences",
    "elbo_over_epochs",
    "elbo_over_rates",
    "evidence_of_two",
    "filled_columns",
    "gaps",
    "latent_space",
    "number",
    "pareto_k_histogram",
    "posteriors_beside_prior",
    "prior_samples",
    "rank_histograms",
    "reconstructions",
    "sandwich",
    "sheet",
    "statistics_among_draws",
    "variance_over_particles",
    "worst_explained",
]

_HOME = {
    "aggregated_posterior": "ppl_vae.plots.usage",
    "bound_over_samples": "ppl_vae.plots.bound",
    "bound_over_trials": "ppl_vae.plots.sweep",
    "coverage": "ppl_vae.plots.calibration",
    "divergence_per_dimension": "ppl_vae.plots.usage",
    "ecdf_differences": "ppl_vae.plots.calibration",
    "elbo_over_epochs": "ppl_vae.plots.training",
    "elbo_over_rates": "ppl_vae.plots.training",
    "evidence_of_two": "ppl_vae.plots.predictive",
    "filled_columns": "ppl_vae.plots.imputation",
    "gaps": "ppl_vae.plots.gap",
    "latent_space": "ppl_vae.plots.latents",
    "number": "ppl_vae.plots.style",
    "pareto_k_histogram": "ppl_vae.plots.evidence",
    "posteriors_beside_prior": "ppl_vae.plots.posteriors",
    "prior_samples": "ppl_vae.plots.samples",
    "rank_histograms": "ppl_vae.plots.calibration",
    "reconstructions": "ppl_vae.plots.samples",
    "sandwich": "ppl_vae.plots.evidence",
    "sheet": "ppl_vae.plots.sheets",
    "statistics_among_draws": "ppl_vae.plots.predictive",
    "variance_over_particles": "ppl_vae.plots.bound",
    "worst_explained": "ppl_vae.plots.evidence",
}


def __getattr__(name: str) -> Any:
    """Import a function when it is first used."""
    if name in _HOME:
        show_figures_in_notebook()
        globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
        return globals()[name]
    raise AttributeError(f"module 'ppl_vae.plots' has no attribute {name!r}")
