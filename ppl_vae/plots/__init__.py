"""Figures: each function takes arrays and returns one ``matplotlib.figure.Figure``.

Nothing here uses pyplot or changes ``rcParams``. A figure belongs to its caller, who saves it
(``figure.savefig("elbo.png", dpi=150)``), and is drawn without a display.
"""

from __future__ import annotations

from ppl_vae.plots.bound import bound_over_samples, variance_over_particles
from ppl_vae.plots.evidence import pareto_k_histogram, sandwich, worst_explained
from ppl_vae.plots.gap import gaps
from ppl_vae.plots.latents import latent_space
from ppl_vae.plots.posteriors import posteriors_beside_prior
from ppl_vae.plots.samples import prior_samples, reconstructions
from ppl_vae.plots.sheet import sheet
from ppl_vae.plots.style import number
from ppl_vae.plots.training import elbo_over_epochs
from ppl_vae.plots.usage import aggregated_posterior, divergence_per_dimension

__all__ = [
    "aggregated_posterior",
    "bound_over_samples",
    "divergence_per_dimension",
    "elbo_over_epochs",
    "gaps",
    "latent_space",
    "number",
    "pareto_k_histogram",
    "posteriors_beside_prior",
    "prior_samples",
    "reconstructions",
    "sandwich",
    "sheet",
    "variance_over_particles",
    "worst_explained",
]
