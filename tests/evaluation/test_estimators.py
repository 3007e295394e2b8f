"""Laws of every estimator of the evidence, and of one that is registered while the program runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae import InputError, load
from ppl_vae.cli.command import run_verb
from ppl_vae.evaluation.estimators import ESTIMATORS, Estimator
from ppl_vae.evidence import Evidence, Weights
from tests.helpers.runs import run_without_figures
from tests.helpers.scenarios import bits, normal

FAST = {"num_samples": 30, "num_filters": 3, "num_temperatures": 3, "num_chains": 4, "num_simulated": 5}
OPTIONS = [text for name, value in FAST.items() for text in (f"--{name.replace('_', '-')}", str(value))]
NUM_DATA = 6


def average(weights: Weights) -> Evidence:
    """Return the mean log weight, which is the ELBO."""
    elbo = weights.curve[1]
    draws = torch.full_like(elbo, weights.num_samples)
    return Evidence(elbo, weights.spread / math.sqrt(weights.num_samples), draws, elbo > math.inf, "lower")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "average", Estimator(average, "guide"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("runs"), normal(60, 4), "--model factor_analysis --model.latent_dim 2")


@pytest.fixture(scope="module")
def run_of_sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = "--model.features 2 --model.latent_dim 2 --model.emission 3 --model.transition 3 --model.rnn 3"
    return fit(tmp_path_factory.mktemp("runs"), bits(60, 2, 2), f"--model deep_markov_model {sizes}")


def fit(folder: Path, x: Tensor, model: str) -> Path:
    np.savez(folder / "x.npz", x=x.numpy())
    options = ["--data", str(folder / "x.npz"), "--max-epochs", "2", "--num-samples", "10", *model.split()]
    assert run_without_figures("fit", [*options, "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize("name", [*ESTIMATORS, "average"])
def test_an_estimator_has_numbers_a_row_and_a_place_in_the_table(name: str, run: Path, run_of_sequences: Path) -> None:
    vi, x = load(run), normal(NUM_DATA, 4, seed=1).numpy()
    if ESTIMATORS[name].needs == "steps":
        vi, x = load(run_of_sequences), bits(NUM_DATA, 2, 2).float().numpy()
    evaluation = vi.evaluate(x, estimators=[name], **FAST)
    evidence, row = evaluation.evidence[name], evaluation.rows[name]
    count = FAST["num_simulated"] if ESTIMATORS[name].needs == "simulated data" else NUM_DATA
    for values in evidence.table().values():
        assert values.shape == (count,)
    assert evidence.log_evidence.dtype == evidence.mcse.dtype == torch.double
    assert evidence.log_evidence.isfinite().all()
    assert (evidence.mcse >= 0).all()
    assert (row.num_data, row.log_evidence) == (count, evidence.log_evidence.mean().item())
    assert torch.equal(vi.evidence(x, estimator=name, **FAST).log_evidence, evidence.log_evidence)
    numbers = evaluation.numbers()
    assert numbers["estimators"][name]["log_evidence"] == row.log_evidence
    bits_per_dimension = -row.log_evidence / (4 * math.log(2))
    assert numbers["estimators"][name]["bits_per_dimension"] == pytest.approx(bits_per_dimension)
    table = evaluation.table("test")
    assert any(line.startswith(name) and f"{row.log_evidence:.2f}" in line for line in table.splitlines())
    assert f"<td>{row.log_evidence:.2f}</td>" in evaluation._repr_html_()
    with pytest.raises(InputError, match="num_samples is 0: expected a whole number, 1 or more"):
        vi.evaluate(x, estimators=[name], num_samples=0)


def test_the_command_knows_every_estimator(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name, estimator in ESTIMATORS.items() if estimator.needs != "steps"]
    assert names[-1] == "average"
    asked = ["--estimators", ",".join(names), "--num-data", str(NUM_DATA), *OPTIONS]
    assert run_without_figures("evaluate", [str(run), *asked]) == 0
    out = capsys.readouterr().out.splitlines()
    written = json.loads((run / "evidence.json").read_text())["estimators"]
    assert set(written) == {*names, "elbo"}
    for name in names:
        assert any(line.startswith(name) and f"{written[name]['log_evidence']:.2f}" in line for line in out)
    assert written["average"]["log_evidence"] == pytest.approx(written["elbo"]["log_evidence"])
    assert run_verb("report", [str(run)]) == 0
    assert "average, 30 draws" in (run / "report.html").read_text()
