"""A process that fits again and again: nothing of a fit stays when nobody holds it any more."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from ppl_vae import VariationalInference
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded
from tests.helpers.laws import traced
from tests.helpers.scenarios import normal

FILES = Path("/proc/self/fd")
X = normal(30, 4).float().numpy()
OPTIONS: dict[str, dict[str, Any]] = {
    "amortized": {},
    "per-sample": {"guide": "per-sample", "warm_start": True},
    "semi-amortized": {"guide": "semi-amortized"},
    "compiled": {"compile": "on"},
    "averaged": {"ema_decay": 0.5},
}


def use_a_fit(options: dict[str, Any]) -> list[weakref.ref[Any]]:
    """Fit a program, use the fit, and return weak references to its parts."""
    with seeded(0):
        program = FactorAnalysis(data_dim=4, latent_dim=2)
    few = {"max_epochs": 2, "num_samples": 5, "local_steps": 2, "inference_steps": 3}
    vi = VariationalInference(program, **(few | options)).fit(X)
    vi.score(X)
    if vi.compile != "on":  # or many graphs would be made
        vi.evaluate(X, diagnostics=True)
        vi.transform(X)
        vi.reconstruct(X)
        vi.sample(3)
    parts = [vi, program, vi.program_, vi.inference_, vi.training_, vi.fitted, *program.parameters()]
    return [weakref.ref(part) for part in parts]


def open_files() -> int:
    return len(list(FILES.iterdir()))


@pytest.mark.skipif(not FILES.is_dir(), reason="no list of open files here")
@pytest.mark.parametrize("name", OPTIONS)
def test_a_fit_that_nobody_holds_is_freed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", traced)
    use_a_fit(OPTIONS[name])  # what is imported and cached on first use stays
    gc.collect()  # so that what tests before this one left is not freed between the two counts
    files, threads = open_files(), threading.active_count()
    parts = use_a_fit(OPTIONS[name])
    gc.collect()
    assert [part() for part in parts] == [None] * len(parts)
    assert open_files() <= files
    assert threading.active_count() <= threads
