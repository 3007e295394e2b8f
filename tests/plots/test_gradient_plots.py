"""What the figure of the gradient's variance shows, read back from its artists."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from matplotlib import pyplot, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from ppl_vae.errors import InputError
from ppl_vae.plots import variance_over_particles

KS = (1, 2, 4, 8, 16, 32, 64)


def curve(top, ks=KS):
    return {k: top / k for k in ks}


FIGURES = {
    "five": lambda: variance_over_particles(
        {
            "path derivative": curve(8.4),
            "total derivative": curve(57),
            "score function, leave-one-out": {k: 80 / (k - 1) for k in KS[1:]},
            "score function, decaying average": curve(82),
            "score function": curve(18_900),
        }
    ),
    "one number of particles": lambda: variance_over_particles({"a": {4: 1.0}, "b": {4: 1.0}}),
    "the same": lambda: variance_over_particles({name: curve(2) for name in "abcdef"}),
    "zero": lambda: variance_over_particles({"a": curve(2), "b": dict.fromkeys(KS, 0.0), "c": {1: np.inf, 2: 3.0}}),
    "many": lambda: variance_over_particles({"a": {k: 1 / k for k in range(1, 101)}}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_the_figure_is_titled_whole_and_nobody_elses(make):
    before = {key: rcParams[key] for key in rcParams if key != "backend"}
    figure = make()
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png", dpi=60)
    assert figure.get_suptitle()
    assert pyplot.get_fignums() == []
    assert {key: rcParams[key] for key in rcParams if key != "backend"} == before
    agg = FigureCanvasAgg(figure)
    agg.draw()
    canvas = agg.get_renderer()
    title = figure._suptitle.get_window_extent(canvas)
    box = figure.axes[0].get_tightbbox(canvas)
    assert box.x0 >= -1
    assert box.y0 >= -1
    assert box.x1 <= figure.bbox.x1 + 1
    assert box.y1 <= title.y0 + 1
    names = [Text.get_window_extent(text, canvas) for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for a, b in combinations(names, 2))


def test_draws_every_curve_on_logarithmic_axes():
    figure = FIGURES["five"]()
    (ax,) = figure.axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["total derivative"].get_xydata().tolist() == [[k, 57 / k] for k in KS]
    assert lines["score function, leave-one-out"].get_xdata().tolist() == list(KS[1:])
    assert [text.get_text() for text in ax.texts] == list(lines)
    looks = [(line.get_linestyle(), line.get_marker()) for line in lines.values()]
    assert len(set(looks)) == len(looks)  # told apart without their colours


def test_what_cannot_be_drawn_is_said():
    figure = FIGURES["zero"]()
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["a", "c"]
    assert figure.get_supxlabel().splitlines() == [
        "b: not positive, or not finite, at K = 1, 2, 4, 8, 16, 32, 64",
        "c: not positive, or not finite, at K = 1",
    ]


@pytest.mark.parametrize("curves", [{}, {"a": {}}, {"a": {0: 1.0}}, {"a": {1: 0.0, 2: np.nan}}])
def test_bad_input(curves):
    with pytest.raises(InputError, match="curves: expected"):
        variance_over_particles(curves)
