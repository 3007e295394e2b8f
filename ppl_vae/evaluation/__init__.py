"""Evaluation: estimators of the evidence applied to a fit; results, diagnosis, comparison and gaps."""
