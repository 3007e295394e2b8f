"""The quality of the uses on the digits, as `benchmarks/uses.py` measures it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppl_vae.data import load_dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_missing_pixels_and_conditional_digits_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import uses

    data = load_dataset("digits")
    vae = uses.fitted(uses.VAE, data)
    for method in ("per-sample", "importance"):
        loss = uses.missing_pixels(vae, data, method)
        assert loss.program < loss.pixel_mean
        if method == "per-sample":
            assert loss.program < loss.neighbours
    share, accuracy = uses.agreement(uses.fitted(uses.CVAE, data), data)
    assert accuracy > 0.95
    assert share >= 0.85
