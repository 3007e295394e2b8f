"""Objectives as options of a fit: what training ascends changes, what is evaluated does not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from ppl_vae import InputError, VariationalInference
from ppl_vae.estimator.options import with_steady_average
from ppl_vae.evaluation.passes import Room, passes
from ppl_vae.evaluation.validation import validation_bound
from ppl_vae.inference import MethodOptions
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program, elbo_terms, seeded
from tests.helpers.scenarios import Conjugate, normal

X = np.repeat(np.eye(4, dtype=np.float32), 4, 1)[normal(200).numpy().argsort() % 4]  # four kinds of sixteen bits


def fitted(**options: Any) -> VariationalInference:
    with seeded(0):
        program = VAE(data_dim=16, latent_dim=2, hidden=(16,))
    common = {"max_epochs": 40, "learning_rate": 0.02, "batch_size": 50, "num_samples": 100, "schedule": "constant"}
    return VariationalInference(program, **(common | options)).fit(X)


def divergence(vi: VariationalInference) -> float:
    with vi.program_.running(seed=0, training=False):
        return elbo_terms(vi.program_, (torch.from_numpy(X),), 20).divergence.mean().item()


def test_a_weight_of_the_divergence_makes_it_smaller_and_the_evaluation_does_not_know_it() -> None:
    vi, plain = fitted(kl_weight=4.0), fitted()
    assert divergence(vi) < 0.7 * divergence(plain)
    with vi.program_.running(seed=0, training=False), torch.no_grad():
        elbos = vi.program_.log_weights((torch.from_numpy(X),), 1000)
    error = 4 * (elbos.var(0).mean() / len(X) * (1 / 100 + 1 / 1000)).sqrt().item()
    assert vi.evaluate(X).rows["elbo"].log_evidence == pytest.approx(elbos.mean().item(), abs=error)


def test_free_bits_keep_latents_in_use_that_a_large_weight_would_close() -> None:
    closed = fitted(kl_weight=30.0)
    kept = fitted(kl_weight=30.0, free_bits=0.5)
    assert divergence(closed) < 0.1
    assert divergence(kept) == pytest.approx(1.0, abs=0.4)  # two dimensions


VALIDATED = [{"bound": "iwae", "num_particles": 5}, {"valid_bound": "iwae", "valid_particles": 5}]


@pytest.mark.parametrize("options", VALIDATED, ids=str)
def test_the_importance_weighted_bound_is_what_is_validated(options: dict[str, Any]) -> None:
    vi = VariationalInference(Conjugate().double(), max_epochs=3, validation_fraction=0, **options)
    x = normal(1000).numpy()
    vi.prepare({"x": x}, {"x": x})
    *_, last = vi.epochs()
    with seeded(1), torch.no_grad():
        log_weights = vi.program_.log_weights((torch.from_numpy(x),), 5000)
    bounds = log_weights.unflatten(0, (-1, 5)).logsumexp(1) - math.log(5)
    error = 4 * (bounds.var(0).mean() / 1000).sqrt().item()  # of one bound a datum
    assert last.elbo_valid == pytest.approx(bounds.mean().item(), abs=error)
    assert last.elbo_valid > log_weights.mean().item() + error  # above the ELBO


def test_the_weight_rises_in_equal_steps() -> None:
    options = MethodOptions(kl_weight=2.0, kl_warmup_epochs=4)
    assert [options.kl_weight_in(epoch) for epoch in range(1, 7)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("guide", ["amortized", "per-sample", "semi-amortized"])
def test_a_warmed_up_run_is_resumed_where_it_was(guide: Any, tmp_path: Any) -> None:
    x = normal(40).numpy()

    def prepared(**resume: Any) -> VariationalInference:
        with seeded(0):
            program = Conjugate().double()
        options = {"max_epochs": 4, "kl_warmup_epochs": 3, "local_steps": 3, "patience": None, "ema_decay": 0.5}
        if guide == "per-sample":
            program.noise = torch.nn.Parameter(torch.tensor(0.5).double())  # the model has no parameters
            return _prepared_per_sample(options, x, **resume)
        vi = VariationalInference(program, guide, **options)  # type: ignore[arg-type]
        vi.prepare({"x": x}, {"x": x[:10]}, **resume)
        return vi

    expected = list(prepared().epochs())
    vi = prepared()
    stream = vi.epochs()
    rows = [next(stream), next(stream)]
    vi.save_checkpoint(tmp_path / "checkpoint.safetensors")
    rows += list(prepared(resume=tmp_path / "checkpoint.safetensors").epochs())
    assert rows == expected


def _prepared_per_sample(options: dict[str, Any], x: np.ndarray, **resume: Any) -> VariationalInference:
    with seeded(0):
        program = Program(VAE(data_dim=1, latent_dim=1, hidden=(3,), likelihood="gaussian").double())
    vi = VariationalInference(program, "per-sample", **options)
    vi.prepare({"x": x[:, None]}, {"x": x[:10, None]}, **resume)
    return vi


@pytest.mark.parametrize(("numbers", "draws"), [(10.0, 500), (2.5e5, 4), (1e8, 1)])
def test_validation_draws_often_from_few_data_but_long_sequences_less(numbers: float, draws: int) -> None:
    x = normal(10)
    program = Program(Conjugate().double()).bind((x,))
    with torch.no_grad():
        with seeded(1):
            found = validation_bound(program, [(x,)], 10, num_particles=1, bound="elbo", room=Room(numbers))
        expected = []
        with seeded(1):
            for at_once in passes(draws, Room(numbers).draws(10)):
                expected.append(program.log_weights((x,), at_once))
    assert found == pytest.approx(torch.cat(expected).mean().item())


def test_a_decaying_average_does_not_depend_on_the_clock() -> None:
    """It starts anew after each pause, so that pauses are counted in steps, or there are none within an epoch."""
    options = {"gradient": "score-function", "baseline": "decaying-average"}
    assert with_steady_average(VariationalInference(None, **options)).checkpoint_every > 10**9  # type: ignore[operator]
    assert with_steady_average(VariationalInference(None, checkpoint_every=7, **options)).checkpoint_every == 7
    assert with_steady_average(VariationalInference(None)).checkpoint_every is None
    for name in ("checkpoint_every", "validate_every"):
        with pytest.raises(InputError, match=f"{name} is '5m', and a decaying average .*: give a number of steps"):
            with_steady_average(VariationalInference(None, **{name: "5m"}, **options))


def test_a_plateau_needs_validations() -> None:
    with pytest.raises(InputError, match="waits for validations"):
        fitted(schedule="plateau", validation_fraction=0)
