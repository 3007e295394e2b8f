"""Fits of several ranks: their numbers, their lambda, and checkpoints from which any number of ranks goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.inference import Epoch
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.parallel import joined
from tests.helpers.ranks import run_ranks
from tests.helpers.scenarios import normal

X = normal(92, 5, seed=3).numpy().astype("float32")
"""83 training data: five batches of 16, and 3 for the last; 9 for validation."""
GUIDES: dict[str, dict[str, Any]] = {
    "amortized": {},
    "per-sample": {"warm_start": True, "local_steps": 3},
    "semi-amortized": {"local_steps": 2},
}


class Trained(NamedTuple):
    """What a rank knows after its fit."""

    rows: list[Epoch]
    state: dict[str, np.ndarray]


def train(path: Path, resume: bool = False, **options: Any) -> Trained:
    """Fit, go on from a checkpoint if there is one, and save."""
    with joined():
        program = partial(FactorAnalysis, data_dim=5, latent_dim=2)
        vi = VariationalInference(program, batch_size=16, schedule="constant", **options)
        vi.prepare({"x": X[:83]}, {"x": X[83:]}, resume=path if resume else None)
        rows = list(vi.epochs())
        vi.save_checkpoint(path)
        return Trained(rows, {name: tensor.numpy().copy() for name, tensor in vi.program_.state().items()})


def same(one: Trained, other: Trained) -> bool:
    return one.rows == other.rows and all(np.array_equal(one.state[name], other.state[name]) for name in one.state)


@pytest.mark.parametrize("guide", ["amortized", "per-sample", pytest.param("semi-amortized", marks=pytest.mark.slow)])
def test_ranks_end_with_the_same_bits_and_any_number_of_them_goes_on(guide: str, tmp_path: Path) -> None:
    fit = partial(train, guide=guide, clip_norm=1.0, ema_decay=0.5, **GUIDES[guide])
    paths = [tmp_path / name / "checkpoint.safetensors" for name in ("one", "two", "again")]
    for path in paths:
        path.parent.mkdir()
    (one,), (two, second), (again, _) = (
        run_ranks(size, partial(fit, path, max_epochs=2)) for size, path in zip((1, 2, 2), paths, strict=True)
    )
    assert same(two, second), "both ranks have the parameters and the numbers of both"
    assert same(two, again), "the seed and the number of ranks decide the bits"
    assert [row.epoch for row in two.rows] == [1, 2]
    tables = [np.load(path) for path in sorted(paths[1].parent.glob("*.npy"))]
    assert [len(table) for table in tables] == ([83, 9] if guide == "per-sample" else [])
    assert all(np.isfinite(table).all() for table in tables), "the rank that owns a row has visited it"
    (alone,) = run_ranks(1, partial(fit, paths[1], resume=True, max_epochs=3))
    three = run_ranks(3, partial(fit, paths[2], resume=True, max_epochs=3))
    assert same(three[0], three[2])
    for row, other in ((two.rows[0], one.rows[0]), (three[0].rows[0], alone.rows[0])):
        assert row.epoch == other.epoch
        assert row.elbo_train == pytest.approx(other.elbo_train, abs=1.0)


class Normalised(nn.Module):
    """A batch norm, whose running averages are those of the rows that a rank has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def model(self, x: Tensor) -> None:
        pyro.module("norm", self.norm)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.norm(x), 1.0).to_event(1), obs=x)


def test_running_averages_are_the_mean_of_those_of_the_ranks() -> None:
    """One batch of all: after an epoch, the average is a tenth of the mean of the means of the two halves."""

    def fit() -> list[np.ndarray]:
        with joined():
            vi = VariationalInference(Normalised, batch_size=92, max_epochs=1)
            vi.prepare({"x": X})
            average = vi.program_.module.get_buffer("norm.running_mean")
            before = average.numpy().copy()
            list(vi.epochs())
            return [before, average.numpy().copy()]

    for before, after in run_ranks(2, fit):
        np.testing.assert_allclose(after, 0.9 * before + 0.1 * X.mean(0), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_evidence_of_one_and_of_two_ranks_agrees_within_its_error() -> None:
    """At the optimum of a model whose evidence has a closed form; the error is that of the paired differences."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(1200, 2)) @ generator.normal(size=(2, 5)) + 0.5 * generator.normal(size=(1200, 5))

    def fit() -> np.ndarray:
        with joined():
            program = partial(FactorAnalysis, data_dim=5, latent_dim=2)
            vi = VariationalInference(program, batch_size=50, max_epochs=150, learning_rate=0.01)
            vi.fit(x[:800], validation=x[800:900])
            return vi.evidence(x[900:], estimator="exact").log_evidence.double().numpy()

    (one,), (two, other) = (run_ranks(size, fit) for size in (1, 2))
    assert np.array_equal(two, other)
    difference = two - one
    assert abs(difference.mean()) < 3 * difference.std() / len(difference) ** 0.5 + 1e-3
    assert abs(difference.mean()) < 0.02
