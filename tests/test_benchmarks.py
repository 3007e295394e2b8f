"""The arithmetic of the benchmarks, and whether their page agrees with the files of numbers. Nothing is measured."""

import json
import os
import platform
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.scripts import ROOT, import_scripts, unknown_imports

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(FOLDER.rglob("*.py"))


@pytest.fixture(scope="module")
def benchmarks():
    """Return the scripts of the benchmarks as modules, by name."""
    names = (
        "contestants/started",
        "contestants/protocol",
        "results",
        "turns",
        "works",
        "chart",
        "report",
        "isa",
        "bench",
    )
    modules = import_scripts(*(FOLDER / f"{name}.py" for name in names))
    return SimpleNamespace(**{module.__name__: module for module in modules})


def kept(name):
    return json.loads((FOLDER / name).read_text())


def test_the_ratio_is_the_median_of_neighbours(benchmarks):
    # the machine is ten times slower in the last two turns; ratios of medians would be 2 / 10
    row = benchmarks.results.row("work", "peer", [(1.0, 2.0), (2.0, 10.0), (10.0, 20.0), (30.0, 20.0), (1.0, 4.0)], 0.4)
    assert row == {
        "work": "work",
        "ours_seconds": 2.0,
        "peer": "peer",
        "peer_seconds": 10.0,
        "ratio": 0.5,
        "ratio_range": [0.2, 1.5],
        "at_most": 0.4,
    }


def test_rows_of_works_that_were_not_run_are_kept(benchmarks):
    results = benchmarks.results

    def row(work, ratio, isa="avx512"):
        return {"work": work, "ratio": ratio, "isa": isa}

    old = [row("a", 1), row("a", 2), row("b", 3), row("gone", 4), row("a", 6, "avx2")]
    merged = results.merged(old, [row("a", 5)], ["b", "a"])
    assert merged == [row("a", 6, "avx2"), row("b", 3), row("a", 5)]


def test_who_is_first_alternates(benchmarks):
    taken = []

    def take(name, repetition):
        taken.append(name)
        return len(taken)

    turns = benchmarks.turns.interleaved([("ours", "a"), ("ours", "b")], take, 2)
    assert taken == ["ours", "a", "ours", "b", "a", "ours", "b", "ours"]
    assert turns == {("ours", "a"): [(1, 2), (6, 5)], ("ours", "b"): [(3, 4), (8, 7)]}


def test_batches_are_shuffled_epochs_and_the_same_for_the_same_seed(benchmarks):
    order = benchmarks.protocol.order
    rows = order(3, num_data=10, batch_size=4, steps=5)
    assert rows.shape == (5, 4)
    for epoch in (rows[:2], rows[2:4]):
        assert len(np.unique(epoch)) == 8
    assert not np.array_equal(rows[:2], rows[2:4])
    np.testing.assert_array_equal(rows, order(3, num_data=10, batch_size=4, steps=5))


def test_results_have_their_keys_and_ratios_like_their_medians():
    rows = kept("results.json")
    keys = {"work", "ours_seconds", "peer", "peer_seconds", "ratio", "ratio_range", "isa"}
    assert rows
    assert len({(row["work"], row["peer"], row["isa"]) for row in rows}) == len(rows)
    for row in rows:
        assert row.keys() - {"at_most"} == keys
        low, high = row["ratio_range"]
        assert 0 < low <= row["ratio"] <= high
        assert 1 / 3 < row["ratio"] / (row["ours_seconds"] / row["peer_seconds"]) < 3


def test_every_row_is_of_a_known_comparison_with_its_bound(benchmarks):
    works = benchmarks.works
    pairs = [(work, comparison) for work in works.WORKS.values() for comparison in work.comparisons]
    known = {(work.name(comparison), comparison.peer.name): comparison.at_most for work, comparison in pairs}
    known |= {(works.FIT, peer): works.FIT_AT_MOST for peer in works.FIT_PEERS}
    for row in kept("results.json"):
        assert row.get("at_most") == known[row["work"], row["peer"]]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00164, "1.64 ms"), (0.9994, "999 ms"), (0.9996, "1 s"), (95.26, "95.3 s"), (1234.5, "1234 s")],
)
def test_durations_have_three_digits(benchmarks, seconds, text):
    assert benchmarks.report.duration(seconds) == text


def test_the_page_is_what_the_report_makes_of_the_numbers(benchmarks):
    page = benchmarks.report.page(kept("results.json"), kept("measurements.json"), benchmarks.report.profiles(FOLDER))
    assert page == (FOLDER / "RESULTS.md").read_text()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_from_the_package_exists(path):
    assert unknown_imports(path.read_text()) == []


def test_what_the_probe_of_the_machine_imports_exists(benchmarks):
    assert unknown_imports(benchmarks.bench.PROBE) == []


def test_a_goal_that_is_not_reached_leaves_its_time_less_that_of_the_products(benchmarks):
    machine = {"processor": "one", "matmul_precision": "medium"}
    entry = {"machine": machine, "rows": [{"task": "training step, batch 32", "products alone": 0.5}]}
    shares, measured = {"shares": entry}, {"batch32": {"machine": machine}}
    row = {"work": "training step, vae 784-400-20, batch 32", "peer": "b", "ours_seconds": 4e-3, "peer_seconds": 3e-3}
    missed, reached = {**row, "at_most": 0.9, "ratio": 4 / 3}, {**row, "at_most": 1.4, "ratio": 4 / 3}
    *_, line = benchmarks.report.rest([missed, reached, {**row, "ratio": 4 / 3}], measured, shares)
    assert line == f"| {row['work']} | b | 2.7 ms | 2 ms | 0.7 ms | 2 ms |"
    assert benchmarks.report.rest([reached], measured, shares) == []
    tight = benchmarks.report.rest([{**missed, "peer_seconds": 2e-3}], measured, shares)
    assert tight[-1].endswith("| 1.8 ms | 2 ms | nothing | 2 ms |")
    for other in ({"matmul_precision": "highest"}, {"processor": "another"}):
        shares = {"shares": {**entry, "machine": machine | other}}
        assert benchmarks.report.rest([missed], measured, shares) == []


DETECTION = """
#include <cpuid.h>
int cpuinfo_x86_detect_isa(void) {
    unsigned a, b, c, d;
    __cpuid_count(7, 0, a, b, c, d);
    return b >> 16 & 1;
}
"""
"""A function that answers whether the processor has AVX-512 F."""


@pytest.mark.skipif(
    not (platform.machine() == "x86_64" and shutil.which("cc") and shutil.which("objdump")),
    reason="needs x86 and binutils",
)
def test_a_copy_of_a_library_does_not_see_newer_instructions(tmp_path):
    (isa,) = import_scripts(FOLDER / "isa.py")
    package = tmp_path / "jaxlib"
    package.mkdir()
    (tmp_path / "detection.c").write_text(DETECTION)
    isa.run("cc", "-O2", "-shared", "-fPIC", str(tmp_path / "detection.c"), "-o", str(package / isa.LIBRARY))
    copy = f"{isa.copy_jaxlib(package, tmp_path)}/jaxlib/{isa.LIBRARY}"

    def has_avx512(library, **variables):
        command = [sys.executable, "-c", f"import ctypes; print(ctypes.CDLL({str(library)!r}).{isa.DETECTION}())"]
        return subprocess.run(command, env=os.environ | variables, capture_output=True, check=True, text=True).stdout

    assert has_avx512(package / isa.LIBRARY) == f"{int(isa.best_isa() in ('avx512', 'amx'))}\n"
    assert has_avx512(copy, LD_PRELOAD=isa.compile_answers(tmp_path)) == "0\n"
