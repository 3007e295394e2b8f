"""The law of the formats: data are the same arrays whatever file they are in, in memory and on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from ppl_vae.data import (
    Dataset,
    Holes,
    StoredRows,
    as_source,
    describe_empty_rows,
    find_holes,
    load_dataset,
    load_stored,
)
from ppl_vae.data.sequences import LENGTHS
from ppl_vae.data.split import PARTS
from ppl_vae.data.survey import survey
from ppl_vae.errors import InputError
from ppl_vae.runs.tables import digest_array

N = 400
Arrays = Mapping[str, np.ndarray]


def toy(seed: int = 0, rows: int = N) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    return {"x": draws.normal(size=(rows, 3)).astype(np.float32), "y": draws.integers(0, 4, rows)}


def write_npy(path: Path, arrays: Arrays) -> Path:
    np.save(path.with_suffix(".npy"), arrays["x"])
    return path.with_suffix(".npy")


def write_fortran(path: Path, arrays: Arrays) -> Path:
    np.save(path.with_suffix(".npy"), np.asfortranarray(arrays["x"]))
    return path.with_suffix(".npy")


def write_big_endian(path: Path, arrays: Arrays) -> Path:
    np.save(path.with_suffix(".npy"), arrays["x"].astype(">f4"))
    return path.with_suffix(".npy")


def write_npz(path: Path, arrays: Arrays) -> Path:
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def write_h5(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, array in arrays.items():
            chunks = (min(37, len(array)), *array.shape[1:])
            file.create_dataset(name, data=array, chunks=chunks if len(array) else None)
    return path.with_suffix(".h5")


def write_zarr(path: Path, arrays: Arrays) -> Path:
    store = zarr.open_group(path.with_suffix(".zarr"), mode="w")
    for name, array in arrays.items():
        store.create_array(name, data=array, chunks=(41, *array.shape[1:]))
    return path.with_suffix(".zarr")


def write_parquet(path: Path, arrays: Arrays) -> Path:
    frame = pd.DataFrame(arrays["x"], columns=list("abc")[: arrays["x"].shape[1]])
    if "y" in arrays:
        frame["y"] = arrays["y"]
    frame.to_parquet(path.with_suffix(".parquet"), row_group_size=43, index=False)
    return path.with_suffix(".parquet")


def write_shards(write: Callable[[Path, Arrays], Path]) -> Callable[[Path, Arrays], Path]:
    def write_all(path: Path, arrays: Arrays) -> Path:
        path.mkdir()
        (path / "_SUCCESS").touch()
        for number, start in enumerate(range(0, len(arrays["x"]), 90)):
            write(path / f"part-{number}", {name: array[start : start + 90] for name, array in arrays.items()})
        return path

    return write_all


SINGLE = {"npy": write_npy, "fortran": write_fortran, "big endian": write_big_endian, "npz": write_npz}
SINGLE |= {"h5": write_h5, "zarr": write_zarr}
SHARDS = {f"{n} shards": write_shards(SINGLE[n]) for n in ("npy", "npz", "h5", "zarr")}
SHARDS["parquet shards"] = write_shards(write_parquet)
FORMATS = SINGLE | SHARDS


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data stay on disk, too."""
    for limit in ("MOST_IN_MEMORY", "MOST_TABLE_IN_MEMORY"):
        monkeypatch.setattr(load_stored, limit, -1)


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_same(stored: Dataset, held: Dataset) -> None:
    for part in PARTS:
        rows, arrays = stored.part(part), held.part(part)
        assert isinstance(rows, StoredRows)
        assert list(rows) == list(arrays)
        assert as_source(arrays).columns.keys() == rows.columns.keys()
        for name, array in arrays.items():
            assert rows[name].dtype == array.dtype == rows.dtypes[name]
            np.testing.assert_array_equal(np.asarray(rows[name]), array)
            np.testing.assert_array_equal(rows.read(slice(3, 17))[name], array[3:17])
            np.testing.assert_array_equal(rows.rows([5, 0, -1])[name], array[[5, 0, -1]])
            np.testing.assert_array_equal(rows.choose([name]).read(slice(2, 9))[name], array[2:9])
            assert survey("toy", rows)[name].digest == digest_array(array)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_the_same_arrays_in_memory_and_on_disk(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = FORMATS[name](tmp_path / "own", toy())
    held = load_dataset(path)
    request.getfixturevalue("on_disk")
    stored = load_dataset(path)
    check_same(stored, held)
    assert stored.describe() == held.describe()
    assert held.describe().startswith(f"{path.name}: 320 train, 40 valid, 40 test; x 3")
    reference = load_dataset(write_npz(tmp_path / "like", toy()))
    for part in PARTS:  # which are small, so that every format deals single rows
        for array, values in held.part(part).items():
            np.testing.assert_array_equal(values, reference.part(part)[array])


@pytest.mark.parametrize("name", ["npy", "h5", "parquet shards"])
def test_what_is_missing_is_the_same_on_disk(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    arrays = toy()
    arrays["x"][np.random.default_rng(1).random((N, 3)) < 0.3] = np.nan
    path = FORMATS[name](tmp_path / "own", arrays)
    held = load_dataset(path)
    request.getfixturevalue("on_disk")
    stored = load_dataset(path)
    assert f"; {np.isnan(arrays['x']).sum()} of {3 * N} numbers of x missing" in stored.describe()
    assert stored.describe() == held.describe()
    holes, expected = (find_holes(["x", "y"], [data.part(part) for part in PARTS]) for data in (stored, held))
    np.testing.assert_allclose(holes.usual["x"], expected.usual["x"], rtol=1e-12)
    for part in PARTS:
        rows, whole = holes.fill(stored.part(part)), expected.fill(held.part(part))
        assert isinstance(rows, StoredRows)
        assert list(rows) == list(whole)
        np.testing.assert_allclose(rows["x"][:], whole["x"], rtol=1e-6)
        np.testing.assert_array_equal(rows["x_mask"][3:9], whole["x_mask"][3:9])
        np.testing.assert_array_equal(holes.open(rows)["x"][:], held.part(part)["x"])
        assert describe_empty_rows(part, rows, ["x"]) == describe_empty_rows(part, whole, ["x"])
    few = replace(holes, allowed={"x": np.array([True, True, False])})
    with pytest.raises(InputError, match=r"column 2 of 'x'|column 'c'") as caught:
        few.check("train", holes.fill(stored.train), ["x"])
    with pytest.raises(InputError) as also:
        few.check("train", expected.fill(held.train), ["x"])
    assert str(caught.value) == str(also.value)
    with pytest.raises(InputError, match="is missing in row") as caught:
        Holes().check("train", stored.train, ["x"])
    with pytest.raises(InputError) as also:
        Holes().check("train", held.train, ["x"])
    assert str(caught.value) == str(also.value)


@pytest.mark.parametrize("write", [write_h5, write_zarr, write_npz])
def test_parts_in_one_file(write: Callable[[Path, Arrays], Path], tmp_path: Path, on_disk: None) -> None:
    arrays = {f"{name}_{part}": a for part in ("train", "test") for name, a in toy(len(part)).items()}
    data = load_dataset(write(tmp_path / "own", arrays))
    np.testing.assert_array_equal(np.asarray(data.test["x"]), arrays["x_test"])
    rows = np.concatenate([np.asarray(data.train["x"]), np.asarray(data.valid["x"])])
    assert len(data.valid["x"]) == N // 10
    assert {tuple(row) for row in rows} == {tuple(row) for row in arrays["x_train"]}


def test_parts_in_groups_and_folders(tmp_path: Path, on_disk: None) -> None:
    parts = {part: toy(number) for number, part in enumerate(PARTS)}
    with h5py.File(tmp_path / "own.h5", "w") as file:
        for part, arrays in parts.items():
            for name, array in arrays.items():
                file[f"{part}/{name}"] = array
    for part, arrays in parts.items():
        (tmp_path / "own").mkdir(exist_ok=True)
        write_shards(write_npz)(tmp_path / "own" / part, arrays)
    for path in (tmp_path / "own.h5", tmp_path / "own"):
        data = load_dataset(path)
        for part, arrays in parts.items():
            np.testing.assert_array_equal(np.asarray(data.part(part)["x"]), arrays["x"])


def test_a_pattern_names_shards(tmp_path: Path, on_disk: None) -> None:
    folder = write_shards(write_npy)(tmp_path / "own", toy())
    whole, some = load_dataset(folder / "*.npy"), load_dataset(folder / "part-[01].npy")
    assert sum(len(whole.part(part)["x"]) for part in PARTS) == N
    assert sum(len(some.part(part)["x"]) for part in PARTS) == 180


def test_many_rows_are_dealt_in_blocks(tmp_path: Path, on_disk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_stored, "MOST_BLOCKS", 20)
    data = load_dataset(write_h5(tmp_path / "own", toy()))
    assert [data.part(part).num_rows for part in PARTS] == [320, 40, 40]
    assert all((np.diff(data.part(part).ranges) % 20 == 0).all() for part in PARTS)


@pytest.mark.parametrize("how", ["threshold", "static", "dynamic"])
def test_bits_are_the_same_on_disk(how: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    x = np.random.default_rng(0).integers(0, 256, (N, 5, 3)).astype(np.uint8)
    path = write_npy(tmp_path / "own", {"x": x})
    held = load_dataset(path, binarize=how, seed=3)
    request.getfixturevalue("on_disk")
    check_same(load_dataset(path, binarize=how, seed=3), held)


def test_sequences_are_padded_and_cleared_on_disk(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    draws = np.random.default_rng(0)
    arrays = {}
    for part, steps in (("train", 4), ("test", 6)):
        arrays |= {f"x_{part}": draws.normal(size=(N, steps, 2)), f"{LENGTHS}_{part}": draws.integers(1, steps, N)}
    path = write_npz(tmp_path / "own", arrays)
    held = load_dataset(path)
    request.getfixturevalue("on_disk")
    stored = load_dataset(path)
    check_same(stored, held)
    assert stored.train["x"].shape[1:] == (6, 2)


@pytest.mark.parametrize("name", ["npy", "npz", "h5", "parquet shards", "npy shards"])
def test_a_truncated_file_is_refused(name: str, tmp_path: Path, on_disk: None) -> None:
    path = FORMATS[name](tmp_path / "own", toy())
    broken = sorted(path.glob("part*"))[1] if path.is_dir() else path
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    message = refusal(path)
    assert broken.name in message
    assert "truncated" in message


def test_a_file_that_is_cut_short_later_is_refused(tmp_path: Path, on_disk: None) -> None:
    path = write_npy(tmp_path / "own", toy())
    data = load_dataset(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"own\.npy: it has been cut short"):
        data.train.read(slice(200, 300))


ODD = {
    "shape": (lambda arrays: {**arrays, "x": arrays["x"][:, :2]}, "another schema"),
    "type": (lambda arrays: {**arrays, "x": arrays["x"].astype(np.float64)}, "another schema"),
    "empty": (lambda arrays: {name: array[:0] for name, array in arrays.items()}, "empty"),
}


@pytest.mark.parametrize("name", SHARDS)
@pytest.mark.parametrize("odd", ODD)
def test_a_shard_that_differs_is_named(name: str, odd: str, tmp_path: Path, on_disk: None) -> None:
    change, fact = ODD[odd]
    path = FORMATS[name](tmp_path / "own", toy())
    write = write_parquet if "parquet" in name else SINGLE[name.removesuffix(" shards")]
    written = write(path / "part-2", change(toy()))
    message = refusal(path)
    assert written.name in message
    assert fact in message


REFUSED = [
    (lambda folder: write_npz(folder / "own", {"data": np.eye(20)}), "no array x"),
    (lambda folder: write_npz(folder / "own", {"x_train": np.eye(20), "y": np.ones(20)}), "'y' belongs to no part"),
    (lambda folder: write_h5(folder / "own", {"x": np.eye(20), "y": np.ones(19)}), "differ in their number of rows"),
    (lambda folder: write_zarr(folder / "own", {"x": np.full((20, 2), np.inf)}), "has inf in row 0"),
    (lambda folder: write_h5(folder / "own", {"x": np.eye(20), "y": np.full(20, -2)}), "label out of range"),
    (lambda folder: folder / "none.h5", "there is no file"),
    (lambda folder: folder / "part-*.npy", "no files that fit"),
    (lambda folder: folder, "no shards in"),
]


@pytest.mark.parametrize(("write", "fact"), REFUSED)
def test_bad_files_are_refused(write: Callable[[Path], Path], fact: str, tmp_path: Path, on_disk: None) -> None:
    assert fact in refusal(write(tmp_path))


def test_shards_of_two_formats_are_refused(tmp_path: Path) -> None:
    write_npz(write_npy(tmp_path / "a", toy()).with_name("b"), toy())
    assert "several formats, .npy and .npz" in refusal(tmp_path)


def test_columns_of_texts_in_shards_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [0.5] * 20, "city": ["Rome"] * 20}).to_parquet(tmp_path / "part-0.parquet")
    assert "--drop city" in refusal(tmp_path)
    assert load_dataset(tmp_path, drop="city").train["x"].shape == (16, 1)


def test_a_kind_that_the_numbers_do_not_have_is_refused(tmp_path: Path, on_disk: None) -> None:
    pd.DataFrame({"a": np.linspace(0, 1, 20), "b": np.arange(20)}).to_parquet(tmp_path / "part-0.parquet")
    assert "kind count needs whole numbers" in refusal(tmp_path, kinds="a=count")
    kinds = [column.kind for column in load_dataset(tmp_path).columns]
    assert kinds == ["real", "count"]


def test_a_compressed_file_is_read_whole(tmp_path: Path, on_disk: None) -> None:
    np.savez_compressed(tmp_path / "own.npz", **toy())
    assert isinstance(load_dataset(tmp_path / "own.npz").train["x"], np.ndarray)
