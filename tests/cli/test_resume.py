"""Per-sample runs that are stopped and resumed: every datum continues from its last state, bit for bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppl_vae import InputError, VariationalInference
from ppl_vae.inference import table as table_module
from ppl_vae.program import seeded
from ppl_vae.runs import read_checkpoint
from tests.helpers.own_programs import MODEL_ONLY, PER_SAMPLE
from tests.helpers.runs import read_numbers, run_without_figures
from tests.helpers.scenarios import TwoLatents, normal

X = normal(50, 4).abs().numpy()


class Stopped(Exception):
    """The exception with which a test stops a run."""


def prepared(resume: Path | None = None, **options: Any) -> VariationalInference:
    """Return a fit of a program that also registers an encoder, which is not used."""
    with seeded(0):
        program = TwoLatents().double()
    common = {"max_epochs": 6, "batch_size": 16, "local_steps": 3, "patience": None, "inference_steps": 20}
    vi = VariationalInference(program, "per-sample", **(common | {"warm_start": True} | options))
    vi.prepare({"x": X[:40]}, {"x": X[40:]}, resume=resume)
    return vi


def outcome(vi: VariationalInference, rows: list[Any]) -> tuple[list[Any], list[np.ndarray]]:
    """Return everything that a run has computed."""
    arrays = [tensor.clone().numpy() for tensor in vi.program_.state().values()]
    arrays += [table.after(6).copy() for table in vi.inference_.tables.values()]
    return rows, [*arrays, vi.transform(X[:9])]


def same(one: tuple[list[Any], list[np.ndarray]], other: tuple[list[Any], list[np.ndarray]]) -> bool:
    return one[0] == other[0] and all(np.array_equal(a, b) for a, b in zip(one[1], other[1], strict=True))


def stop_at(vi: VariationalInference, epoch: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Train up to a batch of an epoch, each counted from 0, and return the rows of the epochs before it."""
    shuffled, seeds, rows = vi._prepared.train_batches.shuffled, [], []

    def breaking(seed: int, *args: Any, **options: Any) -> Iterator[Any]:
        seeds.append(seed)
        for number, each in enumerate(shuffled(seed, *args, **options)):
            if (len(seeds) - 1, number) == (epoch, batch):
                raise Stopped
            yield each

    with monkeypatch.context() as patch:
        patch.setattr(vi._prepared.train_batches, "shuffled", breaking)
        stream = vi.epochs()
        rows.extend(next(stream) for _ in range(epoch))
        with pytest.raises(Stopped):
            next(stream)
    return rows


@pytest.fixture(scope="module")
def whole() -> tuple[list[Any], list[np.ndarray]]:
    vi = prepared()
    return outcome(vi, list(vi.epochs()))


@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (0, 1), (2, 0), (3, 2)])
def test_a_resumed_run_gets_the_numbers_of_one_that_was_not_stopped(
    epoch: int, batch: int, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is stopped between epochs or within one, and resumed from its files or in the same process."""
    vi = prepared()
    rows = stop_at(vi, epoch, batch, monkeypatch)
    assert len(rows) == epoch
    vi.save_checkpoint(tmp_path / "it.safetensors")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"it.safetensors", *(f"it.lambda-{part}-{epoch}.npy" for part in ("train", "valid"))}
    other = prepared(resume=tmp_path / "it.safetensors")
    assert same(outcome(other, rows + list(other.epochs())), whole)
    assert same(outcome(vi, rows + list(vi.epochs())), whole)


@pytest.mark.parametrize("options", [{"checkpoint_every": 1}, {"validate_every": 2, "memory": 320}], ids=str)
def test_it_is_resumed_in_the_middle_of_an_epoch(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda of the data that the epoch has visited and of the others, streamed and not, come from the files."""
    monkeypatch.setattr("ppl_vae.data.memory.LEAST", 1)
    options |= {"max_epochs": 3}
    expected, labels = [], []
    whole = prepared(**options)
    assert bool(whole.describe_data()) == ("memory" in options)
    for number, row in enumerate(whole.stretches()):
        expected.append(row)
        labels.append(whole.training_.place.label)
        whole.save_checkpoint(tmp_path / f"{number}.safetensors")
    assert {"0.2", "1", "1.1", "2.2"} <= {*labels}
    for number, label in enumerate(labels[:-1]):
        if label in ("0.2", "1.1"):
            assert (tmp_path / f"{number}.lambda-train-next-{label}.npy").is_file()
            other = prepared(resume=tmp_path / f"{number}.safetensors", **options)
            rows = expected[: number + 1] + list(other.stretches())
            assert same(outcome(other, rows), outcome(whole, expected))


def test_without_a_warm_start_only_the_validation_data_have_a_table(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vi = prepared(warm_start=False)
    expected = outcome(vi, list(vi.epochs()))
    vi = prepared(warm_start=False)
    rows = stop_at(vi, 3, 1, monkeypatch)
    vi.save_checkpoint(tmp_path / "it.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"it.safetensors", "it.lambda-valid-3.npy"}
    vi = prepared(resume=tmp_path / "it.safetensors", warm_start=False)
    assert same(outcome(vi, rows + list(vi.epochs())), expected)
    assert not same(expected, whole)


def test_a_table_in_a_file_has_the_same_numbers(whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "IN_MEMORY", 0)
    vi = prepared()
    assert same(outcome(vi, list(vi.epochs())), whole)
    assert isinstance(vi.inference_.tables["train"].after(0), np.memmap)


def test_a_table_of_another_run_is_refused(tmp_path: Path) -> None:
    vi, path = prepared(), tmp_path / "it.safetensors"
    next(vi.epochs())
    vi.save_checkpoint(path)
    for options in ({"family": "full"}, {"family": "flow"}):
        with pytest.raises(InputError, match=r"the table of local parameters .* other data or another family"):
            prepared(resume=path, **options)
    (tmp_path / "it.lambda-train-1.npy").unlink()
    with pytest.raises(
        InputError, match=r"it.lambda-train-1.npy, the local parameters of it.safetensors, cannot be read"
    ):
        prepared(resume=path)


KILLED = """\
import os, signal, sys
import ppl_vae.cli.fit as fit
from ppl_vae.cli import main
import ppl_vae.estimator.state as module

fit.CHECKPOINT_SECONDS = 0.0
write_checkpoint = module.write_checkpoint

def write(path, tensors, numbers):
    if numbers["row"] and numbers["row"]["epoch"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    write_checkpoint(path, tensors, numbers)

module.write_checkpoint = write
main(["fit", *sys.argv[1:]])
"""


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("*checkpoint*"))


def test_a_killed_run_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is killed at the worst moment: the tables of the fourth epoch are written, its checkpoint is not."""
    monkeypatch.chdir(tmp_path)
    np.savez("my.npz", x=normal(80, 5).numpy())
    Path("mine.py").write_text(MODEL_ONLY)
    options = [*PER_SAMPLE, "--max-epochs", "8", "--batch-size", "16"]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *options, "--output", "killed"])
    assert run_without_figures("fit", [*options, "--output", "whole"]) == 0
    assert process.wait(timeout=120) == -signal.SIGKILL
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    tables = {epoch: [f"checkpoint.lambda-{part}-{epoch}.npy" for part in ("train", "valid")] for epoch in (3, 4, 8)}
    assert names(killed) == sorted([*tables[3], *tables[4], "checkpoint.safetensors"])
    assert (killed / "metrics.jsonl").read_text().count("\n") == 4
    assert run_without_figures("fit", ["--resume", "--output", "killed"]) == 0
    assert read_numbers(killed) == read_numbers(whole)
    for run in (killed, whole):
        assert names(run) == [*tables[8], "checkpoint.safetensors"]
    for name in tables[8]:
        np.testing.assert_array_equal(np.load(killed / name), np.load(whole / name))

    # Another family has another lambda; a table that is missing or cut short is reported.
    capsys.readouterr()
    for name, value in (("family", "full"), ("warm_start", "false")):
        assert run_without_figures("fit", ["--resume", "--output", "killed", f"--{name}", value]) == 2
        assert capsys.readouterr().err.startswith(f"error: --resume with another {name}: ")
    path = killed / tables[8][0]
    path.write_bytes(path.read_bytes()[:300])
    for _ in range(2):
        assert run_without_figures("fit", ["--resume", "--output", "killed"]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "checkpoint.lambda-train-8.npy, the local parameters" in err
        path.unlink(missing_ok=True)


def test_a_long_epoch_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that ends in the middle of an epoch, and is resumed there, ends as one that was not."""
    monkeypatch.chdir(tmp_path)
    np.savez("my.npz", x=normal(200, 4).abs().numpy())
    options = ["--data", "my.npz", "--model", "factor_analysis", "--model.latent-dim", "1", "--max-epochs", "2"]
    options += ["--validate-every", "4", "--checkpoint-every", "3", "--num-valid", "15", "--num-data", "7"]
    options += ["--batch-size", "16", "--schedule", "constant", "--num-samples", "10", "--compile", "off"]
    assert run_without_figures("fit", [*options, "--output", "whole"]) == 0
    out = capsys.readouterr().out
    assert "validation takes 15 of 20 data, drawn by the seed; --num-valid takes more" in out
    assert "test, 7 data" in out
    assert "7 of 20 test data, drawn by the seed; --num-data takes more" in out
    assert run_without_figures("fit", [*options, "--max-steps", "6", "--output", "part"]) == 0
    assert "trained 0 epochs and 6 steps" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "part" / "checkpoint.safetensors")[1]["place"]["steps"] == 6
    assert run_without_figures("fit", ["--resume", "--output", "part", "--max-steps", "null"]) == 0
    one, other = read_numbers(tmp_path / "part"), read_numbers(tmp_path / "whole")
    rows, expected = one.pop("metrics"), other.pop("metrics")
    assert [(row["epoch"], row["step"]) for row in expected] == [(1, 4), (1, 8), (2, 12), (2, 16), (2, 20)]
    # The end of the first run was a validation of its own, in the middle of the second round.
    assert [row["step"] for row in rows] == [4, 6, 8, 12, 16, 20]
    last = ("best_epoch", "best_step", "elbo_valid", "elbo_train")
    assert [rows[-1][name] for name in last] == [expected[-1][name] for name in last]
    assert one == other
    assert run_without_figures("fit", [*options, "--validate-every", "now", "--output", "bad"]) == 2
    assert "error: validate_every is 'now': expected a number of steps" in capsys.readouterr().err
