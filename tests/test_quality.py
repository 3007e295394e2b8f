"""The recipes and the page that compares our results with published ones."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from ppl_vae.cli.configuration import parse_options
from ppl_vae.errors import InputError
from ppl_vae.recipes import known_recipes
from ppl_vae.runs import build_program, program_class
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
