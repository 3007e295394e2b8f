"""The arithmetic of the benchmark of tables, and whether its page agrees with its file of numbers."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest

from tests.helpers.scripts import ROOT, import_scripts

FOLDER = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return import_scripts(FOLDER / "imputers.py", FOLDER / "tables.py")[1]


def test_the_page_contains_the_numbers(tables: ModuleType) -> None:
    numbers = json.loads((FOLDER / "tables.json").read_text())
    assert tables.page(numbers) == (ROOT / "docs" / "tables.md").read_text()


def test_sets_and_intervals_hold_their_share_if_the_distribution_is_right(tables: ModuleType) -> None:
    shares = np.array([[0.5, 0.35, 0.15]])
    held = [tables.held_by_sets(shares, np.array([code]))[0] for code in range(3)]
    assert held == pytest.approx([1, 1, 1 / 3])
    assert shares[0] @ held == pytest.approx(0.9)
    up_to = shares[0].cumsum()
    assert shares[0] @ tables.held_by_intervals(up_to - shares[0], up_to) == pytest.approx(0.9)
    assert tables.held_by_intervals(np.array([0.04, 0.06]), np.array([0.04, 0.06])).tolist() == [0, 1]
