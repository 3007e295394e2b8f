"""Fits to data that are streamed: their evidence is that of a fit in memory, in the worst order of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ppl_vae import VariationalInference
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded

CLASSES, PER_CLASS, DIMENSION = 4, 1300, 64


@pytest.fixture(scope="module")
def sorted_by_class() -> tuple[np.ndarray, np.ndarray]:
    """Return 4,800 data of four classes, one class after the other, and test data: 1.2 MiB of single precision."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLASSES, 1, DIMENSION))
    x = (centres + random.normal(size=(CLASSES, PER_CLASS, DIMENSION))).astype(np.float32)
    return x[:, 100:].reshape(-1, DIMENSION), x[:, :100].reshape(-1, DIMENSION)


def fit(x: np.ndarray, valid: np.ndarray, memory: str | None, seed: int = 0, **options: Any) -> VariationalInference:
    with seeded(0):
        program = FactorAnalysis(DIMENSION, latent_dim=4)
    common: dict[str, Any] = {"max_epochs": 4, "batch_size": 300, "learning_rate": 0.05, "compile": "off"}
    vi = VariationalInference(program, memory=memory, seed=seed, **common | options)
    vi.prepare({"x": x}, {"x": valid})
    list(vi.epochs())
    return vi


def test_the_evidence_of_a_streamed_fit_is_that_of_a_fit_in_memory(sorted_by_class: Any) -> None:
    """Sorted by class is the worst case. The noise of training is measured by fits in memory with other seeds."""
    x, test = sorted_by_class
    fits = [fit(x, test, None, seed) for seed in range(3)]
    assert not any(vi.describe_data() for vi in fits)
    streamed = fit(x, test, "1MiB")
    (line,) = streamed.describe_data()
    assert line.startswith("4,800 data (1.2 MiB) are streamed: 341 of 1,600 blocks at a time")
    evidence = np.array([vi.evidence(test, estimator="exact").log_evidence.numpy() for vi in (streamed, *fits)])
    difference, spread = evidence[0] - evidence[1:].mean(0), evidence[1:].mean(1).std(ddof=1)
    error = (difference.var(ddof=1) / len(test) + spread**2 * (1 + 1 / 3)) ** 0.5
    assert abs(difference.mean()) < 4 * error < 1
    assert evidence[1:].mean() > -105  # of -150 at the beginning
