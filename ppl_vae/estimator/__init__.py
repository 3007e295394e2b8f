"""The estimator: a program fitted to arrays, with scikit-learn's habits, and how good the fit is."""

from ppl_vae.estimator.describe import Description, describe
from ppl_vae.estimator.load import DATA_OPTIONS, load, load_data
from ppl_vae.estimator.options import Accelerator, Compile, check_options
from ppl_vae.estimator.variational_inference import VariationalInference
from ppl_vae.evaluation.comparison import (
    Compared,
    Measured,
    check_comparable,
    compare_fits,
    comparison_results,
    comparison_table,
    measure,
)
from ppl_vae.evaluation.estimators import ESTIMATORS, PerDatum, Settings, make_settings
from ppl_vae.evaluation.evaluation import Diagnostics, Evaluation, Row
from ppl_vae.evaluation.gap import Gap
from ppl_vae.evaluation.measure_gap import GapSettings, check_gap_settings, measure_gap
from ppl_vae.evaluation.results import PosteriorDraws
from ppl_vae.program import names_of

__all__ = [
    "DATA_OPTIONS",
    "ESTIMATORS",
    "Accelerator",
    "Compared",
    "Compile",
    "Description",
    "Diagnostics",
    "Evaluation",
    "Gap",
    "GapSettings",
    "Measured",
    "PerDatum",
    "PosteriorDraws",
    "Row",
    "Settings",
    "VariationalInference",
    "check_comparable",
    "check_gap_settings",
    "check_options",
    "compare_fits",
    "comparison_results",
    "comparison_table",
    "describe",
    "load",
    "load_data",
    "make_settings",
    "measure",
    "measure_gap",
    "names_of",
]
