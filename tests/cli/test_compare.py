"""``compare`` from end to end: runs side by side, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppl_vae import load
from ppl_vae.cli import compare
from ppl_vae.cli.command import run_verb
from ppl_vae.cli.opened import Selection
from ppl_vae.data import load_dataset, subset
from ppl_vae.evaluation.comparison import Compared
from ppl_vae.evaluation.estimators import Settings
from tests.helpers.runs import run_without_figures

QUICK = ["--num-samples", "5", "--model.hidden", "[16]", "--batch-size", "256"]

CONDITIONAL = """\
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Conditional(nn.Module):
    '''p(x | y) for bits of size six.'''

    def __init__(self):
        super().__init__()
        self.logits, self.encoder = nn.Parameter(torch.zeros(3, 6)), nn.Linear(6, 2)

    def model(self, x, y):
        pyro.module("conditional", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Bernoulli(logits=self.logits[y] + z[..., None]).to_event(1), obs=x)

    def guide(self, x, y):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, raw = self.encoder(x).unbind(-1)
            pyro.sample("z", dist.Normal(loc, raw.exp()))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data and a program, and with the runs that the tests share."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "conditional.py").write_text(CONDITIONAL)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, size=(80, 6)).astype("float32")
    for name in ("one", "two"):  # the same x, other labels
        np.savez(folder / f"{name}.npz", x=x, y=rng.integers(0, 3, size=80))
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def fitted(output: str, *options: str) -> str:
    """Fit a run and return its name; a run of this name that another test has fitted is taken as it is."""
    if Path(output).exists():
        return output
    quick = [] if "conditional.py" in options or "factor_analysis" in options else QUICK
    assert run_without_figures("fit", [*quick, "--max-epochs", "2", "--output", output, *options]) == 0
    return output


def error_of(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    assert run_verb("compare", list(args)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_runs_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    fitted("long", "--model.latent_dim", "2", "--max-epochs", "15")
    fitted("short", "--model.latent_dim", "3")
    fitted("static", "--binarize", "static")
    capsys.readouterr()
    assert run_verb("compare", ["short", "long", "--num-samples", "30", "--output", "out.json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "test, 360 data; log evidence by iwae, 30 draws"
    assert [line.split()[0] for line in lines[2:4]] == ["long", "short"]  # the best first
    assert "difference: nats per datum below the best" in out
    assert out.endswith("written to out.json\n")

    x = load_dataset("digits").test["x"]
    evidence = {name: load(name).evidence(x, num_samples=30) for name in ("long", "short")}
    values = {name: estimate.log_evidence.numpy() for name, estimate in evidence.items()}
    paired = values["long"] - values["short"]
    written = json.loads(Path("out.json").read_text())
    assert list(written["runs"]) == ["long", "short"]
    assert (written["part"], written["num_data"], written["settings"]["num_samples"]) == ("test", 360, 30)
    best, other = written["runs"].values()
    # The command multiplies matrices at another precision setting, which moves the last bits of single precision.
    assert other["log_evidence"] == pytest.approx(values["short"].mean(), rel=1e-6)
    assert other["difference"] == pytest.approx(paired.mean(), rel=1e-4)
    assert other["difference_se"] == pytest.approx(paired.std(ddof=1) / 360**0.5, rel=1e-3)
    assert other["elbo"] == pytest.approx(evidence["short"].columns["elbo"].mean().item(), rel=1e-6)
    assert best["difference"] == best["difference_se"] == best["difference_mcse"] == 0
    for name, row in written["runs"].items():
        assert row["train_seconds"] == json.loads(Path(f"{name}/summary.json").read_text())["train_seconds"]
        assert row["infer_milliseconds"] > 0
        for sentence in row["warnings"]:
            assert f"{name}: {sentence}\n" in out
    assert f"{other['difference']:.3f}" in lines[3]
    assert not Path("long/evidence.json").exists()  # the runs stay as they were

    assert "short and static" in error_of(capsys, "static", "short")


def compared(
    runs: list[str], estimator: Any = None, part: Any = "test", num_data: int | None = None, **settings: Any
) -> list[Compared]:
    return compare.compare(runs, estimator, Selection(part, num_data), Settings(**settings)).result


def test_the_rows_are_those_of_the_first_run() -> None:
    """An image set's test part is the same for all seeds; the rows that are drawn from it are not."""
    x = np.random.default_rng(1).integers(0, 2, size=(150, 6)).astype("float32")
    np.savez("parts.npz", x_train=x[:60], x_valid=x[60:80], x_test=x[80:])
    runs = [fitted(f"seed{seed}", "--data", "parts.npz", "--seed", str(seed)) for seed in (0, 1)]
    for order, seed in ((runs, 0), (runs[::-1], 1)):
        rows = compared(order, num_data=30, num_samples=20)
        drawn = subset({"x": x[80:]}, 30, seed)
        for row in rows:
            assert row.num_data == 30
            assert row.log_evidence == pytest.approx(load(row.name).evaluate(drawn, num_samples=20).rows["iwae"][0])
    assert {row.num_data for row in compared(runs, num_samples=20)} == {70}


def test_exact_evidence_is_taken_if_it_is_known() -> None:
    data = ("--data", "one.npz")
    runs = [fitted(f"fa-{n}", *data, "--model", "factor_analysis", "--model.latent_dim", str(n)) for n in (1, 2)]
    for row in compared(runs, num_samples=50):
        assert (row.estimator, row.bound, row.doubtful, row.difference_mcse) == ("exact", "exact", 0, 0)
        assert row.elbo < row.log_evidence
    for row in compared(runs, "iwae", "valid", num_samples=50):
        assert (row.estimator, row.effort, row.num_data) == ("iwae", "iwae, 50 draws", 8)


def test_runs_may_take_other_arrays_of_the_same_data(capsys: pytest.CaptureFixture[str]) -> None:
    x = fitted("x", "--data", "one.npz")
    one, two = (fitted(f"c-{n}", "--data", f"{n}.npz", "--model", "conditional.py") for n in ("one", "two"))
    for runs in ((x, one), (x, two), (two, x)):
        assert {row.name for row in compared(runs, num_samples=10)} == set(runs)
    err = error_of(capsys, x, one, two)
    assert "c-two and c-one are on different data, for their 'y' of test differs (--data " in err
    assert "one.npz" in err
    assert "two.npz" in err


def test_dynamic_and_static_bits_can_be_compared() -> None:
    """The bits of the test part are drawn once, by the seed: the options of data may differ if the arrays do not."""
    runs = [fitted(how, "--binarize", how) for how in ("dynamic", "static")]
    assert len(compared(runs, num_data=20, num_samples=10)) == 2


def test_bits_that_were_drawn_are_other_data(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [fitted(how, "--binarize", how) for how in ("threshold", "static")]
    err = error_of(capsys, *runs)
    assert "static and threshold are on different data, for their 'x' of test differs (--binarize static and " in err


def test_the_fault_of_one_run_is_reported_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    x, broken = fitted("x", "--data", "one.npz"), fitted("broken", "--data", "one.npz", "--model.latent_dim", "2")
    assert "x: the exact evidence of VAE is not known" in error_of(capsys, x, broken, "--estimator", "exact")
    Path("broken/checkpoint.safetensors").unlink()
    assert "broken/checkpoint.safetensors" in error_of(capsys, x, broken)
