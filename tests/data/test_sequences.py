from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ppl_vae.data import Dataset, load_dataset, name_arrays
from ppl_vae.data.sequences import cut_sequences
from ppl_vae.data.split import PARTS
from ppl_vae.errors import InputError

CHORALES = Path(__file__).parents[2].parent / "shared" / "data" / "jsb_chorales.npz"
STEPS = {"train": 4, "valid": 6, "test": 3}
LENGTHS = {"train": [4, 1, 3, 2], "valid": [6, 2, 5], "test": [1, 3]}
"""Lengths of the sequences; the first one of test and all but one of valid are shorter than their arrays."""


def arrays_of(past: float = 7.0, dtype: type = float) -> dict[str, np.ndarray]:
    """Return sequences of ones, with another number past their ends."""
    arrays = {}
    for part in PARTS:
        lengths = np.array(LENGTHS[part])
        inside = np.arange(STEPS[part]) < lengths[:, None]
        arrays[f"x_{part}"] = np.repeat(np.where(inside, 1, past)[..., None], 2, axis=-1).astype(dtype)
        arrays[f"lengths_{part}"] = lengths
    return arrays


def saved(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


@pytest.mark.parametrize("past", [0.0, 7.0, -3.5, np.nan, np.inf])
def test_parts_are_padded_with_zeros_to_the_longest(tmp_path: Path, past: float) -> None:
    data = load_dataset(saved(tmp_path, arrays_of(past)))
    for part in PARTS:
        x, lengths = data.part(part)["x"], data.part(part)["lengths"]
        assert x.shape == (len(LENGTHS[part]), 6, 2)
        assert (x.dtype, lengths.dtype) == (np.float64, np.int64)
        assert lengths.tolist() == LENGTHS[part]
        for sequence, length in zip(x, lengths, strict=True):
            assert (sequence[:length] == 1).all()
            assert (sequence[length:] == 0).all()


def test_sequences_are_not_images(tmp_path: Path) -> None:
    arrays = arrays_of()
    assert load_dataset(saved(tmp_path, arrays)).image_shape is None
    assert load_dataset(saved(tmp_path, arrays), image_shape=(6, 2)).image_shape == (6, 2)


def test_one_part_is_split_with_its_lengths(tmp_path: Path) -> None:
    lengths = np.arange(20) % 5 + 1
    x = np.where(np.arange(5) < lengths[:, None], lengths[:, None], np.nan)
    data = load_dataset(saved(tmp_path, {"x": x, "lengths": lengths}))
    for part in PARTS:
        assert np.array_equal(data.part(part)["x"].sum(1), data.part(part)["lengths"] ** 2)


def test_bytes_past_the_end_do_not_scale_the_others(tmp_path: Path) -> None:
    """With a byte above 1 they would be grey values up to 255."""
    data = load_dataset(saved(tmp_path, arrays_of(200, np.uint8)), binarize="threshold")
    assert data.train["x"].sum() == 2 * sum(LENGTHS["train"])


def test_real_numbers_past_the_end_need_not_be_probabilities(tmp_path: Path) -> None:
    data = load_dataset(saved(tmp_path, arrays_of(7.5)), binarize="static")
    assert data.test["x"].sum() == 2 * sum(LENGTHS["test"])


def test_a_data_set_made_by_hand() -> None:
    parts = {part: {"x": np.full((2, 3), np.nan), "lengths": np.array([1, 2])} for part in PARTS}
    for part in PARTS:
        parts[part]["x"][:, :1] = parts[part]["x"][1:, :2] = 1
    given = parts["train"]["x"].copy()
    data = Dataset("toy", **parts)
    assert data.valid["x"].tolist() == [[1, 0, 0], [1, 1, 0]]
    assert np.array_equal(parts["train"]["x"], given, equal_nan=True)  # not written to


def test_arrays_of_a_call() -> None:
    named = name_arrays("Program", "fit", [[[1.0, np.nan], [1.0, 2.0]], [1, 2]], ["x", "lengths"])
    assert named["x"].tolist() == [[1, 0], [1, 2]]
    with pytest.raises(InputError, match=r"'lengths' of fit has 3 in row 1, and x has 2 steps"):
        name_arrays("Program", "fit", [[[1.0, 0.0], [1.0, 2.0]], [1, 3]], ["x", "lengths"])


def test_nan_and_infinity_within_a_sequence(tmp_path: Path) -> None:
    arrays = arrays_of()
    arrays["x_valid"][2, 4] = np.nan
    assert np.isnan(load_dataset(saved(tmp_path, arrays)).valid["x"][2, 4]).all()
    arrays["x_valid"][2, 4] = np.inf
    with pytest.raises(InputError, match="'x' of valid has inf in row 2"):
        load_dataset(saved(tmp_path, arrays))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lengths_test": np.array([1, 0])}, ["'lengths' of test has 0 in row 1, and x has 3 steps", "from 1 to 3"]),
        ({"lengths_test": np.array([1, 4])}, ["has 4 in row 1", "remove the row"]),
        ({"lengths_train": np.array([-1, 5, 9, 9])}, ["'lengths' of train has -1 in row 0"]),
        ({"lengths_test": np.array([1.0, 2.0])}, ["dtype float64", "one whole number for each row of x", "rename"]),
        ({"lengths_test": np.array([[1], [2]])}, ["shape (2, 1)", "shape (2,)"]),
        ({"lengths_valid": np.array([1, 2])}, ["'lengths' of valid has shape (2,)", "shape (3,)"]),
        ({"x_train": np.ones(4)}, ["a datum of x is one number", "(N, T, ...)"]),
        ({"x_train": np.ones((4, 4, 3))}, ["shape (6, 3) in train and (6, 2) in valid"]),
        ({"lengths_test": None}, ["'lengths' is in train but not in test"]),
    ],
)
def test_faults_are_reported_in_one_line(tmp_path: Path, change: dict[str, np.ndarray | None], said: list[str]) -> None:
    arrays = {name: array for name, array in (arrays_of() | change).items() if array is not None}
    with pytest.raises(InputError) as caught:
        load_dataset(saved(tmp_path, arrays))
    assert "\n" not in str(caught.value)
    assert [part for part in ["own.npz", *said] if part not in str(caught.value)] == []


def test_parts_of_unequal_length_without_lengths_are_refused(tmp_path: Path) -> None:
    arrays = {name: array for name, array in arrays_of().items() if name.startswith("x")}
    with pytest.raises(InputError, match=r"\(4, 2\) in train and \(6, 2\) in valid: pad or cut"):
        load_dataset(saved(tmp_path, arrays))


def test_chorales() -> None:
    if not CHORALES.exists():
        pytest.skip(f"needs {CHORALES.name}")
    data = load_dataset(CHORALES)
    assert data.describe() == "jsb_chorales.npz: 229 train, 76 valid, 77 test; x 160x88, lengths"
    notes = [int(torch.from_numpy(data.part(part)["x"]).sum()) for part in PARTS]
    assert notes == [53824, 17811, 18367]  # as in the file, whose padding is zeros
    assert data.image_shape is None


@pytest.mark.parametrize("longest", [1, 4, 7, 50])
def test_pieces_of_sequences_are_the_sequences(longest: int) -> None:
    """One behind the other; the lengths of the pieces of a sequence differ by one step at most."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, size=20)
    within = np.arange(30) < lengths[:, None]
    x, y = np.where(within[..., None], rng.normal(size=(20, 30, 2)), 0.0), np.arange(20)
    pieces = cut_sequences("toy", {"x": x, "lengths": lengths, "y": y}, longest)
    assert pieces["x"].shape[1:] == x.shape[1:]
    for row in y:
        own = pieces["y"] == row
        steps = pieces["lengths"][own]
        assert len(steps) == math.ceil(lengths[row] / longest)
        assert steps.max() <= min(longest, steps.min() + 1)
        whole = np.concatenate([piece[:end] for piece, end in zip(pieces["x"][own], steps, strict=True)])
        np.testing.assert_array_equal(whole, x[row, : lengths[row]])
        assert not any(piece[end:].any() for piece, end in zip(pieces["x"][own], steps, strict=True))


def test_only_training_sequences_are_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 6), ("valid", 3), ("test", 2)):
        arrays |= {f"x_{part}": rng.integers(0, 2, size=(n, 9, 2)), f"lengths_{part}": np.full(n, 9)}
    np.savez(tmp_path / "tunes.npz", **arrays)
    data = load_dataset(tmp_path / "tunes.npz", cut_sequences=4)
    assert data.train["lengths"].tolist() == 18 * [3]
    assert data.test["lengths"].tolist() == [9, 9]
    assert data.notes == ("train: 6 sequences cut into 18 pieces of at most 4 steps",)
    with pytest.raises(InputError, match="cut_sequences is 0: expected a number of steps"):
        load_dataset(tmp_path / "tunes.npz", cut_sequences=0)
    with pytest.raises(InputError, match="digits has no sequences"):
        load_dataset("digits", cut_sequences=4)
