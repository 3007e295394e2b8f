from __future__ import annotations

import numpy as np
import pytest

from ppl_vae.data import BINARIZE, load_dataset
from ppl_vae.data.binarize import binarize_parts
from ppl_vae.data.split import PARTS
from ppl_vae.errors import InputError


def grey_parts(n: int = 400) -> dict[str, dict[str, np.ndarray]]:
    x = np.random.default_rng(0).random((n, 25), dtype=np.float32)
    x[:, 0], x[:, 1] = 0, 1
    return {part: {"x": x, "y": np.arange(n)} for part in PARTS}


def bits_of(how: str, seed: int = 0) -> dict[str, np.ndarray]:
    return {part: arrays["x"] for part, arrays in binarize_parts("toy", grey_parts(), how, seed).items()}


def test_threshold_is_half_range() -> None:
    x = np.array([[0, 0.49999, 0.5, 1]], dtype=np.float32)
    bits = binarize_parts("toy", {part: {"x": x} for part in PARTS}, "threshold", seed=0)
    assert all(bits[part]["x"].tolist() == [[0, 0, 1, 1]] for part in PARTS)


@pytest.mark.parametrize("how", ["threshold", "static"])
def test_every_part_becomes_float32_bits(how: str) -> None:
    for x in bits_of(how).values():
        assert x.dtype == np.float32
        assert set(np.unique(x)) == {0, 1}


def test_draws_have_mean_x() -> None:
    # The grey values are those of default_rng(0): the draws with seed 0 may not be the same numbers.
    x, bits = grey_parts(4000)["train"]["x"], binarize_parts("toy", grey_parts(4000), "static", seed=0)
    error = np.sqrt((x * (1 - x)).sum() / x.size**2)
    for part in PARTS:
        assert abs((bits[part]["x"] - x).mean(dtype=np.float64)) < 4 * error
        # Each bit goes with its own grey value: cov(b, x) = var(x), so corr(b, x) = sd(x) / sd(b).
        correlation = np.corrcoef(bits[part]["x"].ravel(), x.ravel())[0, 1]
        assert correlation == pytest.approx(x.std() / np.sqrt(x.mean() * (1 - x.mean())), abs=0.015)


def test_zeros_and_ones_stay() -> None:
    for x in bits_of("static").values():
        assert (x[:, 0] == 0).all()
        assert (x[:, 1] == 1).all()


def test_the_seed_decides_and_parts_differ() -> None:
    first, again, other = bits_of("static", 1), bits_of("static", 1), bits_of("static", 2)
    assert all(np.array_equal(first[part], again[part]) for part in PARTS)
    assert not any(np.array_equal(first[part], other[part]) for part in PARTS)
    # All three parts have the same grey values here.
    assert not np.array_equal(first["train"], first["valid"])
    assert not np.array_equal(first["valid"], first["test"])


def test_dynamic_keeps_train_grey_and_draws_the_rest_as_static() -> None:
    grey, static, dynamic = bits_of("none"), bits_of("static"), bits_of("dynamic")
    assert np.array_equal(dynamic["train"], grey["train"])
    assert np.array_equal(dynamic["valid"], static["valid"])
    assert np.array_equal(dynamic["test"], static["test"])


def test_input_is_not_changed() -> None:
    parts, want = grey_parts(), grey_parts()
    for how in BINARIZE:
        binarize_parts("toy", parts, how, seed=0)
    assert all(np.array_equal(parts[part]["x"], want[part]["x"]) for part in PARTS)


@pytest.mark.parametrize("bad", [-0.01, 1.01, 255.0])
def test_value_outside_the_unit_interval(bad: float) -> None:
    parts = grey_parts()
    parts["valid"] = {"x": np.full((2, 3), bad, dtype=np.float32)}
    with pytest.raises(InputError, match=rf"x of valid ranges from {bad:g} to {bad:g}.*\[0, 1\]") as caught:
        binarize_parts("toy", parts, "threshold", seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", BINARIZE)
def test_global_random_state_is_untouched(how: str) -> None:
    np.random.seed(0)
    want = np.random.random()
    np.random.seed(0)
    data = load_dataset("digits", binarize=how)
    assert np.random.random() == want
    assert data.binarize == how
