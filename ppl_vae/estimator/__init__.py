"""The estimator: a program fitted to arrays, with scikit-learn's habits, and how good the fit is."""

from ppl_vae.estimator.estimators import ESTIMATORS, Settings, make_settings
from ppl_vae.estimator.evaluation import Diagnostics, Evaluation, Row
from ppl_vae.estimator.load import load
from ppl_vae.estimator.options import Accelerator, check_options
from ppl_vae.estimator.results import PosteriorDraws
from ppl_vae.estimator.variational_inference import VariationalInference

__all__ = [
    "ESTIMATORS",
    "Accelerator",
    "Diagnostics",
    "Evaluation",
    "PosteriorDraws",
    "Row",
    "Settings",
    "VariationalInference",
    "check_options",
    "load",
    "make_settings",
]
