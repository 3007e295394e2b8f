"""Counts of genes in cells: ``.h5ad`` files and AnnData objects, and arrays that stay sparse until a batch is made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from anndata import AnnData

from ppl_vae.data import (
    Batches,
    Dataset,
    StoredRows,
    StreamedBatches,
    check_precision,
    hold_out,
    load_arrays,
    load_dataset,
    name_arrays,
    subset,
)
from ppl_vae.data.kinds import Variable
from ppl_vae.data.sparse import SparseRows
from ppl_vae.data.stream import choose_batches
from ppl_vae.errors import InputError
from ppl_vae.runs.fingerprints import fingerprint_data
from tests.helpers.cells import simulated
from tests.helpers.messages import refusal

ARGUMENTS = "x,batch,exposure"


@pytest.fixture(scope="module")
def adata() -> AnnData:
    return simulated()


@pytest.fixture(scope="module")
def path(adata: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "own.h5ad"
    adata.write_h5ad(path)
    return path


def random_rows(density: float = 0.3, **options: Any) -> SparseRows:
    matrix = scipy.sparse.random_array((23, 6), density=density, rng=np.random.default_rng(0), **options)
    return SparseRows(matrix)


def texts(column: Variable, codes: np.ndarray) -> list[str]:
    return [column.categories[code] if code >= 0 else "?" for code in codes]


class TestFiles:
    @pytest.mark.parametrize("layer", ["counts", "by gene", "dense", None])
    def test_a_layer_is_x_and_columns_of_obs_are_conditions(self, adata: AnnData, path: Path, layer: str) -> None:
        arguments = ARGUMENTS if layer else "x,batch"
        data = load_dataset(path, layer=layer, arguments=arguments, obs="y=cell_type")
        matrix = adata.X if layer is None else adata.layers[layer]
        whole = matrix if layer == "dense" else matrix.toarray()
        parts = [data.part(part) for part in ("train", "valid", "test")]
        assert all(isinstance(part["x"], SparseRows) == (layer != "dense") for part in parts)
        assert sorted(map(tuple, np.concatenate([p["x"] for p in parts]).tolist())) == sorted(
            map(tuple, whole.tolist())
        )
        assert len(set(map(tuple, whole.tolist()))) == len(whole)
        for part in parts:
            rows = [int(np.flatnonzero((whole == row).all(1))[0]) for row in np.asarray(part["x"])]
            assert texts(data.arrays_columns["batch"][0], part["batch"]) == adata.obs["batch"].iloc[rows].tolist()
            kinds = ["?" if row == 3 else adata.obs["cell_type"].iloc[row] for row in rows]
            assert texts(data.arrays_columns["y"][0], part["y"]) == kinds
            if layer:
                np.testing.assert_array_equal(part["exposure"], np.asarray(part["x"]).sum(1))
        assert (data.columns[0].name, data.columns[0].kind) == ("gene 0", "count" if layer else "real")
        assert data.columns[2].high == whole[:, 2].max()
        assert any("donor, score" in note for note in data.notes)

    @pytest.mark.parametrize("layer", ["counts", "dense"])
    def test_a_large_matrix_stays_in_its_file(self, path: Path, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
        options = {"layer": layer, "arguments": ARGUMENTS, "obs": "y=cell_type"}
        held, whole = load_dataset(path, **options), load_arrays(path)
        monkeypatch.setattr("ppl_vae.data.cells.MOST_MATRIX_IN_MEMORY", 1)
        monkeypatch.setattr("ppl_vae.data.sparse_file.READ_BYTES", 200)
        stored = load_dataset(path, **options)
        assert stored.describe() == held.describe()
        assert [repr(column) for column in stored.columns] == [repr(column) for column in held.columns]
        for part in ("train", "valid", "test"):
            rows, arrays = stored.part(part), held.part(part)
            assert isinstance(rows, StoredRows)
            assert list(rows) == list(arrays)
            for name in rows:
                np.testing.assert_array_equal(rows[name][:], np.asarray(arrays[name]))
        batches = StreamedBatches(stored.train, ["x", "exposure"], 16, buffer_bytes=900)
        x = torch.cat([x for x, _ in batches.in_order()])
        np.testing.assert_array_equal(x, np.asarray(held.train["x"]))
        np.testing.assert_array_equal(np.asarray(load_arrays(path)["x"]), np.asarray(whole["x"]))

    def test_other_cells_have_the_categories_and_the_genes_of_the_fit(self, path: Path, adata: AnnData) -> None:
        data = load_dataset(path, layer="counts", arguments=ARGUMENTS)
        east = adata[adata.obs["batch"] == "east"].copy()[:, ::-1].copy()  # its categories are west no more
        east.write_h5ad(path.with_name("east.h5ad"))
        arrays = load_arrays(path.with_name("east.h5ad"), data)
        assert texts(data.arrays_columns["batch"][0], arrays["batch"]) == ["east"] * east.n_obs
        np.testing.assert_array_equal(np.asarray(arrays["x"]), east.layers["counts"].toarray()[:, ::-1])

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"layer": "count"}, "has no layer of that name; did you mean 'counts'"),
            (
                {"arguments": ARGUMENTS},
                "X has .* gene .*: counts are whole and not negative; take another layer, by gene",
            ),
            ({"obs": "batch=score"}, "column 'score' of obs is missing in 1 of 60 cells, the first cell 7"),
            ({"obs": "batch=cell type"}, "has no such column; did you mean 'cell_type'"),
            ({"obs": "batch"}, "expected ARGUMENT=COLUMN"),
            ({"delimiter": ","}, "is a file of cells"),
            ({"binarize": "threshold"}, "leave the option out"),
            ({"kinds": "score=count"}, "no column 'score' of obs that is an argument"),
        ],
    )
    def test_what_is_wrong_is_one_line(self, path: Path, options: dict[str, Any], what: str) -> None:
        with pytest.raises(InputError, match=what) as caught:
            load_dataset(path, **options)
        assert "\n" not in str(caught.value)

    def test_layer_and_obs_belong_to_h5ad(self, tmp_path: Path) -> None:
        (tmp_path / "own.csv").write_text("a,b\n1,2\n")
        assert "is no .h5ad file" in refusal(lambda: load_dataset(tmp_path / "own.csv", layer="counts"))

    def test_a_file_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "own.h5ad").write_text("no HDF5")
        assert "is broken, or no .h5ad file" in refusal(lambda: load_dataset(tmp_path / "own.h5ad"))

    def test_without_anndata_the_extra_is_named(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "anndata", None)
        assert "pip install 'ppl-vae[cells]'" in refusal(lambda: load_dataset(path))


class TestObjects:
    def test_an_object_gives_the_arrays_that_a_model_names(self, adata: AnnData) -> None:
        own = adata.copy()
        own.X = own.layers["counts"]
        arrays = name_arrays("VAE", "fit", [own], ["x", "batch", "exposure"])
        assert isinstance(arrays["x"], SparseRows)
        assert texts(arrays.columns["batch"][0], arrays["batch"]) == own.obs["batch"].tolist()
        np.testing.assert_array_equal(arrays["exposure"], own.X.toarray().sum(1))
        data = Dataset("own", train=own, valid=own[:9], test=own[9:])
        assert data.describe() == "own: 60 train, 9 valid, 51 test; x 5"

    def test_the_categories_of_the_fit_hold_for_later_objects(self, adata: AnnData) -> None:
        fitted = name_arrays("VAE", "fit", [adata], ["x", "batch"])
        west = adata[adata.obs["batch"] == "west"].copy()  # its categories are east no more
        later = name_arrays("VAE", "score", [west], ["x", "batch"], fitted.columns)
        assert texts(fitted.columns["batch"][0], later["batch"]) == ["west"] * west.n_obs

    @pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, np.asarray])
    @pytest.mark.parametrize("value", [-1.0, 0.5])
    def test_a_count_is_whole_and_not_negative(self, adata: AnnData, value: float, make: Callable[..., Any]) -> None:
        own = adata.copy()
        own.X = own.layers["dense"].astype(float)
        own.X[3, 2] = value
        own.X = make(own.X)
        message = refusal(lambda: name_arrays("VAE", "fit", [own], ["x", "exposure"]))
        assert f"X has {value} in cell cell 3, gene 'gene 2'" in message

    def test_an_empty_cell_has_no_exposure(self, adata: AnnData) -> None:
        own = adata.copy()
        own.X = own.layers["dense"] * (np.arange(60) != 5)[:, None]
        assert "1 of 60 cells have no counts, the first cell 5" in refusal(
            lambda: name_arrays("VAE", "fit", [own], ["x", "exposure"])
        )

    def test_genes_have_names_of_their_own(self, adata: AnnData) -> None:
        own = adata.copy()
        own.var_names = ["a", "b", "a", "c", "d"]
        assert "two genes are called 'a'" in refusal(lambda: name_arrays("VAE", "fit", [own], ["x"]))


class TestSparseRows:
    def test_batches_are_those_of_the_dense_array(self) -> None:
        sparse, y = random_rows(), np.arange(23)
        dense = np.asarray(sparse)
        options: dict[str, Any] = {"names": ["x", "y"], "batch_size": 5, "dtype": torch.float64}
        ours, theirs = Batches({"x": sparse, "y": y}, **options), Batches({"x": dense, "y": y}, **options)
        for a, b in zip([*ours.shuffled(1), *ours.in_order()], [*theirs.shuffled(1), *theirs.in_order()], strict=True):
            assert torch.equal(a[0], b[0])
            assert torch.equal(a[1], b[1])
        assert ours._tensors[0]._values.numel() == sparse.csr.nnz

    def test_rows_are_selected_as_from_an_array_and_stay_sparse(self) -> None:
        sparse = random_rows()
        dense, rows = np.asarray(sparse), np.array([7, 0, 7])
        for at in (rows, rows.tolist(), slice(3, 9), dense[:, 0] > 0):
            assert isinstance(sparse[at], SparseRows)
            np.testing.assert_array_equal(np.asarray(sparse[at]), dense[at])
        np.testing.assert_array_equal(sparse[4], dense[4])
        np.testing.assert_array_equal(np.asarray(sparse[:, [5, 2]]), dense[:, [5, 2]])
        np.testing.assert_array_equal(sparse[:, None], dense[:, None])
        for chosen in (hold_out({"x": sparse}, 0.2, 0)[0], subset({"x": sparse}, 9, 0)):
            assert isinstance(chosen["x"], SparseRows)
        assert fingerprint_data({"train": {"x": sparse}}) == fingerprint_data({"train": {"x": dense}})

    def test_numbers_that_are_listed_twice_are_added_in_a_copy(self) -> None:
        twice = scipy.sparse.csr_array((np.array([1, 2, 4]), np.array([1, 1, 0]), np.array([0, 3])), shape=(1, 2))
        assert np.asarray(SparseRows(twice)).tolist() == [[4, 3]]
        assert twice.nnz == 3

    def test_what_fits_in_memory_is_what_is_kept(self) -> None:
        sparse = SparseRows(scipy.sparse.eye_array(2000, 3000, dtype=np.float32, format="csr"))
        assert type(choose_batches({"x": sparse}, ["x"], 8, memory="1MiB")) is Batches

    def test_counts_take_half_of_the_memory_of_double_precision(self) -> None:
        counts = scipy.sparse.eye_array(3, dtype=np.float64, format="csr")
        assert SparseRows(counts).dtype == np.float32
        assert SparseRows(counts * 0.1).dtype == np.float64

    @pytest.mark.parametrize(
        ("value", "what"),
        [(np.nan, "has nan in row 22"), (np.inf, "has inf in row 22"), (2**24 + 1, "column 3 has 16777")],
    )
    def test_a_bad_number_is_found_at_its_place(self, value: float, what: str) -> None:
        dense = np.ceil(np.asarray(random_rows()))
        dense[22, 3] = value

        def use() -> None:
            arrays = name_arrays("VAE", "fit", [scipy.sparse.csr_array(dense)], ["x"])
            check_precision(arrays, ["x"], torch.float32)

        assert what in refusal(use)

    def test_whole_numbers_that_the_precision_cannot_hold_are_named(self) -> None:
        counts = scipy.sparse.csr_array(np.array([[0, 1], [0, 2**24 + 1]]))
        message = refusal(lambda: Batches({"x": SparseRows(counts)}, ["x"], 2))
        assert "array 'x', column 1 has the whole number 16777217" in message
