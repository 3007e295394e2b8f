"""Many points are drawn as their density: cells with their numbers, their mean label or their most frequent class."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb

from ppl_vae.plots import latent_space, prior_samples, reconstructions
from ppl_vae.plots.clouds import MANY
from ppl_vae.plots.style import CLASS_COLOURS

RNG = np.random.default_rng(4)
COUNT = MANY + 500
LEFT, RIGHT = np.array([-5.0, 0.0]), np.array([5.0, 0.0])
SIDES = np.arange(COUNT) % 2
POINTS = np.where(SIDES[:, None], RIGHT, LEFT) + RNG.normal(size=(COUNT, 2))


def cells(figure):
    """Return the hexagons of a figure, and their places."""
    (drawn,) = figure.axes[0].collections
    assert isinstance(drawn, PolyCollection)
    return drawn, np.asarray(drawn.get_offsets())


@pytest.mark.parametrize(
    "draw",
    [
        lambda points: latent_space(points),
        lambda points: prior_samples(points),
        lambda points: reconstructions(points[:, 0], points[:, 1]),
    ],
)
def test_the_cells_hold_every_datum_once(draw):
    figure = draw(POINTS)
    drawn, _ = cells(figure)
    assert drawn.get_array().sum() == COUNT
    assert drawn.get_array().min() >= 1
    assert figure.axes[1].get_ylabel().startswith("number of")
    few = draw(POINTS[: MANY - 1])
    assert len(np.asarray(few.axes[0].collections[0].get_offsets())) == MANY - 1


def test_a_cell_has_the_colour_of_its_most_frequent_class():
    figure = latent_space(POINTS, SIDES)
    drawn, places = cells(figure)
    colours = drawn.get_facecolor()
    for side, is_here in ((0, places[:, 0] < -1), (1, places[:, 0] > 1)):
        assert (colours[is_here, :3] == to_rgb(CLASS_COLOURS[side])).all()
    assert colours[:, 3].max() == 1
    distance, is_left = np.hypot(*(places - LEFT).T), places[:, 0] < 0
    assert colours[distance < 0.5, 3].mean() > 1.5 * colours[is_left & (distance > 2), 3].mean()
    assert "most frequent label" in figure.get_supxlabel()


def test_a_cell_has_the_mean_of_its_labels():
    figure = latent_space(POINTS, POINTS[:, 0] * 1.5)
    drawn, places = cells(figure)
    np.testing.assert_allclose(drawn.get_array(), 1.5 * places[:, 0], atol=0.4)
    assert figure.axes[1].get_ylabel() == "label, mean of a cell"


def test_points_at_a_few_places_have_their_numbers():
    places = np.array([[0.0, 1.0], [2.0, -1.0], [3.0, 3.0]])
    figure = prior_samples(places[[0, 1, 0, 0, 2, 0, 1]])
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1", "2", "4"]
    dots = figure.axes[0].collections[0]
    np.testing.assert_array_equal(np.asarray(dots.get_offsets()), places)
    assert dots.get_sizes()[0] > dots.get_sizes()[1] > dots.get_sizes()[2]
