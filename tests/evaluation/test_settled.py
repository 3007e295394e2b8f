"""Data whose lambda has not settled are counted and named in the results of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from ppl_vae import InputError, VariationalInference
from ppl_vae.evaluation.estimators import make_settings
from ppl_vae.evaluation.portions import EvaluatedRows, conclude, measure
from tests.helpers.known import small_factor_analysis
from tests.helpers.scenarios import normal

X = 3 * normal(12, 5).float().numpy()


@pytest.fixture(scope="module", autouse=True)
def short_blocks() -> Iterator[None]:
    """Let windows have a fifth of their length: these tests ask for no accuracy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ppl_vae.inference.settling.BLOCK", 5)
        yield


@pytest.fixture(scope="module")
def vi() -> VariationalInference:
    options = {"max_epochs": 1, "local_steps": 2, "num_samples": 20, "compile": "off"}
    return VariationalInference(small_factor_analysis(), "per-sample", inference_steps="auto", **options).fit(X)


def test_all_data_settle_and_the_table_says_so(vi: VariationalInference) -> None:
    evaluation = vi.evaluate(X)
    numbers = evaluation.numbers()["lambda"]
    assert numbers["not_settled"] == []
    assert 80 <= numbers["steps"] <= numbers["limit"] == 5000
    assert "has settled for 12 of 12 data" in evaluation.table("data")
    assert not any("lambda" in warning for warning in evaluation.warnings())
    fixed = vi.evaluate(X, inference_steps=100)
    assert fixed.settled is None
    assert evaluation.rows["elbo"].log_evidence > fixed.rows["elbo"].log_evidence - 0.1


def test_data_that_have_not_settled_are_named(vi: VariationalInference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppl_vae.inference.per_datum.MOST_STEPS", 40)
    settings = make_settings({"num_samples": 5})
    portions = [measure(vi.fitted, {"x": part}, ("iwae",), settings) for part in (X[:8], X[8:])]
    read = [EvaluatedRows.of(portion.content()) for portion in portions]
    evaluation = conclude(vi.fitted, read, settings, rows=np.arange(100, 112))
    assert evaluation.numbers()["lambda"]["not_settled"] == list(range(100, 112))
    json.dumps(evaluation.numbers()["lambda"])
    (warning,) = (line for line in evaluation.warnings() if line.startswith("lambda"))
    assert "that of 12 of 12 data has not settled" in warning
    assert "(rows 100, 101, " in warning


@pytest.mark.slow
def test_a_proposal_settles_from_the_encoder(vi: VariationalInference) -> None:
    amortized = VariationalInference(
        small_factor_analysis(), max_epochs=1, inference_steps="auto", num_samples=20, compile="off"
    ).fit(X)
    assert amortized.evaluate(X).settled is None
    settled = amortized.evaluate(X, proposal="per-sample").settled
    assert settled is not None
    assert settled.not_settled == ()


def test_another_word_is_refused() -> None:
    with pytest.raises(InputError, match="inference_steps is 'often': expected a whole number, 1 or more, or auto"):
        VariationalInference(small_factor_analysis(), "per-sample", inference_steps="often").fit(X)
