"""Names of devices, on machines that have them and on others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from ppl_vae import InputError, VariationalInference, load
from ppl_vae.estimator import state
from ppl_vae.estimator.options import device, make_current
from ppl_vae.models.factor_analysis import FactorAnalysis


@pytest.mark.parametrize(
    ("name", "num_gpus", "apple", "expected"),
    [
        ("auto", 0, False, "cpu"),
        ("auto", 2, False, "cuda"),
        ("auto", 0, True, "cpu"),
        ("cuda", 1, False, "cuda"),
        ("cuda:1", 2, False, "cuda:1"),
        ("mps", 0, True, "mps"),
        ("mps", 0, False, "no Apple GPU"),
        ("cuda:0", 0, False, "--accelerator cuda:0: this machine has no GPU"),
        ("cuda:1", 1, False, "has 1 GPU, numbered from 0"),
        ("cuda:", 1, False, "unknown; expected auto, cpu, cuda, cuda:1 or mps"),
        ("cuda:x", 1, False, "unknown"),
        ("cpu:0", 1, False, "unknown"),
        ("tpu", 1, False, "unknown"),
    ],
)
def test_a_name_is_a_device_or_one_line(
    name: str, num_gpus: int, apple: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    if expected.split(":")[0] in ("cpu", "cuda", "mps"):
        place = device(name)
        assert place == torch.device(expected)
        assert current == []  # a name can be checked without an effect on the process
        make_current(place)
        assert current == ([place] if name == "cuda:1" else [])
    else:
        with pytest.raises(InputError, match=expected):
            device(name)


@pytest.mark.parametrize(("guide", "recipe"), [("amortized", None), ("per-sample", "factor_analysis")])
def test_a_fit_that_is_moved_gives_the_same_numbers(
    guide: str, recipe: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    vi = VariationalInference(recipe or FactorAnalysis(3, 2), guide=guide, max_steps=3, num_samples=5)
    before, program = vi.fit(x, verbose=False).score_samples(x), vi.program
    with pytest.raises(InputError, match="unknown"):
        vi.to("tpu")
    with monkeypatch.context() as patch:
        patch.setattr(state, "build", _fails)
        patch.setattr(VariationalInference, "attach", _fails)
        with pytest.raises(MemoryError):
            vi.to("cpu")
    np.testing.assert_array_equal(vi.score_samples(x), before)
    assert vi.to("cpu") is vi
    assert (vi.accelerator, vi.program is program) == ("cpu", True)
    np.testing.assert_array_equal(vi.score_samples(x), before)
    vi.save(tmp_path / "fit.safetensors")
    other = load(tmp_path / "fit.safetensors", None if recipe else FactorAnalysis(3, 2))
    np.testing.assert_array_equal(other.score_samples(x), before)
    vi.fit(x, verbose=False)
    assert (vi.score_samples(x) != before).any()
    assert not hasattr(clone(vi), "fitted_")


def _fails(*_: object, **__: object) -> None:
    raise MemoryError


def test_what_is_not_fitted_is_fitted_where_it_was_moved() -> None:
    assert VariationalInference("normal").to("cpu").accelerator == "cpu"
