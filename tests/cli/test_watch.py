"""The verb ``watch`` shows a fit while it runs, and ends with it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ppl_vae.cli import main
from ppl_vae.runs import Run

HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
SUMMARY = {
    "epochs": 4,
    "best_epoch": 3,
    "test": {"log_evidence": -37.5, "log_evidence_mcse": 0.125, "log_evidence_se": 0.25},
}


def log_epoch(run: Run, epoch: int) -> None:
    bounds = {"elbo_train": -44.0 + epoch, "elbo_valid": -43.5 + epoch}
    row = {
        "epoch": epoch,
        "step": 20 * epoch,
        "learning_rate": 0.002,
        "best_epoch": epoch,
        "train_seconds": 60.0 * epoch,
    }
    run.log(row | bounds)


def test_a_fit_is_followed_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds the lock of the run, as a fit does; the rows are those of this test."""
    monkeypatch.setattr("ppl_vae.cli.watch.POLL_SECONDS", 0.01)
    run = Run(tmp_path / "run")
    run.create({"max_epochs": 10})
    fit = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert fit.stdin is not None
    assert fit.stdout is not None
    assert fit.stdout.readline() == "held\n"
    for epoch in (1, 2, 3):
        log_epoch(run, epoch)
    assert main(["watch", str(run.path), "--rows", "2", "--follow", "false"]) == 0
    out = capsys.readouterr().out
    assert "-43.00" not in out  # the first of three rows
    first, second = (line.split(None, 4) for line in out.splitlines()[2:4])
    assert first == ["2", "-42.00", "-41.50", "0.002", "2 min 0 s"]
    assert second[4].split("  ")[-1].strip() == "7 min 0 s"  # left: seven epochs of a minute
    assert max(map(len, out.splitlines())) <= 80
    assert out.endswith("the fit is running\n")

    def end() -> None:
        time.sleep(0.1)
        log_epoch(run, 4)
        run.write_summary(SUMMARY)
        fit.communicate()

    ending = threading.Thread(target=end)
    ending.start()
    assert main(["watch", str(run.path)]) == 0
    ending.join()
    *rows, state, evidence = capsys.readouterr().out.splitlines()
    assert [int(row.split()[0]) for row in rows[2:]] == [1, 2, 3, 4]
    assert state == "the fit is complete: 4 epochs, best epoch 3"
    assert evidence == "test log evidence -37.50 nats per datum, errors 0.12 (draws) and 0.25 (data)"


def test_a_fit_that_was_stopped_says_how_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "run")
    run.create({"max_epochs": 10})
    log_epoch(run, 1)
    assert main(["watch", str(run.path)]) == 0
    assert f"the fit was stopped: python -m ppl_vae fit --resume --output {run.path}" in capsys.readouterr().out
    assert main(["watch", str(tmp_path / "none")]) == 2
    assert main(["watch", str(run.path), "--rows", "0"]) == 2
    assert "--rows 0: expected 1 or more" in capsys.readouterr().err
