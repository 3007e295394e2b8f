"""Pictures of data of each kind."""

from __future__ import annotations

import numpy as np

from ppl_vae.cli.pictures import picture_sites


def test_a_sequence_is_a_roll_with_nothing_past_its_end() -> None:
    steps, lengths = np.arange(2 * 5 * 3.0).reshape(2, 5, 3) + 1, np.array([2, 4])
    drawn, shape, roll, _ = picture_sites({"x": steps}, None, lengths)
    assert roll
    assert shape == (3, 4)  # three numbers, four steps
    np.testing.assert_array_equal(drawn[0], [[3, 6, 0, 0], [2, 5, 0, 0], [1, 4, 0, 0]])  # the first number lowest
    np.testing.assert_array_equal(drawn[1][0], [18, 21, 24, 27])


def test_a_sequence_of_sites_makes_the_same_roll() -> None:
    steps, lengths = np.random.default_rng(0).normal(size=(2, 5, 3)), np.array([2, 5])
    apart = {f"x_{t}": steps[:, t] for t in range(5)}
    np.testing.assert_array_equal(picture_sites(apart, None, lengths)[0], picture_sites({"x": steps}, None, lengths)[0])


def test_numbers_are_drawn_as_lines() -> None:
    x, y = np.ones((4, 6)), np.zeros((4, 2))
    assert picture_sites({"x": x}, None)[1] is None
    assert picture_sites({"x": x, "y": y}, None)[0].shape == (4, 8)
    assert picture_sites({"x": x, "y": y}, None).names[5:] == ("x[5]", "y[0]", "y[1]")
    drawn, shape, *_ = picture_sites({"y": y, "x": x}, (2, 3))
    assert (drawn.shape, shape) == ((4, 2, 3), (2, 3))
    assert picture_sites({"x": np.ones((4, 5))}, None, np.array([5, 2, 3, 1]))[1] is None  # single numbers: a line
