"""The recipes and the page that compares our results with published ones."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ppl_vae.cli.configuration import parse_options
from ppl_vae.errors import InputError
from ppl_vae.recipes import known_recipes
from ppl_vae.runs import build_program, program_class
from tests.helpers.runs import run_without_figures
from tests.helpers.scripts import ROOT, import_scripts


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    (module,) = import_scripts(ROOT / "benchmarks" / "quality.py")
    return module


def test_the_page_contains_the_numbers(quality: ModuleType) -> None:
    numbers = json.loads((ROOT / "benchmarks" / "quality.json").read_text())
    assert quality.page(numbers) == (ROOT / "docs" / "quality.md").read_text()
    assert sorted(quality.WORKS) == known_recipes()
    assert set(numbers) <= set(quality.WORKS)


@pytest.mark.parametrize("name", known_recipes())
def test_the_command_line_accepts_every_recipe(name: str) -> None:
    """And its program can be built; an option behind it overrides that of the recipe."""
    options = parse_options(["--config", name, "--max-epochs", "7"])
    assert options.settings["max_epochs"] == 7
    assert options.data["data"].endswith(".npz")
    sizes = {"data_dim": 784} if "data_dim" in options.init_args else {}
    build_program(program_class(options.model), options.init_args | sizes)


def test_a_name_that_is_no_recipe_is_refused() -> None:
    with pytest.raises(InputError, match="no file static-mnist-vea, and no recipe of that name; did you mean"):
        parse_options(["--config", "static-mnist-vea"])


def test_bits_find_the_image_from_which_they_were_drawn() -> None:
    (grey,) = import_scripts(ROOT / "benchmarks" / "grey.py")
    rng = np.random.default_rng(0)
    images = rng.random((50, 200)).round(1)
    order = rng.permutation(50)
    bits = rng.random(images.shape) < images[order]
    np.testing.assert_array_equal(grey.most_likely(bits.astype("uint8"), images), order)


@pytest.mark.slow
def test_a_recipe_is_trained_and_measured(quality: ModuleType, tmp_path: Path) -> None:
    """On thirty data of a few bits, by a recipe of images."""
    bits = (np.random.default_rng(0).random((30, 9)) < 0.5).astype("float32")
    file = tmp_path / "static_binarized_mnist.npz"
    np.savez(file, **{f"x_{part}": bits for part in ("train", "valid", "test")})
    small = ["--model.hidden", "[4]", "--max-epochs", "2", "--num-samples", "5", "--compile", "off"]
    run = tmp_path / "run"
    args = ["--config", "static-mnist-vae", "--data", str(file), "--output", str(run), *small]
    assert run_without_figures("fit", args) == 0
    row = quality.measure("static-mnist-vae", tmp_path, run, num_samples=20)
    assert (row["epochs"], row["num_data"], row["draws"]) == (2, 30, 20)
    assert row["elbo"] < row["iwae"] < 0
    compared = quality.anneal("static-mnist-vae", tmp_path, run, num_data=20, start="guide", num_samples=20)
    assert compared["annealed"] == 20
    assert compared["ais_above_iwae"] > -5 * quality.error_of_difference({**row, **compared})
    annealed = {"ais_above_iwae": 0.123, "ais_mcse": 0.3, "mcse": 0.4 * (20 / 30) ** 0.5}
    row |= compared | annealed
    page = quality.page({"static-mnist-vae": row})
    assert f"| -88.71 | {row['iwae']:.2f} | {row['mcse']:.2f} | {row['se']:.2f} | {row['elbo']:.2f} | 20 |" in page
    assert "- `static-mnist-vae`: +0.12, with a Monte Carlo error of 0.50, on 20 data, annealed from the guide" in page
