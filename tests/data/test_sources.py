from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Literal

import numpy as np
import pytest
import torch

from ppl_vae.data import Batches, NamedArrays, Source, StoredRows, block_slices, numpy_file, subset
from ppl_vae.data.sliced import SlicedArrays
from ppl_vae.data.source import read_rows
from ppl_vae.data.survey import ArraySurvey, survey

N = 53


def arrays() -> NamedArrays:
    draws = np.random.default_rng(0)
    return NamedArrays({"x": draws.normal(size=(N, 3, 2)).astype(np.float32), "y": draws.integers(0, 9, N)})


class Blocks:
    """A source that answers in blocks of 7 rows, and counts what it has read."""

    block_rows = 7

    def __init__(self) -> None:
        self.arrays, self.reads = arrays(), []
        self.num_rows, self.shapes, self.dtypes = N, self.arrays.shapes, self.arrays.dtypes
        self.columns = {}

    def read(self, rows: slice) -> NamedArrays:
        self.reads.append(rows)
        return NamedArrays({name: array.copy() for name, array in self.arrays.read(rows).items()})


def test_both_are_sources() -> None:
    assert isinstance(arrays(), Source)
    assert isinstance(StoredRows(Blocks()), Source)
    assert not isinstance({"x": np.ones(3)}, Source)


RANGES = [np.array([[0, N]]), np.array([[3, 11]]), np.array([[0, 1], [2, 3], [4, 20], [40, 53]]), np.zeros((0, 2))]


@pytest.mark.parametrize("ranges", RANGES, ids=len)
def test_rows_are_those_of_the_ranges(ranges: np.ndarray) -> None:
    at = np.concatenate([np.arange(0), *(np.arange(start, stop) for start, stop in ranges.astype(int))])
    rows, whole = StoredRows(Blocks(), ranges), arrays()
    assert len(rows["x"]) == rows.num_rows == len(at)
    assert rows["x"].shape == (len(at), 3, 2)
    for piece in (slice(None), slice(0, 8), slice(2, 9), slice(5, None), slice(-4, None), slice(9, 3), slice(0, 99)):
        for name, array in rows.read(piece).items():
            assert array.dtype == whole[name].dtype
            np.testing.assert_array_equal(array, whole[name][at][piece])
            np.testing.assert_array_equal(rows[name][piece], array)
    np.testing.assert_array_equal(np.asarray(rows["x"]), whole["x"][at])
    if len(at):
        some = np.random.default_rng(1).integers(0, len(at), 30)
        np.testing.assert_array_equal(rows["x"][some], whole["x"][at][some])
        np.testing.assert_array_equal(rows["x"][-1], whole["x"][at][-1])
        np.testing.assert_array_equal(rows["x"][1::3, 0], whole["x"][at][1::3, 0])
        part = rows.part(2, len(at) - 1)
        np.testing.assert_array_equal(part["y"][:], whole["y"][at][2:-1])


def test_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError, match="53"):
        StoredRows(Blocks()).rows([N])


def test_rows_of_a_block_are_read_at_once() -> None:
    source = Blocks()
    read = read_rows(source, np.array([50, 1, 3, 52, 1]))
    assert source.reads == [slice(1, 4), slice(50, 53)]
    np.testing.assert_array_equal(read["y"], arrays()["y"][[50, 1, 3, 52, 1]])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "?", "<u2"])
@pytest.mark.parametrize("piece", [1, 50, 2**22])
def test_rows_of_a_file_are_taken_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Literal["C", "F"], dtype: str, piece: int
) -> None:
    monkeypatch.setattr(numpy_file, "PIECE_BYTES", piece)
    monkeypatch.setattr(numpy_file, "GAP_BYTES", 60)
    draws = np.random.default_rng(0)
    whole = np.asarray(draws.integers(0, 2, (N, 3)), dtype, order=order)
    np.save(tmp_path / "x.npy", whole)
    source = SlicedArrays("toy", numpy_file.open_npy(tmp_path / "x.npy"))
    for rows in (np.arange(N), np.arange(0), np.array([N - 1]), np.array([0, 0, 7, 7, 8, 40]), draws.permutation(N)):
        read = read_rows(source, rows)["x"]
        np.testing.assert_array_equal(read, whole[rows])
        assert read.dtype == source.dtypes["x"]


@pytest.mark.parametrize("most", [1, 100, 1000, 10**6])
def test_blocks_cover_a_source_once(most: int) -> None:
    slices = list(block_slices(Blocks(), most_bytes=most))
    assert [row for block in slices for row in range(N)[block]] == list(range(N))


def test_batches_of_a_source_are_those_of_its_arrays() -> None:
    rows, at = StoredRows(Blocks(), RANGES[2]), StoredRows(Blocks(), RANGES[2]).locate(np.arange(31))
    named = arrays().rows(at)
    for own, like in zip(
        Batches(rows, ["x", "y"], 4).shuffled(3), Batches(named, ["x", "y"], 4).shuffled(3), strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(own, like, strict=True))
    for name, array in subset(rows, 9, seed=0).items():
        np.testing.assert_array_equal(array, subset(named, 9, seed=0)[name])


def test_of_several_that_begin_at_once_one_makes_the_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys.modules[survey.__module__], "KEPT_SECONDS", 0.0)
    np.save(tmp_path / "x.npy", arrays()["x"])
    source, reads, begin = numpy_file.open_npy(tmp_path / "x.npy"), [], Barrier(4)

    class Counted(SlicedArrays):
        def read(self, rows: slice) -> NamedArrays:
            reads.append(rows)
            time.sleep(0.05)
            return super().read(rows)

    def look(_: int) -> dict[str, ArraySurvey]:
        begin.wait()
        return dict(survey("toy", StoredRows(Counted("toy", source, [tmp_path / "x.npy"]))))

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(look, range(4)))
    assert len(reads) == 1
    assert all(one == seen[0] for one in seen)
    assert [path.suffix for path in (tmp_path / "cache" / "ppl_vae" / "surveys").iterdir()] == [".json"]
