"""The option ``--logger`` of ``fit``: a log has the rows and the evidence that the run folder has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppl_vae.cli.command import run_verb
from tests.helpers.logged import read_csv
from tests.helpers.own_programs import QUICK
from tests.helpers.runs import run_without_figures


def test_a_fit_and_its_resumption_write_one_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_without_figures("fit", [*QUICK, "--output", "run", "--logger", "csv"]) == 0
    assert run_without_figures("fit", ["--output", "run", "--resume", "--max-epochs", "3"]) == 0
    run, logged = tmp_path / "run", read_csv(tmp_path / "run" / "logs")
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for name in ("epoch", "elbo_train", "elbo_valid", "learning_rate", "train_seconds"):
        assert logged.rows[name] == [(row["step"], row[name]) for row in metrics]
    assert len(metrics) == 3
    assert all(0 < rate < 1e6 for _, rate in logged.rows["steps_per_second"])
    summary = json.loads((run / "summary.json").read_text())
    assert logged.results["test.log_evidence"] == summary["test"]["log_evidence"]
    assert logged.results["test.log_evidence_se"] == summary["test"]["log_evidence_se"]
    assert (logged.settings["max_epochs"], logged.settings["model.init_args.latent_dim"]) == ("3", "2")


def test_an_unknown_logger_is_reported_with_the_other_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("fit", ["--logger", "csv,tensorbord", "--batch-size", "0"]) == 2
    err = capsys.readouterr().err
    assert "did you mean 'tensorboard'?" in err
    assert len(err.splitlines()) == 2
