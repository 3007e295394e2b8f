"""A run that begins with the parameters of another one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ppl_vae.cli.fit import fit, parse
from ppl_vae.errors import InputError
from ppl_vae.runs import Run, read_checkpoint
from tests.helpers.messages import refusal
from tests.helpers.runs import run_without_figures

QUICK = ["--model", "normal", "--data", "my.npz", "--max-epochs", "3", "--num-samples", "10"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("started")
    x = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    np.savez(folder / "my.npz", x_train=x[:40], x_valid=x[40:50], x_test=x[50:])
    np.savez(folder / "others.npz", x_train=x[:40] + 1, x_valid=x[40:50] + 1, x_test=x[:10])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_without_figures("fit", [*QUICK, "--output", "first"]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def fit_with(args: list[str]) -> None:
    fit(**parse(args))


def best_of(run: str) -> dict[str, np.ndarray]:
    tensors, _ = read_checkpoint(Run.open(run).checkpoint)
    return {name: tensor.numpy() for name, tensor in tensors.items() if name.startswith("best.")}


def test_training_begins_with_the_parameters_of_the_other_run() -> None:
    """With a rate of almost nothing it stays there, whatever its seed."""
    still = ["--start-from", "first", "--learning-rate", "1e-30", "--seed", "5", "--output", "still"]
    assert run_without_figures("fit", [*QUICK, *still]) == 0
    first, second = best_of("first"), best_of("still")
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor, second[name], err_msg=name)
    assert json.loads(Path("still/summary.json").read_text())["epochs"] == 3
    assert Run.open("still").config()["start_from"] == str(Path("first").resolve())


def test_a_resumed_run_goes_on_from_its_own_parameters() -> None:
    again = ["--start-from", "first", "--output", "again"]
    assert run_without_figures("fit", [*QUICK, *again]) == 0
    assert run_without_figures("fit", ["--resume", "--output", "again", "--max-epochs", "5"]) == 0
    assert Run.open("again").metrics()[-1]["epoch"] == 5
    with pytest.raises(InputError, match="--resume with another start_from"):
        fit_with(["--resume", "--output", "again", "--start-from", "again"])


def test_other_test_data_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    args = [*QUICK, "--start-from", "first", "--output", "others"]
    assert run_without_figures("fit", args) == 0
    assert "warning" not in capsys.readouterr().err
    assert run_without_figures("fit", [*args, "--overwrite", "--data", "others.npz"]) == 0
    assert "has other test data, and may have been trained on some of those here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start-from", "nowhere"], "nowhere is no run folder"),
        (["--start-from", "first", "--find-learning-rate"], "--find-learning-rate searches from new parameters"),
        (["--start-from", "first", "--model", "ppca"], "the parameters belong to another model than PPCA"),
    ],
)
def test_what_has_no_such_parameters_is_refused(options: list[str], message: str) -> None:
    assert message in refusal(fit_with, [*QUICK, *options, "--output", "refused"])
    assert not Path("refused").exists()
