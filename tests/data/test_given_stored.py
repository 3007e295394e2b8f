"""Data on disk as people have them in Python: every form gives the rows of the arrays themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest
import torch
import zarr
from torch.utils.data import Dataset

from ppl_vae.data import StoredRows, check_precision, given_stored, hold_out, name_arrays
from ppl_vae.data.frames import match_columns
from ppl_vae.data.kinds import Variable
from ppl_vae.data.statistics import blocks_of, column_statistics
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.models.factor_analysis import FactorAnalysis

N = 150
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, N)


class Items(Dataset):
    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        return X[row], int(Y[row])

    def __len__(self) -> int:
        return N


class Batch(Items):
    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        assert row == 0, "rows are asked for together"
        return super().__getitem__(row)

    def __getitems__(self, rows: list[int]) -> list[tuple[np.ndarray, int]]:
        return [(X[row], int(Y[row])) for row in rows]


def memmap(folder: Path) -> tuple[Any, ...]:
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r"), Y


def hdf5(folder: Path) -> tuple[Any, ...]:
    with h5py.File(folder / "own.h5", "w") as file:
        file["x"], file["y"] = X, Y
    return (h5py.File(folder / "own.h5"),)


def hdf5_arrays(folder: Path) -> tuple[Any, ...]:
    (file,) = hdf5(folder)
    return file["x"], file["y"]


def zarr_arrays(folder: Path) -> tuple[Any, ...]:
    return zarr.create_array(folder / "x.zarr", data=X, chunks=(40, 3)), Y.tolist()


def parquet(folder: Path) -> tuple[Any, ...]:
    for number in range(3):
        rows = slice(50 * number, 50 * number + 50)
        frame = pd.DataFrame(X[rows], columns=list("abc")).assign(y=Y[rows])
        frame.to_parquet(folder / f"part-{number}.parquet", row_group_size=20)
    return (pyarrow.dataset.dataset(folder, format="parquet"),)


FORMS: dict[str, Callable[[Path], tuple[Any, ...]]] = {
    "memmap": memmap,
    "h5py file": hdf5,
    "h5py": hdf5_arrays,
    "zarr": zarr_arrays,
    "pyarrow": parquet,
    "torch items": lambda folder: (Items(),),
    "torch batches": lambda folder: (Batch(),),
}


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_stored, "MOST_IN_MEMORY", -1)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: str, tmp_path: Path, on_disk: None) -> None:
    rows = name_arrays("VAE", "fit", FORMS[form](tmp_path), ["x", "y"])
    assert isinstance(rows, StoredRows)
    for at in (slice(None), slice(30, 99)):
        read = rows.read(at)
        np.testing.assert_array_equal(read["x"], X[at])
        np.testing.assert_array_equal(read["y"], Y[at])
    np.testing.assert_array_equal(rows.rows([140, 2])["x"], X[[140, 2]])
    assert rows["x"].dtype == np.float32


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"torch batches"}))
def test_small_data_are_in_memory(form: str, tmp_path: Path) -> None:
    arrays = name_arrays("VAE", "fit", FORMS[form](tmp_path), ["x", "y"])
    assert isinstance(arrays["x"], np.ndarray)
    np.testing.assert_array_equal(arrays["x"], X)


class Odd(Items):
    def __getitem__(self, row: int) -> Any:
        return (X[row][:2], 0) if row == 77 else (X[row], 0.5 if row == 99 else 0)


def test_a_row_that_differs_is_named(on_disk: None) -> None:
    with pytest.raises(InputError, match="row 77 is not like row 0"):
        name_arrays("VAE", "fit", [Odd()], ["x", "y"])


def test_arrays_of_other_lengths_are_refused(tmp_path: Path, on_disk: None) -> None:
    with pytest.raises(InputError, match=r"'y' has shape \(149,\) beside 150 rows"):
        name_arrays("VAE", "fit", [memmap(tmp_path)[0], Y[1:]], ["x", "y"])


def test_rows_on_disk_are_held_out_in_blocks(tmp_path: Path, on_disk: None) -> None:
    rows = name_arrays("VAE", "fit", memmap(tmp_path), ["x", "y"])
    train, valid = hold_out(rows, 0.2, seed=0)
    assert isinstance(train, StoredRows)
    assert valid is not None
    assert (len(train["x"]), len(valid["x"])) == (120, 30)
    both = np.concatenate([train["x"][:], valid["x"][:]])
    assert {tuple(row) for row in both} == {tuple(row) for row in X}
    assert hold_out(rows, 0.0, seed=0)[1] is None


def test_columns_are_moved_on_disk(tmp_path: Path, on_disk: None) -> None:
    rows = name_arrays("VAE", "fit", parquet(tmp_path), ["x", "y"])
    moved = match_columns(rows, {"x": [Variable(name, "real") for name in "cab"]}, "score")
    np.testing.assert_array_equal(moved["x"][:], X[:, [2, 0, 1]])
    assert [column.name for column in moved.columns["x"]] == ["c", "a", "b"]


def test_statistics_and_precision_on_disk(tmp_path: Path, on_disk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = 1e6 + X.astype(np.float64) * 1e3
    rows = name_arrays("VAE", "fit", [_saved(tmp_path, wide)], ["x"])
    of_x = column_statistics(blocks_of(rows, ["x"]))["x"]
    np.testing.assert_allclose(of_x.mean, wide.mean(0), rtol=1e-12)
    np.testing.assert_allclose(of_x.scale, wide.std(0), rtol=1e-9)
    monkeypatch.setattr("ppl_vae.data.precision.NUMBERS_AT_ONCE", 30)
    check_precision(rows, ["x"], torch.float32)
    far = name_arrays("VAE", "fit", [_saved(tmp_path, 1e9 + wide)], ["x"])
    for data in (far, {"x": 1e9 + wide}):
        with pytest.raises(InputError, match="column 0 has 100"):
            check_precision(data, ["x"], torch.float32)


def _saved(folder: Path, array: np.ndarray) -> Any:
    mapped = np.memmap(folder / f"{array[0, 0]}.bin", np.float64, "w+", shape=array.shape)
    mapped[:] = array
    return mapped


@pytest.mark.parametrize("guided", [True, False])
def test_a_fit_from_a_memory_map_is_the_fit_in_memory(guided: bool, tmp_path: Path, on_disk: None) -> None:
    """Bit for bit, in the same rows: the guide of the program, and an encoder that is derived from the model."""
    rows = name_arrays("VAE", "fit", [memmap(tmp_path)[0]], ["x"])
    assert isinstance(rows, StoredRows)
    train, valid = rows.part(0, 120), rows.part(120, N)
    losses: list[list[Any]] = []
    program = partial(FactorAnalysis, data_dim=3, latent_dim=2)
    recipe = program if guided else lambda: SimpleNamespace(model=program().model)
    for parts in ((train, valid), ({"x": X[:120]}, {"x": X[120:]})):
        vi = VariationalInference(recipe, max_epochs=2, num_samples=10, compile="off")
        vi.prepare(*parts)
        losses.append(list(vi.epochs()))
    assert losses[0] == losses[1]
