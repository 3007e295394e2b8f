"""A table from its file to a fit, and from a file with holes to the columns of that fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from ppl_vae.cli.command import run_verb
from ppl_vae.errors import InputError
from ppl_vae.estimator import load, load_data
from tests.helpers.runs import run_without_figures

PROGRAM = """\
import pyro
import pyro.distributions as dist
import torch
from torch import nn

class Shifted(nn.Module):
    def __init__(self, data_dim: int = 1, columns: list[dict] = []):
        super().__init__()
        self.loc, self.by = nn.Parameter(torch.zeros(data_dim)), nn.Parameter(torch.zeros(2))

    def model(self, x, batch):
        pyro.module("shifted", self)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.loc + self.by[batch][:, None], 1.0).to_event(1), obs=x)

    def guide(self, x, batch): ...
"""
QUICK = ["--max-epochs", "1", "--num-samples", "5", "--inference-steps", "20"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shifted.py").write_text(PROGRAM)
    (tmp_path / "plain.py").write_text(
        PROGRAM.replace(", columns: list[dict] = []", "").replace("x, batch", "x, b=None")
    )
    numbers = np.random.default_rng(0).normal(size=(30, 2)).round(3)
    rows = [f"{i + 1};{a};{'uv'[i % 2]};{h}".replace(".", ",") for i, (a, h) in enumerate(numbers)]
    (tmp_path / "table.csv").write_text("\n".join(["id;age;batch;h", *rows]) + "\n")
    (tmp_path / "holes.csv").write_text("h;batch;age\n0,5;v;\n;u;1,5\n")
    return tmp_path


def test_a_table_is_fitted_and_filled_in_by_its_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["--data", "table.csv", "--model", "shifted.py", "--output", "run", *QUICK]
    assert run_without_figures("fit", fit) == 0
    out = capsys.readouterr().out
    assert "batch   binary           2: u, v (as batch)" in out
    assert "column 'id' counts the rows and was left out; --index none keeps it" in out
    config = yaml.safe_load((here / "run" / "config.yaml").read_text())
    assert config["arguments"] == "x,batch"
    assert config["model"]["init_args"]["data_dim"] == 2
    assert [column["name"] for column in config["model"]["init_args"]["columns"]] == ["age", "h"]
    assert load_data("run").arrays_columns["batch"][0].categories == ("u", "v")
    assert run_without_figures("evaluate", ["run", "--num-samples", "5"]) == 0
    assert run_without_figures("impute", ["run", "--data", "holes.csv", "--num-samples", "20"]) == 0
    with np.load(here / "run" / "uses" / "impute.npz") as file:
        completed = file["completed.x"]
        assert file["completed.batch"].tolist() == [1, 0]
    assert (completed[0, 1], completed[1, 0]) == (0.5, 1.5)
    assert np.isfinite(completed).all()
    _written_as_it_came_in(here)
    _generates_by_labels(here, capsys)


def _written_as_it_came_in(here: Path) -> None:
    header, *rows = (here / "run" / "uses" / "impute.csv").read_text().splitlines()
    (first, second), uses = [row.split(";") for row in rows], here / "run" / "uses"
    assert header == "h;batch;age"
    assert (first[:2], second[1:]) == (["0,5", "v"], ["u", "1,5"])
    with np.load(uses / "impute.npz") as file:
        mean, draws = file["mean.x"], file["draws.x"]
    filled = [float(text.replace(",", ".")) for text in (first[2], second[0])]
    np.testing.assert_allclose(filled, [mean[0, 0], mean[1, 1]])
    cells = pd.read_csv(uses / "impute_cells.csv", sep=";", decimal=",")
    assert cells[["row", "column"]].values.tolist() == [[0, "age"], [1, "h"]]
    np.testing.assert_allclose(cells["mean"], [mean[0, 0], mean[1, 1]])
    np.testing.assert_allclose(cells["draw_8"], [draws[7, 0, 0], draws[7, 1, 1]])
    assert (cells["lower"] < cells["mean"]).all()
    assert (cells["mean"] < cells["upper"]).all()
    impute = ["run", "--data", "holes.csv", "--num-samples", "20", "--output", "filled.parquet"]
    assert run_without_figures("impute", impute) == 0
    written = pd.read_parquet(here / "filled.parquet")
    assert written.columns.tolist() == ["h", "batch", "age"]
    assert written["batch"].tolist() == ["v", "u"]
    assert (here / "filled_cells.parquet").exists()
    assert run_without_figures("outliers", ["run"]) == 0
    ordered = pd.read_csv(uses / "outliers.csv", sep=";", decimal=",")
    assert ordered.columns.tolist() == ["row", "log_evidence", "mcse", "doubtful", "age", "h", "batch"]
    assert ordered["log_evidence"].is_monotonic_increasing
    data = load_data("run").test
    np.testing.assert_allclose(ordered[["age", "h"]], data["x"][ordered["row"]])
    assert ordered["batch"].tolist() == [("u", "v")[code] for code in data["batch"][ordered["row"]]]
    assert run_without_figures("augment", ["run", "--copies", "2", "--num-data", "3"]) == 0
    assert pd.read_csv(uses / "augment.csv", sep=";").columns.tolist() == ["row", "age", "h", "batch"]


def _generates_by_labels(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    vi = load("run")
    vi.program_.parameters()["shifted.by"].data.copy_(torch.tensor([-50.0, 50.0]))
    assert (vi.sample(3, batch="v") > 0).all()
    np.testing.assert_array_equal(vi.sample(2, batch=["u", "v"]), vi.sample(2, batch=[0, 1]))
    with pytest.raises(InputError, match=r"'batch' has no category 'w'; known: u, v"):
        vi.sample(2, batch="w")
    alone = pd.DataFrame({"h": [1.0], "age": [2.0], "batch": ["v"]})  # whose only category had the code 0 by itself
    score = vi.evidence(alone, estimator="exact").log_evidence
    assert score == vi.evidence({"x": np.array([[2.0, 1.0]]), "batch": [1]}, estimator="exact").log_evidence
    for given, conditions in {"v": ["v"] * 2, "all": ["u"] * 2 + ["v"] * 2, "v,0": ["v"] * 2 + ["u"] * 2}.items():
        assert run_without_figures("generate", ["run", "--batch", given, "--num-data", "2"]) == 0
        with np.load(here / "run" / "uses" / "generate.npz") as file:
            assert file["conditions.batch"].tolist() == conditions
            drawn = pd.read_csv(here / "run" / "uses" / "generate.csv", sep=";", decimal=",")
            assert drawn.columns.tolist() == ["age", "h", "batch"]
            assert drawn["batch"].tolist() == conditions
            np.testing.assert_allclose(drawn[["age", "h"]], file["draws.x"], rtol=1e-5)
    assert run_without_figures("generate", ["run", "--batch", "V"]) == 2
    assert "'batch' has no category 'V'; known: u, v" in capsys.readouterr().err


def test_texts_that_no_argument_takes_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["--data", "table.csv", "--model", "plain.py", "--output", "run", *QUICK]
    assert run_verb("fit", fit) == 2
    assert "column 'batch' contains text (u, v, ...): encode it, drop it with --drop batch" in capsys.readouterr().err
    assert not (here / "run").exists()
    assert run_verb("fit", [*fit, "--kinds", "age=count"]) == 2
    assert "table.csv line 2, column 'age' has 0.126: kind count needs a whole number" in capsys.readouterr().err


def test_a_category_is_filled_in_by_its_label_with_its_probability(here: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"city": random.choice(["Oslo", "Rome", "Ulm"], 60), "kids": random.poisson(2.0, 60)})
    frame["height"] = random.normal(1.7, 0.1, 60).round(3)
    frame.to_parquet("mixed.parquet")
    fit = ["--data", "mixed.parquet", "--model", "table_vae", "--model.latent-dim", "1", "--output", "mixed", *QUICK]
    assert run_without_figures("fit", [*fit, "--model.hidden", "[4]"]) == 0
    holes = frame.head(4).astype({"kids": "Int64"})
    holes.loc[0, "city"], holes.loc[1, "kids"], holes.loc[2, "height"] = None, pd.NA, None
    holes.assign(name=list("abcd")).to_parquet("mixed_holes.parquet")
    impute = ["mixed", "--data", "mixed_holes.parquet", "--num-samples", "20", "--num-draws", "3"]
    assert run_without_figures("impute", [*impute, "--method", "importance"]) == 0
    uses = here / "mixed" / "uses"
    filled, cells = pd.read_parquet(uses / "impute.parquet"), pd.read_parquet(uses / "impute_cells.parquet")
    assert filled.columns.tolist() == ["city", "kids", "height", "name"]
    assert filled["name"].tolist() == list("abcd")
    pd.testing.assert_frame_equal(filled.iloc[3:, :2], frame.iloc[3:4, :2], check_dtype=False)
    assert pd.api.types.is_integer_dtype(filled["kids"].dtype)
    assert cells[["row", "column"]].values.tolist() == [[0, "city"], [1, "kids"], [2, "height"]]
    with np.load(uses / "impute.npz") as file:
        probabilities = file["probabilities.x"][0, 0]
    assert cells["value"][0] == filled["city"][0] == ("Oslo", "Rome", "Ulm")[probabilities.argmax()]
    np.testing.assert_allclose(cells["probability"], [probabilities.max(), np.nan, np.nan])
    assert cells["mean"].isna().tolist() == [True, False, False]
    assert cells["draw_1"][0] in ("Oslo", "Rome", "Ulm")
