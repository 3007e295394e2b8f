"""Evidence: one estimator a file, each a function of log weights or log densities. No Pyro in here.

| file | estimator |
|---|---|
| ``prior`` | average of p(x given z) over draws from the prior |
| ``iwae`` | importance sampling with the guide |
| ``cubo`` | the chi-squared upper bound, from the same weights |
| ``ais`` | annealed importance sampling |
| ``bdmc`` | bidirectional Monte Carlo: both sides, on simulated data |
| ``exact`` | the number itself |

``estimate`` has what they share, ``weights`` and ``pareto`` what importance sampling needs, ``hmc`` what annealing
needs. ``diagnostics`` tells how a fit uses its latents.
"""

from ppl_vae.evidence.ais import Annealing, TemperatureSchedule, ais, num_steps
from ppl_vae.evidence.bdmc import bdmc
from ppl_vae.evidence.cubo import cubo
from ppl_vae.evidence.diagnostics import active_units, gaussian_divergence, marginal_divergence, prior_scales
from ppl_vae.evidence.estimate import Evidence, Progress
from ppl_vae.evidence.exact import exact
from ppl_vae.evidence.iwae import iwae
from ppl_vae.evidence.pareto import can_tell, threshold
from ppl_vae.evidence.prior import prior
from ppl_vae.evidence.weights import Weights, weigh

__all__ = [
    "Annealing",
    "Evidence",
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
    "num_steps",
    "prior",
    "prior_scales",
    "threshold",
    "weigh",
]
