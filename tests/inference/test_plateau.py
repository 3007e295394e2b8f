"""The plateau test of training: series whose rise and noise are known."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from ppl_vae import VariationalInference
from ppl_vae.inference.plateau import convergence, convergence_of
from ppl_vae.models.normal import Normal
from ppl_vae.program import seeded

EPOCHS = np.arange(1.0, 201.0)
COSINE = (1 + np.cos(np.pi * (EPOCHS - 1) / 200)) / 2


def noise(size: int, correlation: float, seed: int) -> np.ndarray:
    """Return a stationary series with standard deviation 1."""
    rng = np.random.default_rng(seed)
    values = np.empty(size)
    values[0] = rng.normal()
    for i in range(1, size):
        values[i] = correlation * values[i - 1] + np.sqrt(1 - correlation**2) * rng.normal()
    return values


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_a_level_bound_with_noise_has_converged(correlation: float) -> None:
    """At each of two horizons a rise of 2.5 errors is noise in 0.6 % of series, and in some more as it is estimated."""
    states = [convergence(-20 + 0.1 * noise(300, correlation, seed)).has_converged for seed in range(100)]
    assert np.mean(states) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 100)


@pytest.mark.parametrize("rates", [None, COSINE])
def test_a_training_that_was_stopped_at_a_tenth_has_not_converged(rates: np.ndarray | None) -> None:
    """The gain that is left decays with the sum of the learning rates; the whole training is ten times as long."""
    clock = np.cumsum(np.ones(200) if rates is None else rates)
    whole = clock[-1] / 12  # exp(-12) of the gain is left at the end
    for seed in range(20):
        shake = 0.05 * noise(200, 0.5, seed)
        assert convergence(-20 - 20 * np.exp(-clock / whole) + shake, EPOCHS).has_converged
        assert not convergence(-20 - 20 * np.exp(-clock / (10 * whole)) + shake, EPOCHS).has_converged


def test_the_rate_is_that_of_a_straight_line() -> None:
    state = convergence(-30 + 0.003 * EPOCHS + 0.01 * noise(200, 0.0, 0))
    rate, error = state.rate
    assert abs(rate - 0.3) < 3 * error
    assert str(state).startswith("training is still improving by 0.")


def test_a_bound_that_falls_has_converged_and_few_validations_are_judged_by_their_gain() -> None:
    assert convergence(-20 - 0.01 * EPOCHS).has_converged
    assert not convergence([-30.0, -25.0, -22.0]).has_converged
    assert not convergence([-30.0]).is_known
    assert not convergence([-30.0, -29.0], [99.0, 100.0]).has_converged
    assert str(convergence([-30.0, -25.0, -22.0])).endswith("from too few validations for an error")
    assert str(convergence([-22.0, -25.0, -30.0])) == "too few validations to tell if training has converged"
    assert convergence([-30.0, -20.0, -19.999, -19.998, -19.998, -19.998]).has_converged


def test_rows_that_were_not_validated_are_left_out() -> None:
    rows = [{"epoch": i, "elbo_valid": None if i % 2 else -1.0 * i, "step": 5 * i} for i in range(1, 9)]
    assert convergence_of(rows).has_converged  # it falls
    assert not convergence_of([{"epoch": 1, "elbo_train": 0.0}]).is_known


def fit_until(stop: str) -> VariationalInference:
    """Fit a Gaussian, whose bound is level after some epochs, for at most 150 epochs."""
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(64, 2)).astype("float32")
    with seeded(0):
        program = Normal(data_dim=2)
    options = {"max_epochs": 150, "learning_rate": 0.1, "schedule": "constant", "patience": None, "compile": "off"}
    return VariationalInference(program, stop=stop, **options).fit(x, validation=x)  # type: ignore[arg-type]


def test_training_stops_at_a_plateau_and_keeps_its_history(tmp_path: Path) -> None:
    whole, stopped = fit_until("never"), fit_until("plateau")
    assert len(whole.history_) == 150
    assert 20 <= len(stopped.history_) < 130
    assert stopped.convergence_.has_converged
    assert whole.training_.best_elbo - stopped.training_.best_elbo < 0.2  # of 19.6 nats that are gained
    assert list(stopped.history_) == list(whole.history_)[: len(stopped.history_)]
    stopped.save_checkpoint(tmp_path / "checkpoint.safetensors")
    again = VariationalInference(Normal(data_dim=2)).load_parameters(tmp_path / "checkpoint.safetensors")
    assert list(again.history_) == list(stopped.history_)
    assert copy.deepcopy(stopped).history_ == stopped.history_
