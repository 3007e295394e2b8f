"""Tables beside a checkpoint: whatever happens, there are tables of the epoch of the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppl_vae.errors import InputError
from ppl_vae.runs import Run, read_tables, write_tables

CHECKPOINT = "checkpoint.safetensors"


def save(folder: Path, epoch: int, *parts: str) -> dict[str, np.ndarray]:
    tables = {part: np.random.default_rng(epoch + len(part)).normal(size=(6, 4)) for part in parts}
    with write_tables(folder / CHECKPOINT, epoch, tables):
        (folder / CHECKPOINT).write_text(str(epoch))
    return tables


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_tables_are_read_as_written_and_older_ones_are_removed(tmp_path: Path) -> None:
    save(tmp_path, 3, "train", "valid")
    tables = save(tmp_path, 11, "train", "valid")
    assert names(tmp_path) == ["checkpoint.lambda-train-11.npy", "checkpoint.lambda-valid-11.npy", CHECKPOINT]
    tables = read_tables(tmp_path / CHECKPOINT, 11, ("train", "valid"))
    for part, rows in tables.items():
        assert isinstance(tables[part], np.memmap)
        assert tables[part].mode == "r"
        np.testing.assert_array_equal(tables[part], rows)
    save(tmp_path, 12)
    assert names(tmp_path) == [CHECKPOINT]
    assert read_tables(tmp_path / CHECKPOINT, 12, ()) == {}


def test_tables_of_other_checkpoints_in_the_folder_stay(tmp_path: Path) -> None:
    other = tmp_path / "my_checkpoint.safetensors"
    with write_tables(other, 1, {"train": np.ones((2, 2))}):
        other.touch()
    save(tmp_path, 1, "train")
    save(tmp_path, 2, "train")
    assert read_tables(other, 1, ["train"])["train"].shape == (2, 2)


def test_a_kill_before_the_checkpoint_is_written_leaves_the_old_ones(tmp_path: Path) -> None:
    tables = save(tmp_path, 3, "train")
    with pytest.raises(KeyboardInterrupt), write_tables(tmp_path / CHECKPOINT, 4, {"train": np.ones((6, 4))}):
        raise KeyboardInterrupt
    np.testing.assert_array_equal(read_tables(tmp_path / CHECKPOINT, 3, ["train"])["train"], tables["train"])
    save(tmp_path, 5, "train")
    assert names(tmp_path) == ["checkpoint.lambda-train-5.npy", CHECKPOINT]


def test_a_kill_while_a_table_is_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = save(tmp_path, 3, "train")

    def cut_short(file: object, *_: object, **__: object) -> None:
        file.write(b"\x93NUMPY")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", cut_short)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 4, "train")
    assert (tmp_path / CHECKPOINT).read_text() == "3"
    np.testing.assert_array_equal(read_tables(tmp_path / CHECKPOINT, 3, ["train"])["train"], tables["train"])
    save(tmp_path, 5, "train")
    assert names(tmp_path) == ["checkpoint.lambda-train-5.npy", CHECKPOINT]


@pytest.mark.parametrize("size", [0, 3, 40, 100, 200])
def test_a_table_that_is_cut_short_is_reported_in_one_line(size: int, tmp_path: Path) -> None:
    save(tmp_path, 3, "train")
    path = tmp_path / "checkpoint.lambda-train-3.npy"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"checkpoint.lambda-train-3.npy, the local .* fit the run anew") as error:
        read_tables(tmp_path / CHECKPOINT, 3, ["train"])
    assert "\n" not in str(error.value)


def test_a_table_that_is_missing_or_of_another_epoch_is_reported(tmp_path: Path) -> None:
    save(tmp_path, 3, "train")
    for epoch, part in ((4, "train"), (3, "valid")):
        with pytest.raises(InputError, match=rf"lambda-{part}-{epoch}.npy, .* cannot be read .*restore it"):
            read_tables(tmp_path / CHECKPOINT, epoch, [part])


def test_a_new_run_removes_tables(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.create({"seed": 0})
    save(run.path, 3, "train", "valid")
    (run.path / "mine.npy").touch()
    run.create({"seed": 1}, overwrite=True)
    assert names(run.path) == ["config.yaml", "mine.npy"]
