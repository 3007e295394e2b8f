"""Criticism of models by their draws: right models pass at the level, and wrong ones fail by the right check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppl_vae.check.comparison import compare, read_statistic
from ppl_vae.check.predictions import predictions
from ppl_vae.check.surprise import surprise
from ppl_vae.check.two_samples import two_samples
from ppl_vae.errors import InputError
from tests.helpers.calibrated import (
    KNOWN,
    THREE_ERRORS,
    GammaPoisson,
    GaussianCounts,
    checked,
    counts_of,
    drawn_from,
    known_mixture,
)

PAGE = 0.05 / 6
"""The level of one check on a page of six tests."""


def rates(seed: int, count: int = 300) -> np.ndarray:
    return np.random.default_rng([seed, 1]).gamma(3.0, 1.0, count)


def points(seed: int, count: int = 300) -> np.ndarray:
    random = np.random.default_rng([seed, 2])
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])[random.integers(3, size=count)]
    return centres + (np.log(2) + 0.01) * random.normal(size=(count, 2))


def test_a_right_model_of_counts_passes_every_check() -> None:
    fit = checked(GammaPoisson(), counts_of(rates(0, 100)), num_samples=100, num_simulations=100)
    for check in (predictions, surprise, two_samples):
        assert {verdict.status for verdict in check(fit).verdicts} == {"holds"}, check.__name__


def test_zeros_and_whole_numbers_are_named_with_their_remedy() -> None:
    inflated = checked(GammaPoisson(), counts_of(rates(1), zeros=0.3), level=PAGE, num_samples=100, num_simulations=100)
    statistics, intervals = predictions(inflated).verdicts
    assert statistics.status == intervals.status == "fails"
    assert "zeros: 0.3" in statistics.meaning
    assert "zero-inflated" in statistics.remedy
    gaussian = checked(GaussianCounts(), counts_of(rates(2)), level=PAGE, num_samples=100, num_simulations=100)
    assert "whole numbers: 1, drawn 0 to 0" in predictions(gaussian).verdicts[0].meaning


def test_an_own_statistic_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\ndef spread(x):\n    return {'range': np.ptp(x), 'shape': len(x)}\n")
    fit = checked(GammaPoisson(), counts_of(rates(3, 30)), num_samples=10)
    compared = compare(fit.test, 20, read_statistic(f"{path}:spread"))["x"]
    assert "range" in compared.names
    assert "shape" not in compared.names  # it is the same of all sets
    assert compared.observed[compared.names.index("range")] == np.ptp(fit.test.arrays["x"])
    for spec, what in {
        f"{path}:other": "has no function 'other'",
        f"{path}s:f": "expected path",
        "a.py:f": "no file",
    }.items():
        with pytest.raises(InputError, match=what):
            read_statistic(spec)


def repeat(
    program: Callable[[], Any], make: Callable[[int], np.ndarray], count: int, level: float
) -> dict[str, np.ndarray]:
    """Return by the name of a verdict, or of all of one check, True for every repetition in which it fails."""
    fails: dict[str, list[bool]] = {}
    for seed in range(count):
        x = make(seed)
        fit = checked(program(), x, level=level, num_samples=100, num_simulations=len(x), seed=seed)
        predicted = predictions(fit).verdicts  # two of each site
        verdicts = {
            "statistics": predicted[::2],
            "intervals": predicted[1::2],
            "predictions": predicted,
            "surprise": surprise(fit).verdicts,
            "two samples": two_samples(fit).verdicts,
        }
        for name, some in verdicts.items():
            fails.setdefault(name, []).append(any(verdict.status == "fails" for verdict in some))
    print({name: sum(failing) for name, failing in fails.items()}, "of", count)
    return {name: np.array(failing) for name, failing in fails.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_right_models_are_rejected_at_the_level(name: str) -> None:
    """The verdicts of predictions share the level. The data are drawn without the program."""
    fails = repeat(KNOWN[name][0], lambda seed: drawn_from(name, 40, seed), 200, 0.05)
    for check in ("predictions", "surprise", "two samples"):
        assert fails[check].mean() < 0.05 + THREE_ERRORS, check


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Gaussian noise on counts", "zeros that are ignored", "a missing mode"])
def test_wrong_models_are_found(name: str) -> None:
    cases: dict[str, tuple[Callable[[], Any], Callable[[int], np.ndarray]]] = {
        "Gaussian noise on counts": (GaussianCounts, lambda seed: counts_of(rates(seed), seed=seed)),
        "zeros that are ignored": (GammaPoisson, lambda seed: counts_of(rates(seed), zeros=0.1, seed=seed)),
        "a missing mode": (lambda: known_mixture(2), points),
    }
    fails = repeat(*cases[name], 40, PAGE)
    assert fails["statistics"].mean() > 0.9
    if name == "a missing mode":
        assert fails["surprise"].mean() > 0.9  # data that are surprising
        assert fails["two samples"].mean() > 0.9  # and that a classifier names
