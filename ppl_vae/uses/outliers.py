"""Data that the model finds unlikely."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ppl_vae.estimator import VariationalInference
from ppl_vae.uses.description import Caption, describe_use


class Outliers(NamedTuple):
    """Data in the order of their log evidence, the least likely first."""

    order: np.ndarray
    """Their rows, ``(N,)``."""
    log_evidence: np.ndarray
    """Of each row, as they were given, ``(N,)``, nats."""
    mcse: np.ndarray
    """Its Monte Carlo error, ``(N,)``, nats."""
    doubtful: np.ndarray
    """Where the estimate should not be believed, ``(N,)``."""
    estimator: str


@describe_use(outliers=Caption("uses", "Outliers", "The data with the lowest log evidence."))
def outliers(vi: VariationalInference, *arrays: Any, estimator: str | None = None, **settings: Any) -> Outliers:
    r"""Order data by their log evidence, the least likely first.

    Density is no proof of membership: deep models give simple data of another kind a high one (Nalisnick et al., Do
    Deep Generative Models Know What They Don't Know?, 2019). Sequences of more steps have less of it.

    Args:
        vi: a fitted program.
        arrays: the data, in the order of the model's arguments, or one mapping.
        estimator: exact where it is known, else iwae; or another, see ``evidence``.
        settings: of the estimator, such as ``num_samples=5000``.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.normal import Normal
        >>> x = np.append(np.random.default_rng(0).normal(size=(99, 1)), [[9.0]], 0)
        >>> outliers(VariationalInference(Normal(data_dim=1), max_epochs=5).fit(x), x).order[0]
        np.int64(99)
    """
    if estimator is None:
        estimator = "exact" if vi.program_.has_log_evidence else "iwae"
    found = vi.evidence(*arrays, estimator=estimator, **settings)
    log_evidence, mcse, doubtful = (part.numpy() for part in (found.log_evidence, found.mcse, found.doubtful))
    return Outliers(np.argsort(log_evidence, kind="stable"), log_evidence, mcse, doubtful, estimator)
