"""Laws of every figure: it has a title and data, and none of its text is cut off or covered."""

from __future__ import annotations

import pytest
from matplotlib import pyplot, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from ppl_vae import plots
from ppl_vae.plots.style import LABEL, NOTE, TITLE
from tests.helpers.figures import FIGURES
from tests.helpers.legible import misplaced, text_boxes

LARGEST = 11.5  # inches
ALIKE = {
    *("filled, one number", "filled, both", "images, light", "images, one", "drawn points", "drawn scalars"),
    *("drawn images, long numbers", "latent, floats", "latent, one dimension, classes"),
    *("latent, one dimension, floats", "latent, many classes", "latent, many floats"),
    *("latent, one dimension, many floats", "ranks, narrow", "trials, one parameter", "trials, two"),
    *("rank histograms, few", "statistics, far", "statistics, one", "bound, flat", "pareto, equal weights"),
    *("pareto, one", "worst, one image", "worst, scalars", "sandwich, one", "sandwich, exact"),
    *("divergence, errors", "divergence, one", "aggregate, one", "aggregate, errors", "posteriors, Gaussian"),
    *("posteriors, narrow", "posteriors, one draw", "gap, few", "gap, two families", "gap, large"),
    *("gap, small", "gap, no encoder, one", "gap, exact", "gap, rounding", "gap, constant", "variance, zero"),
    *("variance, the same", "sheet, one", "sheet, light", "sheet, large", "sheet, many rolls"),
    *("sheet, tiny rolls", "sheet, colour", "table, one value", "colours of one value", "one strip"),
}
"""Figures that are laid out as others are, with fewer or smaller parts; their law is slow."""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "draw",
    [pytest.param(draw, id=name, marks=pytest.mark.slow if name in ALIKE else ()) for name, draw in FIGURES.items()],
)
def test_a_figure_is_legible_and_leaves_nothing_behind(draw):
    before = {key: rcParams[key] for key in rcParams if key != "backend"}  # the backend is found on first use
    figure = draw()
    assert isinstance(figure, Figure)
    assert figure.get_suptitle()
    boxes = text_boxes(figure)
    assert misplaced(boxes, figure) == []
    title = figure._suptitle.get_window_extent()
    assert all(box.y1 <= title.y0 + 1 for text, box in boxes if text != figure.get_suptitle())
    canvas = FigureCanvasAgg(figure).get_renderer()
    for ax in figure.axes:
        assert ax.has_data() or ax.tables
        box = ax.get_tightbbox(canvas)
        assert min(box.x0, box.y0) >= -1
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y1 <= title.y0 + 1
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert {text.get_fontsize() for text in texts} <= {TITLE, LABEL, NOTE}
    assert [text.get_text() for text in texts if text.get_fontsize() == TITLE] == [figure.get_suptitle()]
    assert max(figure.get_size_inches()) <= LARGEST
    assert pyplot.get_fignums() == []
    assert {key: rcParams[key] for key in rcParams if key != "backend"} == before


def test_every_function_that_draws_is_among_the_figures():
    sources = {name for draw in FIGURES.values() for name in draw.__code__.co_names}
    assert set(plots.__all__) - {"number"} <= sources
    assert set(FIGURES) > ALIKE


def test_text_that_overlaps_or_is_cut_off_is_found():
    figure = Figure(figsize=(2, 2))
    ax = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    for x, text in [(0.5, "one"), (0.5, "other"), (1.2, "cut off")]:
        ax.text(x, 0.5, text, transform=ax.transAxes)
    wrong = misplaced(text_boxes(figure), figure)
    assert ("one", "other") in wrong
    assert "cut off" in wrong
