"""Evidence: one estimator a file, each a function of log-density callables. No Pyro in here."""

from ppl_vae.evidence.importance import Evidence, importance_sampling

__all__ = ["Evidence", "importance_sampling"]
