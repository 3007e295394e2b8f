"""The page that compares our results with published ones contains what the file of numbers contains."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from ppl_vae.cli.configuration import parse_options
from tests.helpers.scripts import ROOT, import_scripts


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    (module,) = import_scripts(ROOT / "benchmarks" / "quality.py")
    return module


def test_the_page_contains_the_numbers(quality: ModuleType) -> None:
    numbers = json.loads((ROOT / "benchmarks" / "quality.json").read_text())
    assert quality.page(numbers) == (ROOT / "docs" / "quality.md").read_text()
    assert list(numbers) == list(quality.WORKS)


def test_the_command_line_accepts_the_commands(quality: ModuleType) -> None:
    for name in quality.WORKS:
        assert parse_options(quality.command(name)[1:]).settings["max_epochs"] > 1
