"""The estimator: a program fitted to arrays, with scikit-learn's habits."""

from ppl_vae.estimator.describe import Description, describe
from ppl_vae.estimator.load import load, load_data
from ppl_vae.estimator.options import Accelerator, check_options
from ppl_vae.estimator.variational_inference import VariationalInference

__all__ = [
    "Accelerator",
    "Description",
    "VariationalInference",
    "check_options",
    "describe",
    "load",
    "load_data",
]
