"""Tests of what the artists of the figure of the gradient's variance show."""

from __future__ import annotations

import numpy as np
import pytest

from ppl_vae.errors import InputError
from ppl_vae.plots import variance_over_particles
from tests.helpers.figures import FIGURES

KS = (1, 2, 4, 8, 16, 32, 64)


def test_every_curve_is_drawn_on_logarithmic_axes():
    figure = FIGURES["variance"]()
    (ax,) = figure.axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines["total derivative"].get_xydata().tolist() == [[k, 57 / k] for k in KS]
    assert lines["score function, leave-one-out"].get_xdata().tolist() == list(KS[1:])
    ends = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ends == sorted(lines, key=lambda name: -lines[name].get_ydata()[-1])
    assert sorted(ends) == sorted(lines)
    looks = [(line.get_linestyle(), line.get_marker()) for line in lines.values()]
    assert len(set(looks)) == len(looks)  # distinct without their colours


def test_a_note_reports_what_cannot_be_drawn():
    figure = FIGURES["variance, zero"]()
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["a", "c"]
    assert figure.get_supxlabel().splitlines() == [
        "b: not positive, or not finite, at K = 1, 2, 4, 8, 16, 32, 64",
        "c: not positive, or not finite, at K = 1",
    ]


@pytest.mark.parametrize("curves", [{}, {"a": {}}, {"a": {0: 1.0}}, {"a": {1: 0.0, 2: np.nan}}])
def test_bad_input(curves):
    with pytest.raises(InputError, match="curves: expected"):
        variance_over_particles(curves)
