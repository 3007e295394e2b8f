"""The page of published figures beside ours is what the file of numbers says."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from ppl_vae.cli.fit import parse

ROOT = Path(__file__).parents[1]


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("quality")


def test_the_page_is_what_the_numbers_say(quality) -> None:
    numbers = json.loads((ROOT / "benchmarks" / "quality.json").read_text())
    assert quality.page(numbers) == (ROOT / "docs" / "quality.md").read_text()
    assert list(numbers) == list(quality.WORKS)


def test_the_commands_are_commands(quality) -> None:
    for name in quality.WORKS:
        assert parse(quality.command(name)[1:]).settings["max_epochs"] > 1
