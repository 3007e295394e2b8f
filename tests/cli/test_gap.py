"""The verb ``gap`` from end to end: what it writes and prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ppl_vae.cli.command import run_verb
from tests.helpers.own_programs import MODEL_ONLY
from tests.helpers.runs import run_without_figures
from tests.helpers.scenarios import normal


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    np.savez(folder / "my.npz", x=normal(80, 5).numpy())
    (folder / "mine.py").write_text(MODEL_ONLY)
    options = ["--data", str(folder / "my.npz"), "--model", str(folder / "mine.py"), "--num-samples", "10"]
    options += ["--guide", "semi-amortized", "--max-epochs", "2", "--output", str(folder / "run")]
    assert run_without_figures("fit", options) == 0
    return folder / "run"


def test_the_verb_writes_numbers_and_a_figure(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)  # the program lies in the working tree
    fast = ["--families", "full,diagonal", "--local-steps", "20", "--num-samples", "50"]
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert run_verb("gap", [str(run), *fast, "--part", "train", "--num-data", "11"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"written to {run}: gap.json, figures/gap.png" in out
    numbers = json.loads((run / "gap.json").read_text())
    assert (numbers["part"], numbers["num_data"], list(numbers["families"])) == ("train", 11, ["diagonal", "full"])
    assert numbers["settings"]["local_steps"] == 20
    assert out.startswith("train, 11 data; evidence by iwae with ")
    for value in (numbers["log_evidence"], numbers["elbo_amortized"], numbers["families"]["full"]["elbo"]):
        assert f"{value:.2f}" in out
    assert imread(run / "figures" / "gap.png")[..., :3].std() > 0.02
    assert {name: (run / name).read_bytes() for name in before} == before

    assert run_without_figures("gap", [str(run), *fast, "--compile", "off"]) == 0
    again = json.loads((run / "gap.json").read_text())
    assert (again["part"], again["num_data"]) == ("test", 8)
    capsys.readouterr()
    for asked, part in {
        "--families nonsense": "--families: 'nonsense' is unknown; known: diagonal, flow, full",
        "--local-steps -3": "local_steps is -3: expected a whole number, 1 or more",
        "--num-data 0": "num_data is 0",
        "--part tset": "one of train, valid, test",
        "--compile never": "expected one of auto, on, off, got never",
        "--local-learning-rate 0": "local_learning_rate is 0.0",
        "--steps 3": "unknown option --steps",
    }.items():
        assert run_verb("gap", [str(run), *asked.split()]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert part in err
    assert json.loads((run / "gap.json").read_text()) == again
    assert run_verb("gap", ["nowhere"]) == 2
    assert "nowhere is no run folder" in capsys.readouterr().err
