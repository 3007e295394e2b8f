"""Run folders that an earlier version wrote: they load, evaluate to the same numbers, and can be resumed.

``older_runs`` holds runs of the commit 709309f, made by these commands:

    fit --guide amortized --max-epochs 3 --num-samples 50 --model.hidden "[8]" --model.latent-dim 2
    fit --data my.npz --model mine.py --guide per-sample --max-epochs 3 --num-samples 50
        --local-steps 5 --inference-steps 30 --warm-start true
    fit --data my.npz --model factor_analysis --model.latent-dim 2 --guide semi-amortized --max-epochs 3
        --num-samples 50 --local-steps 3 --inference-steps 30
    evaluate amortized --estimators iwae,ais --num-samples 50 --num-temperatures 10 --num-data 30
    evaluate semi-amortized --num-samples 50 --num-data 30
    evaluate per-sample --num-samples 50
    gap amortized --num-data 20 --local-steps 20 --num-samples 50
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ppl_vae import load
from ppl_vae.__main__ import main
from ppl_vae.errors import ChangedSinceFit
from tests.helpers.runs import run_without_figures

EVALUATED = {
    "amortized": ["--estimators", "iwae,ais", "--num-temperatures", "10", "--num-data", "30"],
    "per-sample": [],
    "semi-amortized": ["--num-data", "30"],
}
RESUMED = {"amortized": -38.51861922589559, "per-sample": -42.47007782545089, "semi-amortized": -28.163537146663664}
"""The validation bound after five epochs, nats per datum, as that version found it."""


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the runs, with the paths to their data and program file as they are here."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    shutil.copytree(Path(__file__).parent / "older_runs", folder)
    for config in folder.glob("*/config.yaml"):
        text = config.read_text()
        for name in ("my.npz", "mine.py"):
            text = text.replace(f" {name}", f" {folder / name}")
        config.write_text(text)
    return folder


def close(mine: dict[str, Any], theirs: dict[str, Any], name: str) -> bool:
    """Compare a number that both have, up to the rounding of single precision on another processor."""
    return abs(mine[name] - theirs[name]) < 2e-3


@pytest.mark.parametrize("name", EVALUATED)
def test_an_older_run_evaluates_to_its_numbers(name: str, older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = json.loads((older / name / "evidence.json").read_text())
    assert run_without_figures("evaluate", [str(older / name), "--num-samples", "50", *EVALUATED[name]]) == 0
    assert capsys.readouterr().err.count("without fingerprints") == 1
    mine = json.loads((older / name / "evidence.json").read_text())
    new = {"elbo_joint"} if "shared" in mine else set()  # beside rows of programs with latents that all data share
    assert mine["estimators"].keys() - new == theirs["estimators"].keys()
    columns = ("log_evidence", "se") if new else ("log_evidence", "se", "mcse")  # which counts the shared draws now
    for estimator, row in theirs["estimators"].items():
        if estimator != "ais":  # an acceptance that rounding turns over moves a chain
            assert all(close(mine["estimators"][estimator], row, column) for column in columns)
    with pytest.warns(ChangedSinceFit, match="written by an earlier version, without fingerprints"):
        vi = load(older / name)
    assert vi.guide == name
    assert vi.train_seconds_ > 0


@pytest.mark.parametrize("name", RESUMED)
def test_an_older_run_is_resumed(name: str, older: Path) -> None:
    assert run_without_figures("fit", ["--resume", "--output", str(older / name), "--max-epochs", "5"]) == 0
    rows = [json.loads(line) for line in (older / name / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert abs(rows[-1]["elbo_valid"] - RESUMED[name]) < 2e-3


def test_the_page_of_an_older_run_has_its_numbers(older: Path) -> None:
    assert main(["report", str(older / "amortized")]) == 0
    page = (older / "amortized" / "report.html").read_text()
    evidence = json.loads((older / "amortized" / "evidence.json").read_text())
    number = f"{abs(evidence['estimators']['iwae']['log_evidence']):.2f}"  # the page may have another minus sign
    assert number in page
