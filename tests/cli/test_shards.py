"""Evaluations and uses in shards: the numbers are those of one process, bit for bit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppl_vae.cli.jobs import do
from ppl_vae.cli.merge import merge
from ppl_vae.cli.opened import open_run
from ppl_vae.evaluation.estimators import Settings
from ppl_vae.evaluation.measure_gap import GapSettings
from tests.helpers.chains import shorten_pilot
from tests.helpers.ranks import Launcher
from tests.helpers.runs import run_without_figures

JOBS: dict[str, dict[str, Any]] = {
    "evaluate": {
        "estimators": "iwae,ais,bdmc",
        "settings": Settings(num_samples=9, num_temperatures=2, num_chains=2, num_simulated=7, num_leapfrog=1),
    },
    "gap": {"settings": GapSettings(families="diagonal,full", local_steps=2, num_samples=9)},
    "impute": {"hide": 0.4, "num_samples": 9, "num_draws": 2},
    "embed": {"part": "all"},
    "outliers": {"num_samples": 9},
}
TIMES = {"seconds", "inference_seconds", "seconds_per_datum", "digest"}


@pytest.fixture(scope="module", params=["amortized", pytest.param("per-sample", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    x = np.random.default_rng(0).normal(size=(31, 3)) @ np.random.default_rng(1).normal(size=(3, 3))
    parts = {"train": slice(0, 8), "valid": slice(8, 14), "test": slice(14, 31)}
    arrays = {"x": x, "y": np.arange(31) % 2}
    np.savez(folder / "data.npz", **{f"{k}_{part}": v[rows] for part, rows in parts.items() for k, v in arrays.items()})
    options = ["--data", f"{folder}/data.npz", "--model", "ppca", "--model.latent-dim", "2", "--max-epochs", "1"]
    options += ["--guide", request.param, "--num-samples", "5", "--inference-steps", "2", "--local-steps", "2"]
    assert run_without_figures("fit", [*options, "--output", f"{folder}/run"]) == 0
    return folder / "run"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a block have at most four rows, and a portion two blocks; draw nothing."""
    shorten_pilot(monkeypatch)
    monkeypatch.setattr("ppl_vae.evaluation.passes.ROWS_PER_PASS", 4)
    monkeypatch.setattr("ppl_vae.evaluation.passes.LEAST_ROWS", 2)
    monkeypatch.setattr("ppl_vae.evaluation.passes.NUMBERS_PER_PASS", 400)
    monkeypatch.setattr("ppl_vae.cli.jobs.PORTION_BYTES", 8 * 3 * 8)  # eight rows
    monkeypatch.setattr("ppl_vae.cli.evaluate._draw", lambda run, rows, evaluation: {})
    monkeypatch.setattr("ppl_vae.cli.evaluate.write_evidence", lambda *args, **options: None)
    monkeypatch.setattr("ppl_vae.plots.sheet", lambda cells, **options: None)
    monkeypatch.setattr("ppl_vae.cli.opened.OpenRun.write_figures", lambda run, figures, among=(): [])


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the numbers of a result by name, without times."""
    value = value._asdict() if hasattr(value, "_asdict") else value
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in TIMES:
                yield from leaves(item, f"{name}.{key}")
    elif not is_dataclass(value):
        yield name, value


@pytest.mark.parametrize("verb", JOBS)
def test_shards_have_the_numbers_of_one_process(verb: str, folder: Path) -> None:
    run = open_run(str(folder))
    job = import_module(f"ppl_vae.cli.{verb}").prepare(run, **JOBS[verb])
    whole = dict(leaves(do(job).result))
    assert len(whole) > 2
    for count in (7,) if verb in ("evaluate", "gap") else (2, 7):
        for shard in reversed(range(count)):  # in any order
            assert do(job, f"{shard + 1}/{count}").result is None
        (result,) = merge(run, verb=verb).result
        assert dict(leaves(result)).keys() == whole.keys()
        for name, values in leaves(result):
            np.testing.assert_array_equal(values, whole[name], err_msg=f"{name} in {count} shards")


def outliers(folder: Path, *options: str) -> int:
    return run_without_figures("outliers", [str(folder), "--num-samples", "5", *options])


def test_processes_of_a_launcher_share_the_data(folder: Path) -> None:
    assert outliers(folder) == 0
    file = folder / "uses" / "outliers.npz"
    alone = dict(np.load(file))
    file.unlink()
    first, second = Launcher().run(2, lambda: outliers(folder))
    assert first.value == second.value == 0, first.err + second.err
    assert "outliers.npz" in first.out
    assert second.out == ""
    for name, values in np.load(file).items():
        np.testing.assert_array_equal(values, alone[name], err_msg=name)


def test_shards_that_cannot_be_merged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(message: str, *options: str, verb: str = "merge") -> None:
        assert run_without_figures(verb, [str(folder), *options]) == 2
        error = capsys.readouterr().err
        assert re.search(message, error), error
        assert sum(line.startswith("error: ") for line in error.splitlines()) == 1

    if (folder / "shards").exists():
        shutil.rmtree(folder / "shards")
    refused("has no shards: write them with python -m ppl_vae evaluate .* --shard 1/16")
    for shard in ("1/4", "3/4"):
        assert outliers(folder, "--shard", shard) == 0
    refused(r"shards 2, 4 of 4 are missing: .* outliers .* --shard 2/4")
    assert outliers(folder, "--shard", "2/4") == 0
    assert outliers(folder, "--shard", "4/4", "--num-samples", "6") == 0
    refused("outliers-4-of-4.* was computed with num_samples 6, and the others with 5: run this shard again")
    assert outliers(folder, "--shard", "4/4") == 0
    file = folder / "shards" / "outliers-3-of-4.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused("outliers-3-of-4.* is damaged, .*: run this shard again")
    file.write_bytes(content)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("seed: 0", "seed: 1"))
    refused("was computed with seed 0, and .* 1")
    (folder / "config.yaml").write_text(config)
    refused("has no shards of gap: write them with python -m ppl_vae gap", "--verb", "gap")
    refused("--shard 0/4: expected a number from 1 to the number of shards", "--shard", "0/4", verb="outliers")
    assert run_without_figures("merge", [str(folder)]) == 0
