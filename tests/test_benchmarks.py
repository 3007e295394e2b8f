"""The arithmetic of the benchmarks, and that their page is what the files of numbers say. Nothing is measured."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """A function that imports a file of the benchmarks, which are no package."""
    before = set(sys.modules)
    for folder in (FOLDER, FOLDER / "contestants"):
        monkeypatch.syspath_prepend(folder)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def kept(name):
    return json.loads((FOLDER / name).read_text())


def test_the_ratio_is_the_median_of_neighbours(module):
    # the machine is ten times slower in the last two turns; ratios of medians would be 2 / 10
    row = module("results").row("work", "peer", [(1.0, 2.0), (2.0, 10.0), (10.0, 20.0), (30.0, 20.0), (1.0, 4.0)], 0.4)
    assert row == {
        "work": "work",
        "ours_seconds": 2.0,
        "peer": "peer",
        "peer_seconds": 10.0,
        "ratio": 0.5,
        "ratio_range": [0.2, 1.5],
        "at_most": 0.4,
    }


def test_rows_of_works_that_were_not_run_are_kept(module):
    results = module("results")

    def row(work, ratio):
        return {"work": work, "ratio": ratio}

    merged = results.merged([row("a", 1), row("a", 2), row("b", 3), row("gone", 4)], [row("a", 5)], ["b", "a"])
    assert merged == [row("b", 3), row("a", 5)]


def test_who_is_first_alternates(module):
    taken = []

    def take(name, repetition):
        taken.append(name)
        return len(taken)

    found = module("turns").interleaved([("ours", "a"), ("ours", "b")], take, 2)
    assert taken == ["ours", "a", "ours", "b", "a", "ours", "b", "ours"]
    assert found == {("ours", "a"): [(1, 2), (6, 5)], ("ours", "b"): [(3, 4), (8, 7)]}


def test_batches_are_shuffled_epochs_and_the_same_for_the_same_seed(module):
    order = module("protocol").order
    rows = order(3, num_data=10, batch_size=4, steps=5)
    assert rows.shape == (5, 4)
    for epoch in (rows[:2], rows[2:4]):
        assert len(np.unique(epoch)) == 8
    assert not np.array_equal(rows[:2], rows[2:4])
    np.testing.assert_array_equal(rows, order(3, num_data=10, batch_size=4, steps=5))


def test_results_have_their_keys_and_ratios_like_their_medians():
    rows = kept("results.json")
    keys = {"work", "ours_seconds", "peer", "peer_seconds", "ratio", "ratio_range"}
    assert rows
    assert len({(row["work"], row["peer"]) for row in rows}) == len(rows)
    for row in rows:
        assert row.keys() - {"at_most"} == keys
        low, high = row["ratio_range"]
        assert 0 < low <= row["ratio"] <= high
        assert 1 / 3 < row["ratio"] / (row["ours_seconds"] / row["peer_seconds"]) < 3


def test_every_row_is_of_a_known_comparison_with_its_bound(module):
    works = module("works")
    known = {
        (work.name(each), each.peer.name): each.at_most for work in works.WORKS.values() for each in work.comparisons
    }
    known[works.FIT, works.FIT_PEER] = works.FIT_AT_MOST
    for row in kept("results.json"):
        assert row.get("at_most") == known[row["work"], row["peer"]]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00164, "1.64 ms"), (0.9994, "999 ms"), (0.9996, "1 s"), (95.26, "95.3 s"), (1234.5, "1234 s")],
)
def test_durations_have_three_digits(module, seconds, text):
    assert module("report").duration(seconds) == text


def test_the_page_is_what_the_report_makes_of_the_numbers(module):
    page = module("report").page(kept("results.json"), kept("measurements.json"))
    assert page == (FOLDER / "RESULTS.md").read_text()
