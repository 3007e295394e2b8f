"""The verbs of the uses as commands: their options, their files, and errors about bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ppl_vae import load
from ppl_vae.cli.command import run_verb
from tests.helpers.runs import run_without_figures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a conditional VAE of labelled bits."""
    folder = tmp_path_factory.mktemp("verbs")
    random = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (random.random((120, 9)) < np.eye(3).repeat(3, 1)[y] * 0.8 + 0.1).astype(np.uint8)
    np.savez(folder / "data.npz", x=x, y=y)
    options = ["--model", "cvae", "--model.num_classes", "3", "--model.hidden", "[8]", "--model.latent_dim", "2"]
    options += ["--data", str(folder / "data.npz"), "--image_shape", "[3,3]", "--max_epochs", "2"]
    options += ["--inference-steps", "20"]
    assert run_without_figures("fit", [*options, "--output", str(folder / "run")]) == 0
    return folder


def call(
    verb: str, *args: object, capsys: pytest.CaptureFixture[str], run: Callable[..., int] = run_without_figures
) -> tuple[int, str]:
    """Run a verb, without figures unless ``run`` draws them; return its exit status and what it has printed."""
    capsys.readouterr()
    status = run(verb, [*map(str, args)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_generate_draws_a_row_for_each_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder / "run"
    args = ("--y", "all", "--num-data", 4, "--what", "mean,sample")
    status, out = call("generate", run, *args, capsys=capsys, run=run_verb)
    assert status == 0
    written = [Path(line.removeprefix("written to ")) for line in out.splitlines()]
    assert {path.name for path in written} == {"generate_mean.png", "generate_sample.png", "generate.npz"}
    with np.load(run / "uses" / "generate.npz") as file:
        np.testing.assert_array_equal(file["conditions.y"], np.repeat([0, 1, 2], 4))
        assert file["draws.x"].shape == (12, 9)
        np.testing.assert_array_equal(file["latents.z"][:4], file["latents.z"][4:8])
    assert call("generate", run, "--y=0,2", capsys=capsys)[0] == 0
    with np.load(run / "uses" / "generate.npz") as file:
        np.testing.assert_array_equal(np.unique(file["conditions.y"]), [0, 2])


def test_files_name_the_conditions_and_the_rows_of_their_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, a condition that was not given, and the part of the data that rows belong to, were in no file."""
    run = folder / "run"
    first = load(run).template["y"]
    assert call("generate", run, "--num-data", 12, capsys=capsys)[0] == 0
    with np.load(run / "uses" / "generate.npz") as file:
        np.testing.assert_array_equal(file["conditions.y"], np.resize(first, 12))
    for args, expected in ([], first[0]), (["--y", 2], 2):
        assert call("manifold", run, "--num-steps", 2, *args, capsys=capsys)[0] == 0
        with np.load(run / "uses" / "manifold.npz") as file:
            assert file["conditions.y"] == expected
    assert call("reconstruct", run, "--part", "train", "--num-data", 2, capsys=capsys)[0] == 0
    with np.load(run / "uses" / "reconstruct.npz") as file:
        assert (file["part"], file["rows"].shape) == ("train", (2,))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["generate", "RUN", "--lable", "3"], "unknown option or condition --lable"),
        (["generate", "RUN", "--y", "three"], "expected a number"),
        (["generate", "RUN", "--x", "1"], "the model draws 'x'"),
        (["generate", "RUN", "--what", "median"], "mean, sample"),
        (["generate", "RUN", "--format", "gif"], "--format 'gif' is unknown"),
        (["generate", "nowhere"], "no run folder"),
        (["manifold", "RUN", "--y", "all"], "one value"),
        (["manifold", "RUN", "--dimensions", "z[0],z[5]"], "z[5]"),
        (["reconstruct", "RUN", "--rows", "3,900"], "row 900"),
        (["reconstruct", "RUN", "--rows", "a"], "whole numbers"),
        (["interpolate", "RUN", "--start", "1,2", "--end", "3"], "as many"),
        (["interpolate", "RUN", "--path", "arc"], "line, circle"),
        (["impute", "RUN"], "--hide 0.5"),
        (["impute", "RUN", "--hide", "1.5"], "between 0 and 1"),
        (["impute", "RUN", "--data", "none.npz"], "no file"),
        (["embed", "RUN", "--output", "z.txt"], ".npz or .csv"),
        (["embed", "RUN", "--part", "all", "--output", "RUN/config.yaml/z.csv"], "written"),
        (["embed", "RUN", "--part", "dev"], "'dev' is unknown"),
        (["traverse", "RUN", "--row", "-1"], "row -1"),
        (["augment", "RUN", "--copies", "0"], "copies is 0"),
    ],
)
def test_a_bad_option_is_reported_in_one_line(
    folder: Path, args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out = call(*[arg.replace("RUN", str(folder / "run")) for arg in args], capsys=capsys)
    assert status == 2
    assert message in out
    assert len(out.splitlines()) == 1


def test_images_can_be_drawn_in_another_shape(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["reconstruct", folder / "run", "--num-data", 2]
    width = {}
    for shape in ("[3,3]", "[1,9]"):
        assert call(*args, "--image-shape", shape, capsys=capsys, run=run_verb)[0] == 0  # type: ignore[arg-type]
        width[shape] = imread(folder / "run" / "figures" / "reconstruct.png").shape[1]
    assert width["[1,9]"] > width["[3,3]"]  # wider cells
    status, out = call(*args, "--image-shape", "[4,4]", capsys=capsys)  # type: ignore[arg-type]
    assert status == 2
    assert "image_shape" in out


def test_figures_are_written_in_other_formats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder / "run"
    assert call("interpolate", run, "--num-pairs", 2, "--format", "svg,pdf", capsys=capsys, run=run_verb)[0] == 0
    assert (run / "figures" / "interpolate.svg").read_text().lstrip().startswith("<?xml")
    assert (run / "figures" / "interpolate.pdf").read_bytes().startswith(b"%PDF")
    assert not (run / "figures" / "interpolate.png").exists()


def test_an_embedding_can_be_written_as_a_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "z.csv"
    assert call("embed", folder / "run", "--part", "all", "--output", path, capsys=capsys)[0] == 0
    with path.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["mean z[0]", "mean z[1]", "sd z[0]", "sd z[1]", "y"]
    assert len(rows) == 121
    assert call("embed", folder / "run", "--part", "all", capsys=capsys)[0] == 0
    with np.load(folder / "run" / "uses" / "embed.npz") as file:
        np.testing.assert_allclose([float(value) for value in rows[5][:2]], file["mean"][4])
        assert file["names"].tolist() == ["z[0]", "z[1]"]


def test_a_program_can_be_fitted_to_new_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("augment", folder / "run", "--copies", 2, capsys=capsys)[0] == 0
    augmented = folder / "run" / "uses" / "augment.npz"
    with np.load(augmented) as file:
        assert set(file.files) == {"x", "y", "row"}
        assert file["x"].shape == (2 * 96, 9)
    again = ["--model", "vae", "--data", str(augmented), "--max_epochs", "1", "--output", str(folder / "again")]
    assert run_without_figures("fit", again) == 0


@pytest.mark.parametrize("kind", ["csv", "npz", "mask"])
def test_holes_are_given_as_nan_or_as_a_mask(folder: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(folder / "data.npz") as file:
        x, y = file["x"][:6].astype(float), file["y"][:6]
    hole = np.zeros(x.shape, bool)
    hole[:, 3] = hole[2] = True
    args: list[object] = ["--num-samples", 20, "--method", "importance"]
    if kind == "csv":
        rows = [
            [*("" if gap else f"{value:g}" for value, gap in zip(*each, strict=True))]
            for each in zip(x, hole, strict=True)
        ]
        lines = [",".join([*map(str, range(9)), "y"]).replace("0", "a", 1)]
        lines += [",".join([*row, str(label)]) for row, label in zip(rows, y, strict=True)]
        (folder / "holes.csv").write_text("\n".join(lines))
        args += ["--data", folder / "holes.csv"]
    elif kind == "npz":
        np.savez(folder / "holes.npz", x=np.where(hole, np.nan, x), y=y)
        args += ["--data", folder / "holes.npz"]
    else:
        np.savez(folder / "whole.npz", x=x, y=y)
        np.savez(folder / "mask.npz", x=hole)
        args += ["--data", folder / "whole.npz", "--mask", folder / "mask.npz"]
    status, out = call("impute", folder / "run", *args, capsys=capsys)
    assert status == 0, out
    assert f"x: {hole.sum()} of 54 numbers missing in 6 data" in out
    with np.load(folder / "run" / "uses" / "impute.npz") as file:
        np.testing.assert_array_equal(file["missing.x"], hole)
        np.testing.assert_array_equal(file["mean.x"][~hole], x[~hole])
        assert ((file["mean.x"][hole] > 0) & (file["mean.x"][hole] < 1)).all()


def test_hidden_numbers_are_scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = call("impute", folder / "run", "--hide", 0.3, "--num-samples", 20, capsys=capsys)
    assert "log loss" in out
    assert "the column's mean" in out


def test_the_least_likely_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = call("outliers", folder / "run", "--num-samples", 20, capsys=capsys)
    table = [line.split() for line in out.splitlines()[2:10]]
    values = [float(line[1]) for line in table]
    assert values == sorted(values)
    with np.load(folder / "run" / "uses" / "outliers.npz") as file:
        np.testing.assert_allclose(np.sort(file["log_evidence"])[:8], values, atol=0.006)


def test_check_ends_with_status_1_if_a_verdict_fails(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, few = folder / "run", ("--only", "weights", "--num-samples", 50)
    monkeypatch.setattr("ppl_vae.check.weights.DOUBTFUL", 1.0)
    status, out = call("check", run, *few, capsys=capsys, run=run_verb)
    assert (status, "2 hold" in out, (run / "figures" / "check_pareto_k.png").exists()) == (0, True, True)
    monkeypatch.setattr("ppl_vae.check.weights.DOUBTFUL", -1.0)
    status, out = call("check", run, *few, capsys=capsys)
    assert status == 1
    assert "What to do:" in out
    numbers = json.loads((run / "check.json").read_text())
    assert (numbers["holds"], numbers["verdicts"][0]["status"]) == (False, "fails")
    assert call("check", run, "--skip", "nothing", capsys=capsys)[0] == 2
