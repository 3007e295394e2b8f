"""Pictures of data of each kind."""

from __future__ import annotations

import numpy as np

from ppl_vae.data import Dataset
from ppl_vae.uses.pictures import picture_sites


def stored(*shape: int, image_shape: tuple[int, ...] | None = None, grey: str = "ink") -> Dataset:
    """Return a data set of two data of this shape."""
    part = {"x": np.zeros((2, *shape), np.float32)}
    return Dataset("toy", part, part, part, image_shape=image_shape, grey=grey)


PLAIN = stored(1)


def test_a_sequence_is_a_roll_with_nothing_past_its_end() -> None:
    steps, lengths = np.arange(2 * 5 * 3.0).reshape(2, 5, 3) + 1, np.array([2, 4])
    drawn, shape, roll, *_ = picture_sites({"x": steps}, PLAIN, lengths)
    assert roll
    assert shape == (3, 4)  # three numbers, four steps
    np.testing.assert_array_equal(drawn[0], [[3, 6, 0, 0], [2, 5, 0, 0], [1, 4, 0, 0]])  # the first number lowest
    np.testing.assert_array_equal(drawn[1][0], [18, 21, 24, 27])


def test_a_sequence_of_sites_makes_the_same_roll() -> None:
    steps, lengths = np.random.default_rng(0).normal(size=(2, 5, 3)), np.array([2, 5])
    apart = {f"x_{t}": steps[:, t] for t in range(5)}
    np.testing.assert_array_equal(
        picture_sites(apart, PLAIN, lengths)[0], picture_sites({"x": steps}, PLAIN, lengths)[0]
    )


def test_numbers_are_drawn_as_lines() -> None:
    x, y = np.ones((4, 6)), np.zeros((4, 2))
    assert picture_sites({"x": x}, PLAIN)[1] is None
    assert picture_sites({"x": x, "y": y}, PLAIN)[0].shape == (4, 8)
    assert picture_sites({"x": x, "y": y}, PLAIN).names[5:] == ("x[5]", "y[0]", "y[1]")
    drawn, shape, *_ = picture_sites({"y": y, "x": x}, stored(6, image_shape=(2, 3)))
    assert (drawn.shape, shape) == ((4, 2, 3), (2, 3))
    assert picture_sites({"x": np.ones((4, 5))}, PLAIN, np.array([5, 2, 3, 1]))[1] is None  # single numbers: a line


def test_a_site_of_pixels_is_the_image_that_is_stored() -> None:
    image = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)  # channels first
    data = stored(3, 4, 5, image_shape=(4, 5, 3))
    for site in (image, image.reshape(2, -1)):  # before, a flat site was read as if its channels came last
        np.testing.assert_array_equal(picture_sites({"x": site}, data).array, np.moveaxis(image, 1, -1))
    vectors = stored(60, image_shape=(4, 5, 3))
    np.testing.assert_array_equal(picture_sites({"x": image.reshape(2, -1)}, vectors).array, image.reshape(2, 4, 5, 3))


def test_the_data_set_decides_how_grey_is_drawn() -> None:
    x = np.zeros((2, 6))
    for grey in ("ink", "light"):
        assert picture_sites({"x": x}, stored(6, image_shape=(2, 3), grey=grey)).light == (grey == "light")
    assert not picture_sites({"x": x}, stored(6, grey="light")).light  # no image
