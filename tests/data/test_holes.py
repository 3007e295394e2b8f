"""Data with missing numbers: their replacement, and files that have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppl_vae.data import fill_missing, load_arrays, load_dataset
from ppl_vae.errors import InputError

NAN = np.nan
Arrays = dict[str, np.ndarray]


def filled(*arrays: Any, missing: Arrays | None = None, like: Arrays | None = None, names: str = "x") -> Any:
    return fill_missing("vi", arrays, names.split(), missing or {}, like or {})


def raises(match: str, *arrays: Any, **options: Any) -> None:
    with pytest.raises(InputError, match=match) as error:
        filled(*arrays, **options)
    assert "\n" not in str(error.value)


def test_the_mean_of_a_column_is_the_mean_of_its_known_numbers() -> None:
    x = np.array([[1.0, NAN, 3.0], [NAN, 4.0, 5.0], [5.0, 8.0, 1.0]])
    arrays, holes = filled(x)
    assert arrays["x"].tolist() == [[1, 6, 3], [3, 4, 5], [5, 8, 1]]
    assert np.array_equal(holes["x"], np.isnan(x))
    assert np.isnan(x).sum() == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_keep_their_type(dtype: type) -> None:
    whole = np.arange(6, dtype=dtype).reshape(3, 2)
    part = np.where([[True, False]], whole, NAN).astype(dtype)
    assert filled(whole)[0]["x"].dtype == filled(part)[0]["x"].dtype == dtype
    assert np.array_equal(filled(whole)[0]["x"], whole)


@pytest.mark.parametrize("shape", [(4,), (4, 2, 3)])
def test_a_datum_may_be_a_number_or_an_image(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    first = (0,) * len(shape)
    mean = x[(slice(1, None), *first[1:])].mean()
    x[first] = NAN
    arrays, holes = filled(x)
    assert arrays["x"][first] == pytest.approx(mean)
    assert holes["x"].sum() == 1
    assert np.array_equal(arrays["x"][~holes["x"]], x[~holes["x"]])


def test_a_column_without_a_number_has_the_mean_of_other_data() -> None:
    x = np.array([[NAN, 1.0], [NAN, NAN]])
    arrays, _ = filled(x, like={"x": np.array([[2.0, 50.0], [4.0, 60.0]])})
    assert arrays["x"].tolist() == [[3, 1], [3, 1]]
    assert filled(np.array([[NAN, 1.0]]))[0]["x"].tolist() == [[0, 1]]


def test_a_mask_hides_numbers_in_addition_to_nan() -> None:
    x, mask = np.array([[1.0, NAN], [3.0, 4.0], [5.0, 6.0]]), np.array([[0, 0], [1, 0], [0, 0]])
    arrays, holes = filled(x, missing={"x": mask})
    assert holes["x"].tolist() == [[False, True], [True, False], [False, False]]
    assert arrays["x"].tolist() == [[1, 5], [3, 4], [5, 6]]


def test_whole_numbers_of_a_real_column_may_be_hidden() -> None:
    x, mask = np.array([[1, 2], [2, 5]]), np.array([[False, True], [False, False]])
    arrays, _ = filled(x, missing={"x": mask}, like={"x": np.ones((3, 2), np.float32)})
    assert arrays["x"].dtype == np.float64
    assert arrays["x"].tolist() == [[1, 5], [2, 5]]
    bits = filled(x > 1, missing={"x": mask}, like={"x": np.ones((3, 2), np.float32)})[0]["x"]
    assert bits.tolist() == [[0, 1], [1, 1]]


def test_every_array_has_its_holes() -> None:
    x, w, y = np.ones((3, 2)), np.array([1.0, NAN, 2.0]), np.array([0, 1, 2])
    arrays, holes = filled(x, w, y, names="x w y", like={"y": y})
    assert {name: array.tolist() for name, array in holes.items()} == {
        "x": 3 * [[False, False]],
        "w": [False, True, False],
        "y": 3 * [False],
    }
    assert arrays["w"].tolist() == [1, 1.5, 2]
    assert arrays["y"].dtype == y.dtype
    named = filled({"w": w, "x": x}, names="x w")
    assert named[0]["w"].tolist() == [1, 1.5, 2]


def test_nothing_is_missing_past_the_end_of_a_sequence() -> None:
    x, lengths = np.array([[1.0, NAN, NAN], [3.0, 4.0, 5.0]]), np.array([2, 3])
    arrays, holes = filled({"x": x, "lengths": lengths}, names="x lengths")
    assert holes["x"].tolist() == [[False, True, False], [False, False, False]]
    assert arrays["x"].tolist() == [[1, 4, 0], [3, 4, 5]]


def test_masks_that_do_not_fit_are_refused_in_one_line() -> None:
    x, y = np.ones((3, 2)), np.arange(3)
    raises("a mask of 'z', which the data do not have", x, missing={"z": x > 0})
    raises(r"the mask of 'x' has shape \(2,\): expected that of the array, \(3, 2\)", x, missing={"x": x[0] > 0})
    raises("a mask of 'y', which is whole numbers", x, y, names="x y", missing={"y": y > 1}, like={"x": x, "y": y})


# ---------------------------------------------------------------------------------------------- files


def written(folder: Path, text: str) -> Path:
    path = folder / "own.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("a,b,c\n1,,3\n,5,6\n", [[1, NAN, 3], [NAN, 5, 6]]),
        ("1,,3\n4,5, \n", [[1, NAN, 3], [4, 5, NAN]]),
        (",,\n4,5,6\n", [[NAN, NAN, NAN], [4, 5, 6]]),
        ('a,b\n"1",""\nnan,2\n', [[1, NAN], [NAN, 2]]),
        ("a,b\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1,\n", [[1, NAN]]),
        ('a\n1\n""\n3\n\n', [[1], [NAN], [3]]),  # as pandas writes it; an empty line is none of data
    ],
)
def test_an_empty_field_of_a_table_is_a_hole(tmp_path: Path, text: str, x: list[list[float]]) -> None:
    arrays = load_arrays(written(tmp_path, text))
    assert list(arrays) == ["x"]
    np.testing.assert_array_equal(arrays["x"], x)


def test_labels_stay_whole_numbers(tmp_path: Path) -> None:
    arrays = load_arrays(written(tmp_path, "a,y,b\n1,0,\n,1,6\n"))
    np.testing.assert_array_equal(arrays["x"], [[1, NAN], [NAN, 6]])
    assert arrays["y"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "hole"),
    [("a,b\n{}1,\n", (20, 1)), ("a,b\n\n{}1,NA\n", (20, 1)), ("1,?\n{}", (0, 1)), ("NA,2\n{}", (0, 0))],
)
def test_what_is_missing_in_a_table_is_a_hole_of_the_data(tmp_path: Path, text: str, hole: tuple[int, int]) -> None:
    rows = "".join(f"{i}.5,{i}\n" for i in range(20))
    data = load_dataset(written(tmp_path, text.format(rows)))
    x = np.concatenate([data.part(part)["x"] for part in ("train", "valid", "test")])
    assert np.isnan(x).sum() == 1
    assert np.isnan(x[:, hole[1]]).sum() == 1
    assert [column.missing for column in data.columns] == [int(hole[1] == 0), int(hole[1] == 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,four\n5,6\n", "line 3, column 'b': 'four' is not a number"),
        ("a,b\n1,\n3,four\n5,6\n7,8\n", "line 3, column 'b': 'four' is not a number"),  # and not the hole before it
        ("a,b\n1,\n3,4,5\n", "line 3 has 3 values, the first row 2"),
    ],
)
def test_the_place_of_a_field_without_a_number_is_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_arrays(written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_arrays_may_have_holes_in_any_case(tmp_path: Path) -> None:
    x = np.array([[1.0, NAN]])
    np.savez(tmp_path / "own.npz", x=x)
    np.save(tmp_path / "own.npy", x)
    for name in ("own.npz", "own.npy"):
        np.testing.assert_array_equal(load_arrays(tmp_path / name)["x"], x)
