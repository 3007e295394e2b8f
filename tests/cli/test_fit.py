"""The verbs fit and evaluate from end to end, called in this process and once as a user calls them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib.image import imread
from torch import Tensor

import ppl_vae
from ppl_vae import InputError, load
from ppl_vae.cli import command, list_verbs, main
from ppl_vae.cli.command import run_verb
from ppl_vae.data import load_dataset
from ppl_vae.data.batches import Batches
from ppl_vae.models.vae import VAE
from ppl_vae.program.bfloat16 import ProductTimes
from ppl_vae.runs import known_models
from tests.helpers.laws import traced
from tests.helpers.own_programs import OWN_PROGRAM, PLAIN, QUICK
from tests.helpers.runs import read_numbers, run_without_figures, unwritten_figures


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "my data.npz", x=rng.normal(size=(80, 2)) @ rng.normal(size=(2, 5)))
    parts = {"x_train": 128, "x_valid": 32, "x_test": 32}  # batches of 32 have one graph
    np.savez(tmp_path / "small.npz", **{name: rng.integers(0, 2, size=(size, 64)) for name, size in parts.items()})
    (tmp_path / "mine.py").write_text(OWN_PROGRAM)
    return tmp_path


SMALL = [*QUICK, "--data", "small.npz", "--batch-size", "32"]


def test_a_run_folder_has_everything_and_evaluate_repeats_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("fit", ["--guide", "amortized", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # there is no progress bar without a terminal
    run = here / "runs" / "digits-vae-amortized"
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert names == {
        "checkpoint.safetensors",
        "config.yaml",
        "fingerprints.json",
        "metrics.jsonl",
        "posterior.nc",
        "summary.json",
        *(f"figures/{name}.png" for name in ("elbo", "latents", "prior", "reconstructions")),
    }
    for figure in (run / "figures").iterdir():
        image = imread(figure)
        assert min(image.shape[:2]) > 300
        assert image[..., :3].std() > 0.02, f"{figure.name} is blank"
    summary = json.loads((run / "summary.json").read_text())
    test = summary["test"]
    assert set(test) >= {"elbo", "elbo_se", "log_evidence", "log_evidence_se", "estimator", "num_samples", "num_data"}
    assert (test["estimator"], test["num_samples"], test["num_data"]) == ("iwae", 10, 360)
    assert test["elbo"] < test["log_evidence"] < 0
    assert summary["train_seconds"] > 0
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in metrics] == [1, 2]
    assert {"elbo_train", "elbo_valid", "learning_rate"} <= set(metrics[0])

    table = out.split("\n\n")[1]
    assert f"{test['elbo']:.2f}" in table
    assert f"{test['log_evidence']:.2f}" in table
    assert run_without_figures("evaluate", [str(run), "--num-samples", "10"]) == 0
    assert without_seconds(capsys.readouterr().out)[:4] == without_seconds(table)[:4]
    first = "model  vae, amortized guide, on cpu, steps not compiled: 38 are too few to repay it"  # 19 a whole epoch
    assert torch.cuda.is_available() or out.splitlines()[1] == first

    part = ["--part", "train", "--num-samples", "3", "--num-data", "50"]
    assert run_without_figures("evaluate", [str(run), *part]) == 0
    evidence = json.loads((run / "evidence.json").read_text())
    assert (evidence["part"], evidence["num_data"], evidence["settings"]["num_samples"]) == ("train", 50, 3)


def without_seconds(table: str) -> list[list[str]]:
    """Return the cells of a table without its last column, the seconds."""
    return [line.split()[:-1] for line in table.strip().splitlines()]


def test_load_gives_the_fitted_object(here: Path) -> None:
    assert run_without_figures("fit", [*QUICK, "--output", "run"]) == 0
    vi = ppl_vae.load("run")
    assert isinstance(vi.program, VAE)
    assert vi.program.latent_dim == 2
    x = load_dataset("digits").test["x"]
    test = json.loads(Path("run/summary.json").read_text())["test"]
    # The command multiplies matrices at another precision setting, which moves the last bits of single precision.
    assert vi.score(x) == pytest.approx(test["log_evidence"], rel=1e-6)
    assert vi.transform(x).shape == (360, 2)
    assert vi.sample(4).shape == (4, 64)


def test_a_program_in_a_file_is_fitted_evaluated_and_drawn(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "mine.py:Mine", "--data", "my data.npz", "--max-epochs", "3", "--num-samples", "20"]
    with unwritten_figures() as figures:
        assert run_verb("fit", [*options, "--model.width", "2"]) == 0
    assert figures == {"elbo", "latents", "prior", "reconstructions"}
    run = here / "runs" / "my data-Mine-amortized"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"] == {
        "class_path": f"{here}/mine.py:Mine",
        "init_args": {"width": 2, "scale": 0.5},
    }
    assert config["data"] == str(here / "my data.npz")
    table = capsys.readouterr().out.split("\n\n")[1]
    (here / "elsewhere").mkdir()
    os.chdir(here / "elsewhere")
    assert run_without_figures("evaluate", [str(run), "--num-samples", "20"]) == 2
    assert "lies outside the working tree" in capsys.readouterr().err
    assert run_without_figures("evaluate", [str(run), "--num-samples", "20", "--trust"]) == 0
    assert without_seconds(capsys.readouterr().out)[:4] == without_seconds(table)[:4]


def test_config_repeats_a_run_and_options_override_it(here: Path) -> None:
    quick = [option.replace("-epochs", "_epochs") for option in SMALL]  # either spelling will do
    assert run_without_figures("fit", [*quick, "--seed", "3", "--output", "first"]) == 0
    assert run_without_figures("fit", ["--config", "first/config.yaml", "--output", "second"]) == 0
    assert read_numbers(here / "first") == read_numbers(here / "second")
    changes = ["--output", "third", "--seed", "4", "--model.latent-dim=3"]
    assert run_without_figures("fit", ["--config", "first/config.yaml", *changes]) == 0
    config = yaml.safe_load(Path("third/config.yaml").read_text())
    assert (config["seed"], config["max_epochs"]) == (4, 2)
    expected = {"data_dim": 64, "latent_dim": 3, "hidden": [8], "activation": "relu", "likelihood": "bernoulli"}
    assert config["model"]["init_args"] == expected | {"encoder_dropout": 0.0}


def test_data_dim_is_the_size_of_a_datum(here: Path) -> None:
    np.savez("bits.npz", x=np.random.default_rng(0).integers(0, 2, size=(60, 4, 3)))
    assert run_without_figures("fit", [*QUICK, "--data", "bits.npz", "--output", "run"]) == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["model"]["init_args"]["data_dim"] == 12


def test_a_stopped_run_that_is_resumed_gets_the_numbers_of_one_that_was_not_stopped(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process gets a signal, as from a cluster's scheduler, within its fourth epoch; it is started twice alike."""
    options = [*SMALL, "--max-epochs", "6", "--batch-size", "16"]
    assert run_without_figures("fit", [*options, "--output", "whole"]) == 0
    options += ["--output", "stopped", "--resume", "auto"]
    capsys.readouterr()
    shuffled, epochs = Batches.shuffled, count(1)

    def signalling(batches: Batches, *seeds: int, **options: int) -> Iterator[tuple[Tensor, ...]]:
        epoch = next(epochs)
        for number, batch in enumerate(shuffled(batches, *seeds, **options)):
            if (epoch, number) == (4, 5):
                assert threading.current_thread() is threading.main_thread(), "another thread would not be interrupted"
                os.kill(os.getpid(), signal.SIGUSR1)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "shuffled", signalling)
        assert run_without_figures("fit", options) == 130
    assert re.fullmatch(
        r"stopped in epoch \d; python -m ppl_vae fit --resume .*stopped continues the run\n", capsys.readouterr().err
    )
    assert (here / "stopped" / "metrics.jsonl").read_text().count("\n") == 3
    assert not (here / "stopped" / "summary.json").exists()
    assert run_without_figures("fit", options) == 0
    assert read_numbers(here / "stopped") == read_numbers(here / "whole")


def test_a_finished_run_can_be_resumed_for_more_epochs(here: Path) -> None:
    assert run_without_figures("fit", [*QUICK, "--schedule", "constant"]) == 0
    # The folder's name follows from the other options.
    assert run_without_figures("fit", ["--resume", "--max-epochs", "4"]) == 0
    run = here / "runs" / "digits-vae-amortized"
    assert [row["epoch"] for row in read_numbers(run)["metrics"]] == [1, 2, 3, 4]
    assert yaml.safe_load((run / "config.yaml").read_text())["max_epochs"] == 4
    assert run_without_figures("fit", [*QUICK, "--schedule", "constant", "--max-epochs", "4", "--output", "whole"]) == 0
    assert read_numbers(run) == read_numbers(here / "whole")


def test_a_compiled_run_has_the_numbers_of_python_and_can_be_resumed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs run with PyTorch's own kernels; gradients are clipped, and products are in bfloat16."""
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", traced)
    monkeypatch.setattr("ppl_vae.estimator.precision.product_times", lambda: ProductTimes(fp32=2e-3, bf16=1e-3))
    options = [*SMALL, "--clip-norm", "30", "--precision", "bf16-mixed", "--schedule", "constant", "--seed", "1"]
    assert run_without_figures("fit", [*options, "--output", "python", "--compile", "off"]) == 0
    assert ", steps not compiled\n" in capsys.readouterr().out
    assert run_without_figures("fit", [*options, "--output", "whole", "--compile", "on"]) == 0
    assert ", steps compiled\n" in capsys.readouterr().out
    assert run_without_figures("fit", [*options, "--output", "stopped", "--compile", "on", "--max-epochs", "1"]) == 0
    assert run_without_figures("fit", ["--resume", "--output", "stopped", "--max-epochs", "2"]) == 0
    assert read_numbers(here / "stopped") == read_numbers(here / "whole")
    compiled, expected = (read_numbers(here / name)["metrics"] for name in ("whole", "python"))
    for row, other in zip(compiled, expected, strict=True):
        assert row["elbo_train"] == pytest.approx(other["elbo_train"], rel=1e-3)
        assert row["elbo_valid"] == pytest.approx(other["elbo_valid"], rel=1e-3)
    config = yaml.safe_load(Path("whole/config.yaml").read_text())
    assert (config["compile"], config["precision"], config["clip_norm"]) == ("on", "bf16-mixed", 30.0)
    assert ppl_vae.load("whole").compile == "on"
    assert ppl_vae.load("whole", compile="off").compile == "off"


def test_dynamic_bits_are_drawn_again_every_epoch_from_the_seed(here: Path) -> None:
    for name in ("a", "b"):
        assert run_without_figures("fit", [*QUICK, "--binarize", "dynamic", "--output", name]) == 0
    assert read_numbers(here / "a") == read_numbers(here / "b")
    assert run_without_figures("fit", [*QUICK, "--binarize", "static", "--output", "c"]) == 0
    assert read_numbers(here / "a")["metrics"] != read_numbers(here / "c")["metrics"]


def test_every_part_of_a_dynamic_run_can_be_evaluated(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_without_figures("fit", [*QUICK, "--binarize", "dynamic", "--output", "run"]) == 0
    table = capsys.readouterr().out.split("\n\n")[1]
    assert run_without_figures("evaluate", ["run", "--num-samples", "10"]) == 0
    assert without_seconds(capsys.readouterr().out)[:4] == without_seconds(table)[:4]
    assert run_without_figures("evaluate", ["run", "--part", "train", "--num-data", "20", "--num-samples", "10"]) == 0
    assert json.loads((here / "run" / "evidence.json").read_text())["num_data"] == 20


def test_conditions_may_be_vectors_and_models_may_have_no_latents(here: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez("pairs.npz", x=rng.normal(size=(60, 5)), y=rng.normal(size=(60, 3)))
    (here / "plain.py").write_text(PLAIN)
    options = ["--data", "pairs.npz", "--max-epochs", "2", "--num-samples", "5"]
    for name, has_latents in (("mine", True), ("plain", False)):
        with unwritten_figures() as figures:
            assert run_verb("fit", [*options, "--model", f"{name}.py", "--output", name]) == 0
        assert ("latents" in figures) == has_latents
    test = json.loads(Path("plain/summary.json").read_text())["test"]
    assert test["elbo"] == pytest.approx(test["log_evidence"])  # there is nothing to integrate out


def test_a_model_of_real_numbers_is_fitted_to_grey_values(here: Path) -> None:
    options = ["--model", "factor_analysis", "--binarize", "none", "--max-epochs", "2", "--num-samples", "10"]
    assert run_without_figures("fit", [*options, "--output", "run"]) == 0
    assert json.loads(Path("run/summary.json").read_text())["test"]["num_data"] == 360


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_a_run_is_fitted_evaluated_resumed_and_loaded(here: Path) -> None:
    """The same verbs; the evidence agrees with that of the same parameters on the CPU within single precision."""
    assert run_verb("fit", [*QUICK, "--accelerator", "cuda", "--binarize", "dynamic", "--output", "run"]) == 0
    assert run_verb("fit", ["--resume", "--output", "run", "--max-epochs", "3"]) == 0
    scores = []
    for name in ("cuda", "cpu"):
        assert run_verb("evaluate", ["run", "--num-samples", "200", "--accelerator", name]) == 0
        scores.append(json.loads((here / "run" / "evidence.json").read_text())["estimators"]["iwae"]["log_evidence"])
    assert scores[0] == pytest.approx(scores[1], abs=0.05)  # other draws, 360 data by 200
    vi = ppl_vae.load("run")
    assert vi.fitted.device.type == "cuda"
    assert vi.sample(3).shape == (3, 64)


def test_help_explains_the_options_of_the_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["--help"], ["--help", "model"], ["--model", "mine.py:Mine", "--model.help"]):
        assert main(["fit", *args]) == 0
    out = capsys.readouterr().out
    assert "--model.latent_dim" in out
    assert "--model.width" in out
    assert "--max-epochs" in out
    assert f"The gallery has {', '.join(known_models())}." in " ".join(out.split())


def test_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^  (\w+)", out, re.MULTILINE) == list_verbs()
    assert main(["ft"]) == 2
    assert (
        capsys.readouterr().err
        == f"error: unknown verb 'ft'; did you mean 'fit'? (known: {', '.join(sorted(list_verbs()))})\n"
    )


IMPORT_AND_FIT = """\
import os, runpy, sys, torch

before = torch.get_float32_matmul_precision()
import ppl_vae.estimator

assert torch.get_float32_matmul_precision() == before
assert "GOMP_SPINCOUNT" not in os.environ
import ppl_vae.cli.fit, ppl_vae.models.vae
late = {"pandas", "sklearn", "scipy.stats", "matplotlib", "h5py", "narwhals", "pyarrow", "torchvision", "arviz"}
print(f"imported early: {sorted(late & set(sys.modules))}")
ppl_vae.cli.fit._write_figures = lambda fitted: None  # figures would take most of the time
for entry, arguments in (("ppl_vae", ["fit"]), ("ppl_vae.fit", ["--data", "nothing.npz"])):
    sys.argv = [entry, *arguments, *sys.argv[1:]]
    try:
        runpy.run_module(entry, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        print(f"{entry} has the exit status {stop.code}")
    sys.argv = sys.argv[:1]
"""


def test_a_process_of_its_own_whose_settings_the_library_leaves_alone(here: Path) -> None:
    """Importing the library changes no setting of the process; the commands do. Bad input has an exit status.

    Libraries that most commands need late, or never, are not imported before.
    """
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    process = [sys.executable, "-c", IMPORT_AND_FIT, *QUICK]
    done = subprocess.run(process, capture_output=True, text=True, env=environment, cwd=here, check=True)
    assert done.stdout.startswith("imported early: []\n")
    assert "iwae, 10 draws" in done.stdout
    assert "ppl_vae has the exit status 0\n" in done.stdout
    assert done.stdout.endswith("ppl_vae.fit has the exit status 2\n")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    before = torch.get_float32_matmul_precision()
    assert run_verb("fit", ["--data", "nothing.npz"]) == 2
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("setting", ["highest", "high", "medium"])
def test_the_measurement_of_fast_products_is_right_and_leaves_the_setting_alone(setting: str) -> None:
    """A product with a known result gives the same answer, and the random numbers stay as they are."""
    before, generator = torch.get_float32_matmul_precision(), torch.get_rng_state()
    a, b = torch.full((256, 512), 1 + 2.0**-12), torch.ones(512, 256)
    try:
        torch.set_float32_matmul_precision(setting)
        exact = command.medium_is_exact()
        assert torch.get_float32_matmul_precision() == setting
        torch.set_float32_matmul_precision("medium")
        assert exact == bool((a @ b == 512 * (1 + 2.0**-12)).all())
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("exact", [True, False])
def test_the_commands_take_fast_products_if_they_are_exact(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = [], torch.get_float32_matmul_precision()
    monkeypatch.setattr(command, "medium_is_exact", lambda: exact)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with command.fast_products():
        seen.append(torch.get_float32_matmul_precision())
    assert seen == ["medium" if exact else before]
    assert torch.get_float32_matmul_precision() == before


def test_a_model_that_does_not_generate_has_no_draws_and_explains_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    options = ["--model", "autoencoder", "--max-epochs", "2", "--num-samples", "10", "--output", str(output)]
    with unwritten_figures() as figures:
        assert run_verb("fit", options) == 0
    assert "this is a reconstruction term, as an autoencoder's, and no log evidence" in capsys.readouterr().out
    assert figures == {"elbo", "reconstructions"}
    with pytest.raises(InputError, match="Autoencoder does not generate: its model computes with the data"):
        load(output).sample(3)
