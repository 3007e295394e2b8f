"""Data in the forms in which people have them in Python: read with every value, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse  # type: ignore[import-untyped]
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset, SubsetRandomSampler, TensorDataset

from ppl_vae.data import name_arrays
from ppl_vae.data.frames import match_columns, read_frame
from ppl_vae.data.given import as_named
from ppl_vae.data.kinds import Variable
from tests.helpers.messages import refusal

X = np.random.default_rng(0).normal(size=(6, 3))
FRAME = pd.DataFrame(X, columns=list("abc"))


class Pairs(Dataset[Any]):
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


FORMS: dict[str, Any] = {
    "list": X.tolist(),
    "list of tensors": list(torch.tensor(X)),
    "tensor with a gradient": torch.tensor(X, requires_grad=True),
    "sparse tensor": torch.tensor(X).to_sparse(),
    "sparse matrix": scipy.sparse.csr_matrix(X),
    "sparse array": scipy.sparse.coo_array(X),
    "matrix": np.asmatrix(X),
    "masked without a mask": np.ma.masked_array(X),
    "big-endian": X.astype(">f8"),
    "structured": FRAME.to_records(index=False),
    "pandas": FRAME,
    "pandas nullable": FRAME.convert_dtypes(),
    "pandas objects": FRAME.astype(object),
    "pandas with names of numbers": pd.DataFrame(X),
    "polars": pl.from_pandas(FRAME),
    "polars lazy": pl.from_pandas(FRAME).lazy(),
    "pyarrow": pa.Table.from_pandas(FRAME),
    "data set": TensorDataset(torch.tensor(X)),
    "part of a data set": Subset(TensorDataset(torch.tensor(np.repeat(X, 2, 0))), list(range(0, 12, 2))),
    "loader": DataLoader(TensorDataset(torch.tensor(X)), batch_size=4, shuffle=True, drop_last=True),
    "data set of arrays": Pairs(list(X)),
    "data set of mappings": Pairs([{"x": row} for row in X]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_numbers(form: str) -> None:
    arrays = name_arrays("vi", "fit", [FORMS[form]], ["x", "y"])
    assert list(arrays) == ["x"]
    assert arrays["x"].dtype == np.float64
    assert arrays["x"].dtype.isnative
    assert np.array_equal(arrays["x"], X)
    named = [column.name for column in arrays.columns.get("x", ())]
    assert named in ([], ["a", "b", "c"], ["0", "1", "2"])
    assert bool(named) == any(word in form for word in ("pandas", "polars", "pyarrow", "structured"))


@pytest.mark.parametrize("make", [pd.Series, pl.Series, pa.chunked_array], ids=["pandas", "polars", "pyarrow"])
def test_columns_by_themselves(make: Any) -> None:
    words = ["v", "u", "v"]
    labels, numbers = (
        make(values) if make is not pa.chunked_array else make([values]) for values in (words, [1, None, 3])
    )
    arrays = name_arrays("vi", "fit", [np.ones((3, 2)), labels], ["x", "y"])
    assert arrays["y"].tolist() == [1, 0, 1]
    assert arrays.columns["y"][0].categories == ("u", "v")
    assert np.array_equal(as_named("fit", [numbers], ["x"])["x"], [1, np.nan, 3], equal_nan=True)
    assert "column 'x' contains text" in refusal(as_named, "fit", [labels], ["x"])


def test_low_precisions_and_bits() -> None:
    values = torch.tensor([[0.5, 2.0]])
    for tensor in (values.bfloat16(), values.half(), values.float()):
        assert as_named("fit", [tensor], ["x"])["x"].tolist() == [[0.5, 2.0]]
    assert name_arrays("vi", "fit", [torch.ones(2, 2, dtype=torch.bool)], ["x"])["x"].dtype == bool


def test_what_is_masked_is_missing() -> None:
    masked = np.ma.masked_greater(np.array([[1, 2], [3, 9]]), 5)
    assert np.array_equal(as_named("fit", [masked], ["x"])["x"], [[1, 2], [3, np.nan]], equal_nan=True)
    assert np.array_equal(np.isnan(name_arrays("vi", "fit", [masked], ["x"])["x"]), masked.mask)
    records = np.ma.masked_array([(1, 2.0), (3, 4.0)], [(False, True), (False, False)], [("a", int), ("b", float)])
    assert np.array_equal(as_named("fit", [records], ["x"])["x"], [[1, np.nan], [3, 4]], equal_nan=True)


def test_mixed_columns_keep_every_value() -> None:
    big = 2**53 + 1
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], "Int64"),
            "flag": [True, False, True],
            "code": pd.Categorical(["u", "v", "u"], ["v", "u"], ordered=True),
            "real": [0.5, 1.5, np.nan],
            "large": [big, 0, 1],
        }
    )
    table = read_frame(frame)
    assert [column.kind for column in table.columns] == ["count", "binary", "ordinal", "positive", "count"]
    assert [column.missing for column in table.columns] == [1, 0, 0, 1, 0]
    assert table.columns[2].categories == ("v", "u")
    assert table.values[2].tolist() == [1, 0, 1]
    assert table.values[4].tolist()[0] == big
    arrays = table.arrays(["large", "x"])
    assert arrays["large"].tolist()[0] == big
    assert "column 'large' has whole numbers above 2^53" in refusal(table.arrays, ["x"])
    for other in (pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        assert [column.kind for column in read_frame(other).columns][:2] == ["count", "binary"]


def test_a_table_gives_every_argument_its_column() -> None:
    frame = FRAME.assign(batch=["p", "q", "p", "q", "p", "q"], y=[0, 1, 2, 0, 1, 2])
    arrays = name_arrays("vi", "fit", [frame], ["x", "batch", "y"])
    assert arrays["batch"].tolist() == [0, 1, 0, 1, 0, 1]
    assert arrays["y"].tolist() == [0, 1, 2, 0, 1, 2]
    assert np.array_equal(arrays["x"], X)
    assert arrays.columns["batch"][0].categories == ("p", "q")
    assert arrays.rows(slice(2)).columns == arrays.columns


def test_labels_of_a_frame_are_a_part_of_x_unless_the_model_takes_them() -> None:
    frame = FRAME.assign(y=np.arange(6))
    for given, arguments, width in [([frame], ["x"], 4), ([frame], ["x", "y"], 3), ([{"x": frame}], ["x", "y"], 4)]:
        arrays = as_named("fit", given, arguments)
        assert arrays["x"].shape == (6, width)
        assert ("y" in arrays) == (width == 3)


@pytest.mark.parametrize(
    ("column", "fact"),
    [
        (["q"] * 6, "column 'b' contains text (q, ...)"),
        ([f"text {i}" for i in range(6)], "column 'b' is free text, 6 different values such as 'text 0'"),
        (pd.date_range("2020", periods=6), "column 'b' has dates or times"),
        (pd.to_timedelta(range(6), "D"), "column 'b' has dates or times"),
        ([1 + 2j] * 6, "column 'b' has values of type complex128"),
        ([{}, 1, 2, 3, 4, 5], "column 'b' has '{}' (dict) in fit: row 0"),
        ([1, "two", 3, 4, 5, 6], "column 'b' has 'two' (str) in fit: row 1"),
    ],
)
def test_columns_that_are_no_numbers_are_refused_by_name(column: Any, fact: str) -> None:
    assert fact in refusal(name_arrays, "vi", "fit", [FRAME.assign(b=column)], ["x"])


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ((row for row in X), "array 'x' is a generator"),
        ([[1.0, 2.0], [3.0]], "array 'x' is no array of numbers"),
        (DataLoader(TensorDataset(torch.tensor(X)), sampler=SubsetRandomSampler([0, 2])), "SubsetRandomSampler"),
        (DataLoader(TensorDataset(torch.tensor(X)), sampler=RandomSampler(X, num_samples=2)), "chooses among its rows"),
        (DataLoader(TensorDataset(torch.tensor(X)), collate_fn=lambda rows: rows[0]), "collate_fn"),
        (Pairs([]), "the Pairs is empty"),
        (Pairs([(np.ones(2),), (np.ones(3),)]), "differ in shape"),
        (X + 1j, "dtype complex128"),
        (FRAME.set_axis(list("aba"), axis=1), "'a' 2 times"),
    ],
)
def test_what_is_no_array_is_refused(given: Any, fact: str) -> None:
    assert fact in refusal(name_arrays, "vi", "fit", [given], ["x", "y"])


def test_columns_are_matched_by_name() -> None:
    fitted = {"x": [Variable(name, None) for name in FRAME]}
    moved = as_named("score", [FRAME[list("cab")]], ["x"])
    assert np.array_equal(match_columns(moved, fitted, "score")["x"], X)
    assert "lack the column 'b' of the fit" in refusal(
        match_columns, as_named("s", [FRAME[["a", "c"]]], ["x"]), fitted, "s"
    )
    more = as_named("s", [FRAME.assign(d=1.0)], ["x"])
    assert "the column 'd' was not in the fit" in refusal(match_columns, more, fitted, "s")


def test_bits_keep_their_values_even_if_all_are_one() -> None:
    table = read_frame({"a": np.ones(3), "b": np.array([0, 1, 1]), "c": np.array([np.nan, 1.0, 1.0])})
    assert [values.tolist() for values in table.values][:2] == [[1, 1, 1], [0, 1, 1]]
    assert table.values[2][1:].tolist() == [1, 1]
    assert read_frame({"a": np.ones(3)}, kinds={"a": "binary"}).values[0].tolist() == [1, 1, 1]
    column = read_frame({"a": np.array([2, 5, 2])}, kinds={"a": "categorical"})
    assert (column.columns[0].categories, column.values[0].tolist()) == ((2, 5), [0, 1, 0])
