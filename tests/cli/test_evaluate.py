"""The verb ``evaluate`` from end to end: what it writes and prints."""

from __future__ import annotations

import json
import math
from pathlib import Path
from unittest.mock import Mock

import arviz
import pytest
from matplotlib.image import imread

from ppl_vae.cli.command import run_verb
from tests.helpers.chains import shorten_pilot
from tests.helpers.laws import traced
from tests.helpers.runs import run_without_figures

QUICK = ["--max-epochs", "2", "--num-samples", "10", "--model.hidden", "[8]", "--model.latent_dim", "2"]
FAST = ["--num-samples", "100", "--num-temperatures", "5", "--num-chains", "4", "--num-simulated", "20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run_without_figures("fit", [*QUICK, "--output", str(folder)]) == 0
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "elbo.png").write_bytes(b"a figure of the fit")
    return folder


def test_the_verb_writes_everything(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_pilot(monkeypatch)
    assert run_verb("evaluate", [str(run), "--estimators", "iwae, prior,cubo,ais,bdmc", "--num-data", "40", *FAST]) == 0
    out = capsys.readouterr().out
    found = json.loads((run / "evidence.json").read_text())
    assert (found["num_data"], found["part"]) == (40, "test")
    assert list(found["estimators"]) == ["elbo", "iwae", "prior", "cubo", "ais", "bdmc"]
    for name, row in found["estimators"].items():
        assert {"log_evidence", "mcse", "se", "bound", "doubtful", "seconds"} <= row.keys()
        assert f"{row['log_evidence']:.2f}" in out
        assert row["bits_per_dimension"] == pytest.approx(-row["log_evidence"] / 64 / math.log(2))
        assert row["num_data"] == (20 if name == "bdmc" else 40)
    bdmc = found["estimators"]["bdmc"]
    assert bdmc["lower"] < bdmc["upper"] + 3 * bdmc["mcse"]
    assert [found["estimators"][name]["bound"] for name in ("iwae", "cubo", "bdmc")] == [
        "lower",
        "estimate",
        "sandwich",
    ]
    assert found["estimators"]["elbo"]["log_evidence"] < found["estimators"]["iwae"]["log_evidence"]
    terms = found["diagnostics"]
    elbo = found["estimators"]["elbo"]
    error = math.hypot(elbo["mcse"], elbo["mcse"] * (100 / 16) ** 0.5)  # 16 draws, other ones
    assert terms["reconstruction"] - terms["divergence"] == pytest.approx(elbo["log_evidence"], abs=4 * error)
    assert list(terms["dimensions"]) == ["z[0]", "z[1]"]

    saved = arviz.from_netcdf(run / "evidence.nc")
    rows = saved.log_likelihood["datum"].values
    assert len(set(rows)) == 40
    assert rows.max() > 40  # drawn at random from all 360
    assert saved.log_likelihood["iwae"].mean().item() == pytest.approx(found["estimators"]["iwae"]["log_evidence"])
    stats = saved.sample_stats
    assert stats["iwae_pareto_k"].dims == ("chain", "draw", "datum")
    assert stats["iwae_bound"].dims == ("chain", "draw", "num_samples", "datum")
    assert list(stats["num_samples"].values) == [1, 10, 100]
    assert stats["bdmc_lower"].shape == (1, 1, 20)
    for name in ("bound", "pareto_k", "sandwich", "worst", "divergence", "aggregated"):
        assert imread(run / "figures" / f"{name}.png")[..., :3].std() > 0.02, f"{name} is blank"

    assert run_verb("evaluate", [str(run), "--estimators", "ais", "--num-data", "9", *FAST]) == 0
    assert not (run / "figures" / "sandwich.png").exists()  # it would be another evaluation's
    assert (run / "figures" / "elbo.png").read_bytes() == b"a figure of the fit"


def test_a_resumed_run_has_no_evidence_of_its_earlier_parameters(run: Path) -> None:
    assert run_without_figures("evaluate", [str(run), "--num-samples", "30", "--num-data", "9"]) == 0
    assert run_without_figures("fit", ["--resume", "--output", str(run), "--max-epochs", "3"]) == 0
    assert not (run / "evidence.json").exists()
    assert not (run / "evidence.nc").exists()


def test_the_verb_compiles_if_it_is_asked_to(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Mock(side_effect=traced)
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", made)
    monkeypatch.setattr("ppl_vae.evaluation.passes.NUMBERS_PER_PASS", 64 * 40 * 10)
    tables = {}
    for mode in ("off", "auto", "on"):
        asked = ["--compile", mode, "--num-data", "40", "--num-samples", "50"]
        assert run_without_figures("evaluate", [str(run), *asked]) == 0
        tables[mode] = [line.split()[:-1] for line in capsys.readouterr().out.splitlines()[:4]]
        assert made.called == (mode == "on")
    assert tables["on"] == tables["off"] == tables["auto"]


def test_an_encoder_that_is_refitted_is_reported_and_not_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, options = (run / "checkpoint.safetensors").read_bytes(), ["--num-data", "64", "--num-samples", "20"]
    assert run_without_figures("evaluate", [str(run), *options]) == 0
    before = json.loads((run / "evidence.json").read_text())
    assert "refit_encoder" not in before
    assert run_without_figures("evaluate", [str(run), *options, "--refit-encoder", "20"]) == 0
    assert "The encoder alone was trained for 20 epochs on these data" in capsys.readouterr().out
    after = json.loads((run / "evidence.json").read_text())
    assert after["refit_encoder"] == 20
    assert after["estimators"]["elbo"]["log_evidence"] > before["estimators"]["elbo"]["log_evidence"]
    assert (run / "checkpoint.safetensors").read_bytes() == kept
    for wrong in (["-1"], ["2", "--shard", "1/2"]):
        assert run_without_figures("evaluate", [str(run), *options, "--refit-encoder", *wrong]) == 2
