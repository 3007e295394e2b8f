"""The estimator: a program fitted to arrays, with scikit-learn's habits."""

from ppl_vae.estimator.load import load
from ppl_vae.estimator.options import Accelerator, check_options
from ppl_vae.estimator.results import PosteriorDraws, Score
from ppl_vae.estimator.variational_inference import VariationalInference

__all__ = ["Accelerator", "PosteriorDraws", "Score", "VariationalInference", "check_options", "load"]
