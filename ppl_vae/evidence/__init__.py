"""Estimators of the log evidence, one a file: functions of log weights or of log densities, without Pyro.

| file | estimator |
|---|---|
| ``prior`` | average of p(x given z) over draws from the prior |
| ``iwae`` | importance sampling with the guide |
| ``cubo`` | the chi-squared upper bound, from the same weights |
| ``ais`` | annealed importance sampling |
| ``smc`` | sequential Monte Carlo, for sequences whose latents are a chain |
| ``bdmc`` | bidirectional Monte Carlo: both sides, on simulated data |
| ``exact`` | the exact number, if it is known |

``estimate`` has what they share. Importance sampling needs ``weights`` and ``pareto``, and annealing needs ``hmc``.
``diagnostics`` measures how a fit uses its latents.
"""

from ppl_vae.evidence.ais import Annealing, Chains, TemperatureSchedule, ais, num_steps
from ppl_vae.evidence.bdmc import bdmc
from ppl_vae.evidence.cubo import cubo
from ppl_vae.evidence.diagnostics import (
    active_units,
    gaussian_divergence,
    marginal_divergence,
    marginal_divergence_error,
    prior_scales,
)
from ppl_vae.evidence.estimate import Evidence, Progress
from ppl_vae.evidence.exact import exact
from ppl_vae.evidence.iwae import iwae
from ppl_vae.evidence.pareto import can_tell, threshold
from ppl_vae.evidence.prior import prior
from ppl_vae.evidence.smc import Filters, smc
from ppl_vae.evidence.weights import Weights, weigh

__all__ = [
    "Annealing",
    "Chains",
    "Evidence",
    "Filters",
    "Progress",
    "TemperatureSchedule",
    "Weights",
    "active_units",
    "ais",
    "bdmc",
    "can_tell",
    "cubo",
    "exact",
    "gaussian_divergence",
    "iwae",
    "marginal_divergence",
    "marginal_divergence_error",
    "num_steps",
    "prior",
    "prior_scales",
    "smc",
    "threshold",
    "weigh",
]
