"""The default fit against its promises; ``make slow`` runs it and prints the numbers that the README has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppl_vae.data import load_dataset


@pytest.mark.slow
def test_the_default_fit_and_how_good_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = load_dataset("digits")
    x, test = digits.train["x"].astype("float64"), digits.test["x"].astype("float64")
    probability = (x.sum(0) + 1) / (len(x) + 2)  # by Laplace's rule, or an unseen bit would have no density
    independent = (test * np.log(probability) + (1 - test) * np.log1p(-probability)).sum(1).mean()
    command = [sys.executable, "-m", "ppl_vae.fit", "--guide", "amortized"]
    out = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    summary = json.loads((tmp_path / "runs" / "digits-vae-amortized" / "summary.json").read_text())
    evidence = summary["test"]["log_evidence"]
    with capsys.disabled():
        print(f"\n{out}\nindependent Bernoullis: {independent:.2f} nats per datum; the VAE: {evidence:.2f}")
    assert summary["test"]["num_samples"] == 1000
    assert evidence - independent >= 7.5

    command = [sys.executable, "-m", "ppl_vae.evaluate", "runs/digits-vae-amortized", "--estimators", "iwae,ais,bdmc"]
    out = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    found = json.loads((tmp_path / "runs" / "digits-vae-amortized" / "evidence.json").read_text())["estimators"]
    with capsys.disabled():
        print(f"\n{out}")
    assert found["bdmc"]["upper"] - found["bdmc"]["lower"] < 0.1  # of 10 latents, 300 temperatures
    assert found["ais"]["log_evidence"] == pytest.approx(found["iwae"]["log_evidence"], abs=0.1)
