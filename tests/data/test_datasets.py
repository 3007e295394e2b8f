from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppl_vae.data import DATASETS, Dataset, as_images, load_dataset
from ppl_vae.data.images import infer_image_shape
from ppl_vae.data.split import PARTS, generator, split_rows
from ppl_vae.errors import InputError
from tests.helpers.messages import refusal

PARTS_OF_TOY = {"train": 6, "valid": 4, "test": 5}


def toy_parts() -> dict[str, dict[str, np.ndarray]]:
    return {
        part: {"x": np.full((n, 3), 0.5, dtype=np.float32), "y": np.arange(n) % 4} for part, n in PARTS_OF_TOY.items()
    }


def toy_of(parts: dict[str, dict[str, np.ndarray]], image_shape: tuple[int, ...] | None = None) -> Dataset:
    return Dataset("toy", parts["train"], parts["valid"], parts["test"], image_shape=image_shape)


def test_a_sound_data_set_is_accepted() -> None:
    data = toy_of(toy_parts(), image_shape=(1, 3))
    assert data.describe() == "toy: 6 train, 4 valid, 5 test; x 3, y"
    assert all(data.part(part) is getattr(data, part) for part in PARTS)


def test_describe_has_every_shape() -> None:
    parts = {part: {"x": np.zeros((2, 4, 5)), "length": np.ones(2, dtype=int)} for part in PARTS}
    assert toy_of(parts).describe() == "toy: 2 train, 2 valid, 2 test; x 4x5, length"


def test_unknown_part_has_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"'vaild'.*did you mean 'valid'"):
        toy_of(toy_parts()).part("vaild")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_first_row_of_infinity_is_named(part: str, bad: float) -> None:
    parts = toy_parts()
    parts[part]["x"][2, 1] = bad
    parts[part]["x"][[1, 3], 0] = np.nan, np.inf
    assert f"toy: array 'x' of {part} has {bad} in row 2:" in refusal(toy_of, parts)


def test_infinity_in_another_array_is_found() -> None:
    parts = toy_parts()
    for arrays in parts.values():
        arrays["weight"] = np.ones(len(arrays["x"]))
    parts["test"]["weight"][4] = np.inf
    assert "array 'weight' of test has inf in row 4" in refusal(toy_of, parts)


def test_empty_part() -> None:
    parts = toy_parts()
    parts["valid"] = {name: values[:0] for name, values in parts["valid"].items()}
    assert "array 'x' of valid is empty" in refusal(toy_of, parts)


def test_part_without_arrays() -> None:
    assert "test holds no arrays" in refusal(toy_of, {**toy_parts(), "test": {}})


def test_arrays_of_unequal_length() -> None:
    parts = toy_parts()
    parts["train"]["y"] = parts["train"]["y"][:-1]
    assert "in train, 'x' has 6 rows and 'y' has 5" in refusal(toy_of, parts)


def test_shapes_that_differ_between_parts() -> None:
    parts = toy_parts()
    parts["test"]["x"] = np.zeros((5, 7))
    assert "'x' has shape (3,) in train and (7,) in test" in refusal(toy_of, parts)


@pytest.mark.parametrize("part", PARTS)
def test_negative_label(part: str) -> None:
    parts = toy_parts()
    parts[part]["y"][[1, 3]] = -2
    assert f"label out of range: 'y' of {part} has -2 in row 1" in refusal(toy_of, parts)


def test_an_unknown_label_is_minus_one() -> None:
    """This follows scikit-learn; the largest label of train is the largest known one."""
    parts = toy_parts()
    parts["train"]["y"][[0, 2]] = parts["test"]["y"][:] = -1
    assert toy_of(parts).train["y"][0] == -1


@pytest.mark.parametrize("part", ["valid", "test"])
def test_label_beyond_those_of_train(part: str) -> None:
    parts = toy_parts()
    parts[part]["y"][2] = 4
    message = refusal(toy_of, parts)
    assert f"label out of range: 'y' of {part} has 4 in row 2" in message
    assert "largest in train is 3" in message


def test_targets_that_are_not_labels_may_have_any_range() -> None:
    parts = toy_parts()
    for part, arrays in parts.items():
        arrays["y"] = np.full(len(arrays["x"]), -1.5 if part == "train" else 99.0)
    assert toy_of(parts).test["y"].max() == 99.0


@pytest.mark.parametrize("values", [np.array([None] * 6), np.array(["a"] * 6), np.zeros(6, dtype=complex)])
def test_a_dtype_without_numbers(values: np.ndarray) -> None:
    parts = toy_parts()
    parts["train"]["extra"] = values
    message = refusal(toy_of, parts)
    assert "array 'extra' of train" in message
    assert str(values.dtype) in message


def test_a_list_is_not_an_array() -> None:
    parts = toy_parts()
    parts["train"]["y"] = [0] * 6  # type: ignore[assignment]
    assert "array 'y' of train is a list" in refusal(toy_of, parts)


def test_array_missing_in_one_part() -> None:
    parts = toy_parts()
    del parts["test"]["y"]
    assert "array 'y' is in train but not in test" in refusal(toy_of, parts)
    parts = toy_parts()
    del parts["train"]["y"]
    assert "array 'y' is in valid but not in train" in refusal(toy_of, parts)


@pytest.mark.parametrize("num_rows", [10, 11, 19, 1797])
@pytest.mark.parametrize("shares", [(70, 10, 20), (80, 10, 10), (90, 10), (5, 1)])
def test_split_is_disjoint_and_covers(num_rows: int, shares: tuple[int, ...]) -> None:
    rows = split_rows(num_rows, shares, seed=3, where="toy")
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(num_rows))
    wanted = [num_rows * share / sum(shares) for share in shares]
    assert all(abs(len(at) - size) < 1 for at, size in zip(rows, wanted, strict=True))
    assert min(map(len, rows)) > 0
    again = split_rows(num_rows, shares, seed=3, where="toy")
    assert all(np.array_equal(a, b) for a, b in zip(rows, again, strict=True))


def test_too_few_rows_to_split() -> None:
    assert "toy: 9 rows are too few" in refusal(split_rows, 9, (80, 10, 10), seed=0, where="toy")


def test_each_purpose_has_its_own_random_stream() -> None:
    draws = [generator(7, stream).random() for stream in range(5)]
    assert len({*draws, np.random.default_rng(7).random()}) == 6


def test_digits() -> None:
    data = load_dataset("digits", binarize="none", seed=0)
    assert data.describe() == "digits: 1257 train, 180 valid, 360 test; x 64, y"
    assert data.image_shape == (8, 8)
    x = np.concatenate([data.part(part)["x"] for part in PARTS])
    y = np.concatenate([data.part(part)["y"] for part in PARTS])
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert (x.min(), x.max()) == (0, 1)
    # Every datum of scikit-learn's set once, with its own label.
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    want = load_digits(return_X_y=True)
    rows = {(*(16 * row).astype(int), label) for row, label in zip(x, y, strict=True)}
    assert rows == {(*row.astype(int), label) for row, label in zip(*want, strict=True)}


def test_digits_are_bits_at_half_range_by_default() -> None:
    grey, bits = load_dataset("digits", binarize="none"), load_dataset()
    assert bits.binarize == "threshold"
    for part in PARTS:
        assert np.array_equal(bits.part(part)["x"], grey.part(part)["x"] >= 0.5)
        assert np.array_equal(bits.part(part)["y"], grey.part(part)["y"])


def test_the_seed_decides_the_split() -> None:
    first, again, other = (load_dataset("digits", seed=seed).train["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("name", "facts"),
    [("mnits", ["'mnits'", "did you mean 'mnist'"]), ("MNIST", ["did you mean 'mnist'"]), ("", ["known"])],
)
def test_unknown_name(name: str, facts: list[str]) -> None:
    message = refusal(load_dataset, name)
    assert all(fact in message for fact in [*facts, *DATASETS, ".npz"])


def test_unknown_binarize_and_seed() -> None:
    message = refusal(load_dataset, "digits", binarize="treshold")
    assert "unknown binarize 'treshold': did you mean 'threshold'" in message
    with pytest.raises(InputError, match="seed is -1"):
        load_dataset("digits", seed=-1)


@pytest.mark.parametrize(
    ("datum_shape", "image_shape"),
    [
        ((28, 20), (28, 20)),
        ((1, 28, 20), (28, 20)),
        ((28, 20, 1), (28, 20)),
        ((3, 28, 20), (28, 20, 3)),
        ((28, 20, 3), (28, 20, 3)),
        ((784,), None),
        ((), None),
        ((2, 28, 28), None),
        ((3, 3, 8, 8), None),
    ],
)
def test_image_shape_is_inferred(datum_shape: tuple[int, ...], image_shape: tuple[int, ...] | None) -> None:
    assert infer_image_shape(datum_shape) == image_shape


def test_images_have_their_channels_last() -> None:
    image = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    for stored in (image, np.moveaxis(image, -1, 1), image.reshape(2, -1)):
        assert np.array_equal(as_images(stored, (4, 5, 3)), image)
    assert np.array_equal(as_images(image[:, None, ..., 0], (4, 5)), image[..., 0])


def save_x(folder: Path, x: np.ndarray) -> Path:
    path = folder / "x.npy"
    np.save(path, x)
    return path


def test_a_given_image_shape(tmp_path: Path) -> None:
    path = save_x(tmp_path, np.zeros((20, 24)))
    assert load_dataset(path).image_shape is None
    assert load_dataset(path, image_shape=(4, 6)).image_shape == (4, 6)
    assert load_dataset(path, image_shape=[2, 4, 3]).image_shape == (2, 4, 3)
    assert load_dataset(path, image_shape=(1, 4, 6)).image_shape == (4, 6)
    path = save_x(tmp_path, np.zeros((20, 3, 2, 4)))
    assert load_dataset(path).image_shape == (2, 4, 3)
    assert load_dataset(path, image_shape=(3, 2, 4)).image_shape == (2, 4, 3)


def test_a_stored_image_is_not_another_one(tmp_path: Path) -> None:
    path = save_x(tmp_path, np.zeros((20, 4, 6)))
    assert load_dataset(path, image_shape=(4, 6)).image_shape == (4, 6)
    for wrong in ((6, 4), (8, 3), (2, 4, 3)):
        assert "are other images" in refusal(load_dataset, path, image_shape=wrong)
    path = save_x(tmp_path, np.zeros((20, 4, 6, 3)))
    assert load_dataset(path, image_shape=(4, 6, 3)).image_shape == (4, 6, 3)
    assert "are other images" in refusal(load_dataset, path, image_shape=(6, 4, 3))


def test_the_data_set_knows_if_high_values_are_ink_or_light(tmp_path: Path) -> None:
    path = save_x(tmp_path, np.zeros((20, 24)))
    assert (load_dataset("digits").grey, load_dataset(path).grey) == ("ink", "light")
    assert (load_dataset("digits", grey="light").grey, load_dataset(path, grey="ink").grey) == ("light", "ink")
    assert "grey='dark' is unknown" in refusal(load_dataset, "digits", grey="dark")


@pytest.mark.parametrize(
    ("image_shape", "fact"),
    [((5, 5), "25 values and a datum of x has 24"), ((24,), "expected"), ((3, 2, 4), "channel-first")],
)
def test_wrong_image_shape(tmp_path: Path, image_shape: tuple[int, ...], fact: str) -> None:
    message = refusal(load_dataset, save_x(tmp_path, np.zeros((20, 24))), image_shape=image_shape)
    assert "image_shape" in message
    assert fact in message
    assert str(image_shape) in message
