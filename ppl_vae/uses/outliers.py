"""Data in the order of their log evidence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ppl_vae.display.readable import readable
from ppl_vae.estimator import VariationalInference
from ppl_vae.uses.description import Caption, describe_use


@readable
class Outliers(NamedTuple):
    """Data in the order of their log evidence, the least likely first."""

    order: np.ndarray
    """Numbers of the rows, the least likely first, ``(N,)``."""
    log_evidence: np.ndarray
    """Log evidence of the rows in the order of the data, ``(N,)``, nats."""
    mcse: np.ndarray
    """Monte Carlo errors of the log evidence, ``(N,)``, nats."""
    doubtful: np.ndarray
    """True for an estimate that should not be believed, ``(N,)``."""
    estimator: str
    """Name of the estimator, and what it estimates if latents are shared by all data."""


@describe_use(outliers=Caption("uses", "Outliers", "The data with the lowest log evidence."))
def outliers(vi: VariationalInference, *arrays: Any, estimator: str | None = None, **settings: Any) -> Outliers:
    r"""List data by their log evidence, the least likely first.

    A high density does not prove that a datum belongs to the data: deep models give a high density to simple data of
    another kind (Nalisnick et al., Do Deep Generative Models Know What They Don't Know?, 2019). Longer sequences have a
    lower density.

    Args:
        vi: a fitted program.
        arrays: the data, in the order of the model's arguments, or one mapping.
        estimator: name of an estimator, see ``VariationalInference.evidence``; by default exact if it is known, else
            iwae.
        settings: settings of the estimator, such as ``num_samples=5000``.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.normal import Normal
        >>> x = np.append(np.random.default_rng(0).normal(size=(99, 1)), [[9.0]], 0)
        >>> outliers(VariationalInference(Normal(data_dim=1), max_epochs=5).fit(x), x).order[0]
        np.int64(99)
    """
    estimator = estimator or estimator_of_outliers(vi)
    evidence = vi.evidence(*arrays, estimator=estimator, **settings)
    log_evidence, mcse, doubtful = (part.numpy() for part in (evidence.log_evidence, evidence.mcse, evidence.doubtful))
    name = estimator if vi.program_.global_posterior is None else f"{estimator}, predictive given the fit"
    return Outliers(np.argsort(log_evidence, kind="stable"), log_evidence, mcse, doubtful, name)


def estimator_of_outliers(vi: VariationalInference) -> str:
    """Return the name of the estimator that ``outliers`` takes by default."""
    return "exact" if vi.program_.has_log_evidence else "iwae"
