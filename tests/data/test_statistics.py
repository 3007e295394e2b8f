"""Statistics of columns against NumPy's, whatever the blocks are."""

from __future__ import annotations

import numpy as np
import pytest

from ppl_vae.data.statistics import blocks_of, column_statistics


@pytest.mark.parametrize("cuts", [(), (1,), (3, 3, 40), tuple(range(1, 57))])
def test_blocks_do_not_change_the_statistics(cuts: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    x = np.where(random.random((57, 2, 3)) < 0.3, np.nan, 1e6 + random.normal(size=(57, 2, 3)))
    x[:, 0, 0], w = 4.0, random.integers(0, 9, 57)
    blocks = [{"x": part, "w": other} for part, other in zip(np.split(x, cuts), np.split(w, cuts), strict=True)]
    of = column_statistics([block for block in blocks if len(block["w"])])
    np.testing.assert_array_equal(of["x"].known, (~np.isnan(x)).sum(0))
    np.testing.assert_allclose(of["x"].mean, np.nanmean(x, 0), rtol=1e-14)
    np.testing.assert_allclose(of["x"].scale, np.nanstd(x, 0), rtol=1e-8)
    np.testing.assert_array_equal(of["x"].usual, of["x"].mean)
    assert of["x"].scale[0, 0] == 0
    np.testing.assert_allclose([of["w"].mean, of["w"].scale], [w.mean(), w.std()], rtol=1e-13)
    assert of["w"].mean.shape == ()


def test_the_usual_value_of_a_column_of_codes_is_its_mode() -> None:
    x = np.array([[0.5, 1, 7], [0.7, 1, 2], [np.nan, 0, np.nan], [1.5, np.nan, 2]])
    of_x = column_statistics(blocks_of({"x": x, "y": np.arange(4)}, ["x"]), {"x": (1, 2)})["x"]
    np.testing.assert_allclose(of_x.usual, [0.9, 1, 2])
    np.testing.assert_allclose(of_x.mean, [0.9, 2 / 3, 11 / 3])


def test_a_number_that_no_datum_has_is_counted_zero_times() -> None:
    of_x = column_statistics([{"x": np.array([[np.nan, 1.0], [np.nan, 3.0]])}], {"x": [0]})["x"]
    assert (of_x.known.tolist(), of_x.usual.tolist(), of_x.scale.tolist()) == ([0, 2], [0, 2], [0, 1])
