"""Level and power of the plateau test on fits that its limits were not chosen on: other programs, data and seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from torch import nn

from ppl_vae import VariationalInference
from ppl_vae.inference import Convergence
from ppl_vae.models.hmm import HMM
from ppl_vae.models.mixture import Mixture
from ppl_vae.models.ppca import PPCA
from ppl_vae.models.vae import VAE
from ppl_vae.program import seeded


class FittedCase(NamedTuple):
    """A program, its data, and the options of its fit."""

    make: Callable[[], nn.Module]
    data: Callable[[np.random.Generator], np.ndarray]
    options: dict[str, Any]


def linear(random: np.random.Generator) -> np.ndarray:
    return 2 * random.normal(size=(300, 2)) @ random.normal(size=(2, 6)) + 0.5 * random.normal(size=(300, 6))


def clusters(random: np.random.Generator) -> np.ndarray:
    centres = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    return centres[random.integers(3, size=300)] + 0.4 * random.normal(size=(300, 2))


def sequences(random: np.random.Generator) -> np.ndarray:
    states = np.cumsum(random.uniform(size=(300, 6)) < 0.3, 1) % 3
    return np.array([-2.0, 0.0, 2.0])[states] + 0.5 * random.normal(size=states.shape)


def answers(random: np.random.Generator) -> np.ndarray:
    logits = 2 * random.normal(size=(300, 2)) @ random.normal(size=(2, 20))
    return (1 / (1 + np.exp(-logits)) > random.uniform(size=logits.shape)).astype(float)


CASES = {
    "ppca": FittedCase(lambda: PPCA(data_dim=6, latent_dim=2), linear, {"learning_rate": 0.02}),
    "mixture": FittedCase(lambda: Mixture(2, 3), clusters, {"learning_rate": 0.02}),
    "hmm": FittedCase(
        lambda: HMM(features=1, num_states=3, likelihood="gaussian"),
        sequences,
        {"learning_rate": 0.02, "schedule": "constant"},
    ),
    "vae": FittedCase(lambda: VAE(20, 2, hidden=(16,)), answers, {"learning_rate": 0.01}),
}
WHOLE = 150
"""The number of epochs of a whole training."""
SEEDS = 5


def trained(name: str, seed: int, max_epochs: int) -> Convergence:
    """Return the judgement of a training of that length."""
    case = CASES[name]
    x = case.data(np.random.default_rng([seed, 11])).astype("float32")
    with seeded(seed):
        program = case.make()
    options = {"stop": "never", "batch_size": 64, "compile": "off", "seed": seed, **case.options}
    vi = VariationalInference(program, max_epochs=max_epochs, **options)
    return vi.fit(x, verbose=False).convergence_


@pytest.mark.slow
def test_trainings_that_were_stopped_at_a_tenth_are_found_and_whole_ones_are_not() -> None:
    short = [trained(name, seed, WHOLE // 10).has_converged for name in CASES for seed in range(SEEDS)]
    whole = [trained(name, seed, WHOLE).has_converged for name in CASES for seed in range(SEEDS)]
    assert np.mean(short) < 0.1, short
    assert np.mean(whole) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / len(whole)), whole
