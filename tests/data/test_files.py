from __future__ import annotations

import pickle
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from ppl_vae.data import Batches, Dataset, load_dataset
from ppl_vae.data.split import PARTS
from tests.helpers.messages import refusal

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def save(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "own.npz"
    np.savez(path, allow_pickle=True, **arrays)
    return path


def rows_of(data: Dataset, array: str = "x") -> list[list[int]]:
    return [data.part(part)[array].ravel().astype(int).tolist() for part in PARTS]


def test_three_parts_are_kept_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.normal(size=(n, 3)) for n, part in enumerate(PARTS, start=2)}
    arrays |= {f"y_{part}": np.zeros(n, dtype=np.uint8) for n, part in enumerate(PARTS, start=2)}
    arrays |= {f"log_weight_{part}": np.ones(n) for n, part in enumerate(PARTS, start=2)}
    data = load_dataset(save(tmp_path, **arrays))
    assert data.name == "own.npz"
    assert data.binarize == "none"
    for part in PARTS:
        assert np.array_equal(data.part(part)["x"], arrays[f"x_{part}"])
        dtypes = {name: values.dtype for name, values in data.part(part).items()}
        assert dtypes == {"x": np.float64, "y": np.uint8, "log_weight": np.float64}


def test_one_array_is_split_with_its_labels(tmp_path: Path) -> None:
    path = save(tmp_path, x=np.arange(100)[:, None], y=np.arange(100) % 3, is_old=np.arange(100) > 50)
    data = load_dataset(path, seed=1)
    train, valid, test = rows_of(data)
    assert [len(train), len(valid), len(test)] == [80, 10, 10]
    assert sorted(train + valid + test) == list(range(100))
    for part in PARTS:
        x = data.part(part)["x"][:, 0].astype(int)
        assert np.array_equal(data.part(part)["y"], x % 3)
        assert np.array_equal(data.part(part)["is_old"], x > 50)
    assert rows_of(load_dataset(path, seed=1)) == [train, valid, test]
    assert rows_of(load_dataset(path, seed=2)) != [train, valid, test]


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        (["train"], [80, 10, 10]),
        (["train", "test"], [90, 10, 5]),
        (["train", "valid"], [90, 5, 10]),
        (["train", "valid", "test"], [100, 5, 5]),
    ],
)
def test_missing_parts_are_split_off_train(tmp_path: Path, given: list[str], sizes: list[int]) -> None:
    start = {"train": np.arange(100), "valid": np.arange(200, 205), "test": np.arange(300, 305)}
    data = load_dataset(save(tmp_path, **{f"x_{part}": start[part][:, None] for part in given}))
    rows = rows_of(data)
    assert [len(part) for part in rows] == sizes
    assert sorted(chain(*rows)) == np.concatenate([start[part] for part in given]).tolist()


def test_npy_is_x(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", np.arange(40).reshape(20, 2))
    data = load_dataset(tmp_path / "own.npy")
    assert data.describe() == "own.npy: 16 train, 2 valid, 2 test; x 2"
    assert sorted(chain(*rows_of(data))) == list(range(40))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float16, np.float64, ">f8"])
def test_numbers_become_real_when_a_batch_is_made(tmp_path: Path, dtype: object) -> None:
    x = load_dataset(save(tmp_path, x=np.ones((20, 2), dtype=dtype))).train["x"]  # type: ignore[call-overload]
    assert x.dtype.isnative
    (batch,) = next(Batches({"x": x}, ["x"], 4).in_order())
    assert batch.dtype == torch.float32
    assert (x == 1).all()


def test_bytes_are_kept_unless_they_become_bits(tmp_path: Path) -> None:
    x = np.tile(np.array([0, 127, 128, 255], dtype=np.uint8), (20, 1))
    # A part of small values alone is scaled with the others.
    path = save(tmp_path, x_train=x, x_valid=x // 255, x_test=x)
    assert load_dataset(path).train["x"][0].tolist() == [0, 127, 128, 255]
    bits = load_dataset(path, binarize="threshold")
    assert bits.train["x"][0].tolist() == [0, 0, 1, 1]
    assert bits.valid["x"].max() == 0
    assert load_dataset(path, binarize="dynamic").train["x"][0].tolist() == pytest.approx([0, 127 / 255, 128 / 255, 1])


@pytest.mark.parametrize("how", ["threshold", "static", "dynamic"])
@pytest.mark.parametrize("top", [np.int64(7), np.float64(255)])
def test_bits_need_the_unit_interval(tmp_path: Path, how: str, top: np.generic) -> None:
    message = refusal(load_dataset, save(tmp_path, x=np.full((20, 2), top)), binarize=how)
    assert f"ranges from {top:g} to {top:g}" in message
    assert "[0, 1]" in message


def test_the_row_of_an_infinity_counts_in_the_file(tmp_path: Path) -> None:
    x = np.zeros((30, 2))
    x[17, 1] = np.inf
    assert "array 'x' of the file has inf in row 17" in refusal(load_dataset, save(tmp_path, x=x))
    # Not turned into a bit without a word.
    assert "row 17" in refusal(load_dataset, save(tmp_path, x=x), binarize="threshold")
    message = refusal(load_dataset, save(tmp_path, x_train=x, x_test=np.zeros((3, 2))))
    assert "array 'x' of train has inf in row 17" in message


@pytest.mark.parametrize("how", ["none", "threshold", "static", "dynamic"])
def test_what_is_missing_stays_so(tmp_path: Path, how: str) -> None:
    x = np.random.default_rng(0).random((30, 2))
    x[17:20, 1] = np.nan
    data = load_dataset(save(tmp_path, x_train=x, x_valid=x, x_test=x), binarize=how)
    for part in ("train", "valid", "test"):
        assert np.array_equal(np.isnan(data.part(part)["x"]), np.isnan(x))


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({"data": np.zeros((20, 2))}, "no array x or x_train: it has data"),
        ({"x_test": np.zeros((20, 2))}, "no array x_train: it has x_test"),
        ({"x_train": np.zeros((20, 2)), "mean": np.zeros(2)}, "'mean' belongs to no part"),
        ({"x": np.zeros((9, 2))}, "9 rows are too few"),
        ({"x": np.zeros((0, 2))}, "'x' of the file is empty"),
        ({"x": np.zeros(())}, "single number"),
        ({"x": np.array(["a"] * 20)}, "dtype <U1"),
        ({"x": np.zeros((20, 2)), "y": np.zeros(19)}, "'x' has 20 rows and 'y' has 19"),
        ({"x_train": np.zeros((20, 2)), "y_train": np.zeros(20), "x_test": np.zeros((2, 2))}, "not in test"),
        ({}, "it has none"),
    ],
)
def test_arrays_that_are_not_a_data_set(tmp_path: Path, arrays: dict[str, np.ndarray], fact: str) -> None:
    assert fact in refusal(load_dataset, save(tmp_path, **arrays))


@pytest.mark.parametrize("name", ["none.npz", "none.npy", "none.csv", "sub/none"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    message = refusal(load_dataset, tmp_path / name)
    assert "there is no file" in message
    assert str(tmp_path / name) in message


def test_other_kinds_of_file(tmp_path: Path) -> None:
    path = tmp_path / "own.xlsx"
    path.write_text("1,2")
    assert all(suffix in refusal(load_dataset, path) for suffix in (".npz, .npy, .h5", ".zarr, .csv", ".parquet"))
    (tmp_path / "folder.npz").mkdir()
    assert "cannot read" in refusal(load_dataset, tmp_path / "folder.npz")


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.4, 0.99])
def test_truncated_file(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"own{suffix}"
    x = np.random.default_rng(0).normal(size=(50, 9))
    if suffix == ".npy":
        np.save(path, x)
    else:
        np.savez_compressed(path, x=x)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "cannot read" in refusal(load_dataset, path)


def test_corrupt_member(tmp_path: Path) -> None:
    path = save(tmp_path, x=np.random.default_rng(0).normal(size=(50, 9)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "cannot read" in refusal(load_dataset, path)


def test_pickles_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "own.npy"
    path.write_bytes(pickle.dumps([1, 2]))
    assert "pickled" in refusal(load_dataset, path)
    np.save(path, np.array([None] * 20), allow_pickle=True)
    assert "pickled" in refusal(load_dataset, path)
    assert "pickled" in refusal(load_dataset, save(tmp_path, x=np.array([{}] * 20)))


def test_suffix_that_does_not_fit(tmp_path: Path) -> None:
    save(tmp_path, x=np.zeros((20, 2))).rename(tmp_path / "own.npy")
    assert "end in .npz" in refusal(load_dataset, tmp_path / "own.npy")
    np.save(tmp_path / "one.npy", np.zeros((20, 2)))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    assert "end in .npy" in refusal(load_dataset, tmp_path / "one.npz")


def test_static_binarized_mnist_is_kept_as_it_is() -> None:
    path = SHARED / "static_binarized_mnist.npz"
    if not path.exists():
        pytest.skip(f"needs {path.name}")
    data = load_dataset(path, image_shape=(28, 28))
    assert data.describe() == "static_binarized_mnist.npz: 50000 train, 10000 valid, 10000 test; x 784"
    assert data.image_shape == (28, 28)
    with np.load(path) as raw:
        assert data.test["x"].dtype == raw["x_test"].dtype
        assert np.array_equal(data.test["x"], raw["x_test"])
