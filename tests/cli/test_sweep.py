"""The verb ``sweep`` with the real Optuna: trials, pruning, going on, the best trial, and wrong spaces."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ppl_vae.cli import sweep as verb
from ppl_vae.cli import trials
from ppl_vae.cli.configuration import options_of_config
from ppl_vae.cli.space import read_space
from ppl_vae.errors import Diverged, InputError
from ppl_vae.runs import Run
from tests.helpers.pages import ROOT
from tests.helpers.runs import run_without_figures

optuna = pytest.importorskip("optuna")


def write_space(folder: Path, **changes: Any) -> Path:
    """Write a small data set and the space of a sweep over two options, and return the path of the space."""
    np.savez(folder / "bits.npz", x=np.random.default_rng(0).integers(0, 2, (60, 6)).astype("float32"))
    space = {
        "data": str(folder / "bits.npz"),
        "model": {"class_path": "vae", "init_args": {"latent_dim": {"low": 1, "high": 4}, "hidden": [4]}},
        "learning_rate": {"low": "1e-3", "high": 1, "log": True},
        "max_epochs": 4,
        "num_samples": 3,
        "compile": "off",
    }
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(space | changes))
    return path


def run_sweep(path: Path, count: int, *options: str) -> int:
    return run_without_figures(
        "sweep", ["--config", str(path), "--trials", str(count), "--output", str(path.parent / "sweep"), *options]
    )


def read_states(folder: Path) -> list[str]:
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder / 'sweep.db'}")
    states = [trial.state.name for trial in study.trials]
    study._storage._backend.engine.dispose()
    return states


def test_a_sweep_goes_on_stops_bad_trials_and_evaluates_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second command interrupts a trial, the third goes on; a trial whose bounds are made bad is stopped."""
    path, folder = write_space(tmp_path), tmp_path / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "conclude", lambda *args, **options: verb.Outcome(None))
        assert run_sweep(path, 2) == 0
    first = [(folder / f"trial-00{i}" / "config.yaml").read_text() for i in range(2)]

    train = trials.train
    monkeypatch.setattr(trials, "train", lambda options, note: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run_sweep(path, 3) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert read_states(folder) == ["COMPLETE", "COMPLETE", "FAIL", "WAITING"]

    def train_badly(options: Any, note: Any) -> None:
        if options.output.name == "trial-004":
            raise Diverged("not finite")
        train(options, lambda row: note(row._replace(elbo_valid=row.elbo_valid - 100)))

    monkeypatch.setattr(verb, "STARTUP_TRIALS", 1)
    monkeypatch.setattr(verb, "WARMUP_EPOCHS", 2)
    monkeypatch.setattr(trials, "train", train_badly)
    assert run_sweep(path, 4) == 0
    assert read_states(folder) == ["COMPLETE", "COMPLETE", "FAIL", "PRUNED", "PRUNED"]

    result = Run(folder).read_json("sweep.json")
    assert result is not None
    assert [row["ending"] for row in result["trials"]] == ["trained", "trained", "stopped early", "diverged"]
    assert [row["epochs"] for row in result["trials"]] == [4, 4, 2, 0]
    assert first == [(folder / f"trial-00{i}" / "config.yaml").read_text() for i in range(2)]
    for row in result["trials"][:2]:
        metrics = Run(row["folder"]).metrics()
        assert len(metrics) == 4
        assert row["elbo_valid"] == max(line["elbo_valid"] for line in metrics)
        assert Run(row["folder"]).config()["learning_rate"] == row["values"]["learning_rate"]
        assert Run(row["folder"]).model()[1]["latent_dim"] == row["values"]["model.latent_dim"]
    assert result["best"] == int(np.argmax([row["elbo_valid"] for row in result["trials"][:2]]))
    summary = Run(folder / f"trial-00{result['best']}").read_json("summary.json")
    assert summary is not None
    assert result["test"] == summary["test"]
    assert result["test"]["log_evidence_se"] > 0
    printed = capsys.readouterr().out
    assert "too high on average" in printed
    assert max(map(len, printed[printed.index("Trials by") :].splitlines()[:5])) <= 80

    write_space(tmp_path, max_epochs=5)
    assert run_sweep(path, 4) == 2
    assert "was begun with another space" in capsys.readouterr().err


def test_the_same_trials_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suggestions are those of the seed, also after the random trials and in several commands."""
    seen: list[list[Any]] = []

    def train(options: Any, note: Any) -> None:
        rate = options["learning_rate"]
        seen[-1].append((rate, options["model"]["init_args"]["latent_dim"]))
        note(trials.Epoch(1, -1.0, -abs(math.log(rate) + 3), 0.1, 1))

    monkeypatch.setattr(trials, "train", train)
    monkeypatch.setattr(trials, "options_of_config", lambda config, *rest, **options: config)
    path = write_space(tmp_path)
    space = read_space(path)
    for counts in ((12,), (5, 12)):
        study = optuna.create_study(direction="maximize")
        seen.append([])
        for count in counts:
            trials.search(study, space, tmp_path, path, count, trust=False)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 12
    assert {type(dim) for _, dim in seen[0]} == {int}


WRONG = {
    "did you mean --learning-rate": {"learning_rte": {"low": 0.1, "high": 1}},
    "low must be less than high": {"learning_rate": {"low": 1, "high": 0.1}},
    "begins above zero": {"learning_rate": {"low": 0, "high": 1, "log": True}},
    "expected a number": {"learning_rate": {"low": "a", "high": 1}},
    "has no high": {"learning_rate": {"low": 1}},
    "did you mean 'high'": {"learning_rate": {"low": 1, "hihg": 2}},
    "expected a list of values": {"batch_size": {"choices": 3}},
    "got 1.5": {"batch_size": {"low": 1.5, "high": 8}},
    "expected whole numbers": {"batch_size": {"low": 1, "high": 8, "step": 0.5}},
    "decides the data": {"seed": {"low": 1, "high": 3}},
    "leave it out": {"output": "runs/x"},
    "got banana": {"batch_size": {"choices": [8, "banana"]}},
    "nothing to search": {"model": "vae", "learning_rate": 0.1},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_space_is_refused_in_a_line(message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_space(write_space(tmp_path, **WRONG[message]))
    assert not (tmp_path / "sweep").exists()


def test_a_range_of_fractions_may_end_in_whole_numbers(tmp_path: Path) -> None:
    rate, dim = read_space(write_space(tmp_path, learning_rate={"low": 1, "high": 2})).dimensions
    assert not rate.is_whole
    assert dim.is_whole


def test_arguments_of_the_default_program_are_kept(tmp_path: Path) -> None:
    config = {"model": {"init_args": {"latent_dim": 3}}}
    assert options_of_config(config, tmp_path / "a.yaml", tmp_path).init_args["latent_dim"] == 3


def test_without_optuna_a_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run_sweep(write_space(tmp_path), 1) == 2
    assert capsys.readouterr().err == "error: sweep needs optuna: pip install 'ppl-vae[sweep]'\n"


@pytest.mark.parametrize("options", [["--trials", "0"], ["--storage", "nosuch://x"], ["--output", "space.yaml"]])
def test_wrong_options_are_refused(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_sweep(write_space(tmp_path), 1, *options) == 2


@pytest.mark.slow
def test_two_workers_share_the_trials_and_a_killed_one_is_repeated(tmp_path: Path) -> None:
    path, folder = write_space(tmp_path, max_epochs=150), tmp_path / "sweep"
    command = [sys.executable, "-m", "ppl_vae", "sweep", "--config", str(path), "--trials", "6", "--output"]
    start = [*command, str(folder), "--prune", "false"]
    workers = [subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert read_states(folder).count("COMPLETE") == 6
    assert all("trial " in text for text in printed)
    assert any("too high on average" in text for text in printed)

    start[start.index("6")] = "8"
    killed = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.DEVNULL)
    while len(list(folder.glob("trial-*/metrics.jsonl"))) < 7:
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    subprocess.run(start, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=300)
    states = read_states(folder)
    assert states.count("COMPLETE") == 8
    assert "RUNNING" not in states
    assert len(json.loads((folder / "sweep.json").read_text())["trials"]) == 8
