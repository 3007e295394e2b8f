"""A fit to standardised data: its numbers are in the units of the data, and its scales are kept with it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ppl_vae import InputError, VariationalInference, load
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.uses import augment, impute
from tests.helpers.runs import run_without_figures

UNITS = np.array([1000.0, 0.01, 1.0])


def make_table(number: int = 60) -> pd.DataFrame:
    z = np.random.default_rng(0).normal(size=(number, 1))
    x = z * [20.0, 0.001, 1.0] + np.random.default_rng(1).normal(size=(number, 3)) * [10.0, 0.001, 0.5] + UNITS
    return pd.DataFrame(x, columns=["height", "share", "change"])


def fit(x: object, **options: object) -> VariationalInference:
    settings = {
        "max_epochs": 2,
        "num_samples": 20,
        "standardize": True,
        "precision": "64-true",
        "compile": "off",
    } | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VariationalInference(FactorAnalysis(data_dim=3, latent_dim=1), **settings).fit(x, validation=x)


def test_the_fit_in_other_units_is_the_same_fit() -> None:
    """Units change the evidence by their logarithm alone, and draws and means by their factor."""
    x = make_table()
    vi, other = fit(x), fit(x * UNITS)
    jacobian = np.log(UNITS).sum()
    few = {"exact": {}, "iwae": {"num_samples": 20}, "ais": {"num_chains": 2, "num_temperatures": 3}}
    for estimator, settings in few.items():
        ours = vi.evidence(x[:9], estimator=estimator, **settings).log_evidence
        theirs = other.evidence(x[:9] * UNITS, estimator=estimator, **settings).log_evidence
        torch.testing.assert_close(ours - jacobian, theirs, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(vi.sample(5) * UNITS, other.sample(5))
    np.testing.assert_allclose(vi.reconstruct(x) * UNITS, other.reconstruct(x * UNITS))
    np.testing.assert_allclose(augment(vi, x).arrays["x"] * UNITS, augment(other, x * UNITS).arrays["x"])


def test_what_is_missing_is_filled_in_in_the_units_of_the_data() -> None:
    x = make_table()
    vi, holes = fit(x), x.to_numpy().copy()
    holes[:, 0] = np.nan
    options = {"num_samples": 40, "num_draws": 2, "method": "importance"}
    filled = impute(vi, pd.DataFrame(holes[:5], columns=x.columns), **options)
    other = impute(fit(x * UNITS), pd.DataFrame(holes[:5] * UNITS, columns=x.columns), **options)
    np.testing.assert_allclose(filled.mean["x"] * UNITS, other.mean["x"])
    np.testing.assert_allclose(filled.draws["x"] * UNITS, other.draws["x"])
    np.testing.assert_allclose(filled.log_evidence - np.log(UNITS[1:]).sum(), other.log_evidence)


def test_training_with_holes_has_the_scales_of_what_was_seen() -> None:
    holes = make_table().to_numpy().copy()
    holes[::3, 0], holes[1::4, 1] = np.nan, np.nan
    vi, other = (fit(pd.DataFrame(x, columns=list("abc"))) for x in (holes, holes * UNITS))
    scale = next(value for name, value in vi.program_.state().items() if "scale_0" in name)
    np.testing.assert_allclose(scale, np.nanstd(holes, 0))
    jacobian = (~np.isnan(holes) * np.log(UNITS)).sum(1)
    frame = pd.DataFrame(holes, columns=list("abc"))
    np.testing.assert_allclose(vi.score_samples(frame) - jacobian, other.score_samples(frame * UNITS), rtol=1e-9)


@pytest.mark.parametrize("guide", ["per-sample", "semi-amortized"])
def test_every_method_takes_standardised_data(guide: str) -> None:
    x = make_table(20)
    steps = {"local_steps": 2, "inference_steps": 2}
    ours, theirs = (fit(data, guide=guide, **steps).score(data) for data in (x, x * UNITS))
    assert ours - np.log(UNITS).sum() == pytest.approx(theirs)


def test_the_scales_are_kept(tmp_path: Path) -> None:
    x = make_table()
    file, folder = tmp_path / "own.csv", tmp_path / "run"
    x.to_csv(file, index=False)
    options = ["--data", str(file), "--model", "factor_analysis", "--model.latent-dim", "1", "--max-epochs", "2"]
    options += ["--standardize", "--num-samples", "20", "--output", str(folder)]
    assert run_without_figures("fit", options) == 0
    vi = load(folder)
    scales = {name: value for name, value in vi.program_.state().items() if "scales" in name}
    location, scale = scales.values()
    np.testing.assert_allclose(location, x.mean(), rtol=0.1, atol=0.3)
    np.testing.assert_allclose(scale, x.std(), rtol=0.4)
    assert vi.sample(3).mean(0)[0] > 900  # heights, not their standardised values
    again = copy.deepcopy(vi)
    np.testing.assert_array_equal(again.score_samples(x), vi.score_samples(x))
    assert run_without_figures("fit", [*options[:-2], "--output", str(folder), "--resume", "--max-epochs", "3"]) == 0
    resumed = {name: value for name, value in load(folder).program_.state().items() if "scales" in name}
    torch.testing.assert_close(resumed, scales)


def test_data_that_have_nothing_to_standardise_are_refused() -> None:
    counts = pd.DataFrame({"a": [3, 1, 2] * 5, "b": [0, 1, 1] * 5, "c": [1, 2, 5] * 5})
    with pytest.raises(InputError, match=r"no column is real or positive \(a, b, c\)"):
        fit(counts)
    with pytest.raises(InputError, match=r"a datum of 'x' has shape \(3, 1\)"):
        fit(np.random.default_rng(0).normal(size=(9, 3, 1)))
