"""Fits of several processes from the command line: one writer, one message, and what comes after a kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppl_vae.cli.command import run_verb
from ppl_vae.inference import Training
from tests.helpers.ranks import Launcher
from tests.helpers.runs import read_numbers, run_without_figures

OPTIONS = ["--model.latent-dim", "2", "--model.hidden", "[4]", "--num-samples", "8", "--batch-size", "16"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bits of 40 training data, 9 for validation and 11 for the test."""
    path, x = tmp_path_factory.mktemp("data") / "bits.npz", np.random.default_rng(0).integers(0, 2, (60, 5))
    np.savez(path, x_train=x[:40], x_valid=x[40:49], x_test=x[49:])
    return path


def fitting(data: Path, output: Path, *options: str) -> Callable[[], int]:
    args = ["--data", str(data), "--binarize", "none", *OPTIONS, "--output", str(output), "--max-epochs", "4", *options]
    return lambda: run_without_figures("fit", args)


def test_the_first_process_writes_and_a_kill_of_another_changes_no_number(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process is killed in its third epoch; after the restart, the fit ends as one that was not killed."""
    monkeypatch.setattr("ppl_vae.cli.fit.CHECKPOINT_SECONDS", 0.0)
    ranks = Launcher().run(2, fitting(data, tmp_path / "whole"))
    assert [rank.value for rank in ranks] == [0, 0]
    assert "on 2 processes (cpu)" in ranks[0].out
    assert (ranks[1].out, ranks[0].err, ranks[1].err) == ("", "", "")

    run_epoch = Training._run_epoch

    def is_killed(self: Training, *args: Any) -> Any:
        if self.epoch == 2 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return run_epoch(self, *args)

    launcher = Launcher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_run_epoch", is_killed)
        left, killed = launcher.run(2, fitting(data, tmp_path / "killed"))
    assert isinstance(killed.error, EOFError)
    assert left.value == 1
    assert left.err.startswith("error: one of the 2 processes has ended")
    assert left.err.count("\n") == 1
    assert [rank.value for rank in launcher.run(2, fitting(data, tmp_path / "killed"))] == [0, 0]
    assert read_numbers(tmp_path / "killed") == read_numbers(tmp_path / "whole")


def test_an_error_of_one_process_is_one_message_and_ends_all(data: Path, tmp_path: Path) -> None:
    """A grey value in the rows of the second process alone; a restart does not try it again."""
    arrays = dict(np.load(data))
    arrays["x_train"] = arrays["x_train"].astype(float)
    arrays["x_train"][37, 2] = 0.5
    np.savez(tmp_path / "grey.npz", **arrays)
    launcher = Launcher()
    for attempt in range(2):
        ranks = launcher.run(2, fitting(tmp_path / "grey.npz", tmp_path / "run"))
        assert all(rank.value in (1, 2) for rank in ranks)
        messages = [rank.err for rank in ranks if rank.err]
        assert len(messages) == 1 - attempt, messages
        for message in messages:
            assert message.startswith("error: ")
            assert message.count("\n") == 1
            assert "37" in message
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_an_error_of_all_processes_is_one_message(data: Path, tmp_path: Path) -> None:
    """And what stands in the folder is no run that this fit had written: a restart does not go on with it."""
    assert fitting(data, tmp_path / "run")() == 0
    before = read_numbers(tmp_path / "run")
    launcher = Launcher()
    for attempt in range(2):
        ranks = launcher.run(2, fitting(data, tmp_path / "run"))
        assert "".join(rank.err for rank in ranks).count("--overwrite replaces it") == 1 - attempt
    assert read_numbers(tmp_path / "run") == before
    ranks = Launcher().run(3, fitting(data, tmp_path / "new", "--batch-size", "2"))
    (message,) = [rank.err for rank in ranks if rank.err]
    assert message == (
        "error: the batch size is 2, and there are 3 processes: each needs a datum in every batch; start fewer\n"
    )


def test_other_verbs_run_in_one_process(tmp_path: Path) -> None:
    ranks = Launcher().run(2, lambda: run_verb("report", [str(tmp_path)]))
    assert {rank.value for rank in ranks} == {2}
    assert ranks[0].err == "error: report runs in one process: start it without torchrun\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--processes", "0"], "--processes is 0"),
        (["--processes", "two"], "option --processes: expected a whole number, got 'two'"),
        (["--max-restarts", "2"], "--max-restarts restarts several processes"),
        (["--processes", "2", "--batch-size", "few"], "option --batch-size: expected a whole number"),
        (["--processes", "2", "--no-option", "1"], "unknown option --no-option"),
    ],
)
def test_bad_options_are_reported_before_a_process_starts(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppl_vae.cli.command.launch", pytest.fail)
    assert run_verb("fit", options) == 2
    assert message in capsys.readouterr().err
