"""The data of the sequence benchmark, the same for every contestant."""

from __future__ import annotations

import numpy as np

KEYS, LATENT, EMISSION, TRANSITION, RNN = 88, 64, 100, 128, 200
"""The sizes of the deep Markov model of Krishnan, Shalit and Sontag (2017), with a GRU."""


def chorales(num_data: int, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences of chords ``(N, T, 88)``, all of full length, and their lengths."""
    rng = np.random.default_rng(0)
    x = (rng.random((num_data, num_steps, KEYS)) < 0.05).astype("float32")
    return x, np.full(num_data, num_steps, dtype="int64")
