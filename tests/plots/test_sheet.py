"""What a sheet shows, read back from its artists: which datum is where, in which colour, and called what."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ppl_vae.errors import InputError
from ppl_vae.plots import sheet
from ppl_vae.plots._images import MISSING
from tests.helpers.legible import misplaced, text_boxes

RNG = np.random.default_rng(3)
MINUS = "\N{MINUS SIGN}"
NAN = np.nan


def with_holes(cells, share=0.3):
    return np.where(RNG.uniform(size=cells.shape) < share, NAN, cells)


def said(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.axes[0].texts)


def row_labels(figure):
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def places(figure):
    """Left and top of each image, inches."""
    return [(image.get_extent()[0], image.get_extent()[3]) for image in figure.axes[0].images]


def table(figure):
    """The texts of a table as they are read: lines from top to bottom, each from left to right."""
    lines = {}
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        lines.setdefault(round(y, 3), []).append((x, text.get_text()))
    return [[text for _, text in sorted(lines[y])] for y in sorted(lines)]


def shade(figure, text):
    """The colour behind the one text of a table that reads so."""
    (found,) = (each for each in figure.axes[0].texts if each.get_text() == text)
    x, y = found.get_position()
    behind = [p for p in figure.axes[0].patches if p.get_x() < x < p.get_x() + p.get_width()]
    (patch,) = (p for p in behind if p.get_y() < y < p.get_y() + p.get_height())
    return patch.get_facecolor()[:3]


IMAGES = RNG.uniform(size=(2, 3, 4, 5))
GRID = RNG.uniform(size=(20, 20, 16))
ROLLS = (RNG.uniform(size=(3, 4, 30, 40)) < 0.1).astype(float)
NUMBERS = RNG.normal(size=(4, 3, 6)) * [1, 1e-5, 1900, 1, 1, 1]
LONG = "a label that is much longer than its datum is wide"
FIGURES = {
    "images": lambda: sheet(IMAGES, title="t", rows="ab", columns=["x", "mean", LONG], image_shape=(4, 5)),
    "own scale": lambda: sheet(
        with_holes(IMAGES), title="t", columns=["x", "standard deviation", LONG], image_shape=(4, 5), own_scale=[1, 2]
    ),
    "one": lambda: sheet(IMAGES[:1, :1], title="A long title " * 9, image_shape=(4, 5), note="and its note; " * 12),
    "large": lambda: sheet(
        GRID, title="t", rows=np.linspace(-2, 2, 20), columns=np.linspace(-2.125, 2, 20), image_shape=(4, 4),
        row_title="z[1]", column_title="z[0]",
    ),
    "many rows": lambda: sheet(GRID[:, :3], title="t", rows=[f"row {i}" for i in range(20)], image_shape=(4, 4)),
    "many columns": lambda: sheet(GRID[:1], title="t", columns=[f"row {i}" for i in range(20)], image_shape=(4, 4)),
    "colour": lambda: sheet(RNG.uniform(0, 255, (4, 6, 48)), title="t", image_shape=(4, 4, 3), own_scale=[0]),
    "wide": lambda: sheet(IMAGES, title="t", rows=["row 1711 (label 13)"] * 2, image_shape=(1, 20), row_title="datum"),
    "rolls": lambda: sheet(ROLLS, title="t", rows="abc", image_shape=(30, 40), roll=True, row_title="chorale"),
    "many rolls": lambda: sheet(ROLLS.reshape(12, 1, 30, 40), title="t", image_shape=(30, 40), roll=True),
    "tiny rolls": lambda: sheet(ROLLS.reshape(1, 12, 30, 40), title="t", image_shape=(30, 40), roll=True),
    "table": lambda: sheet(
        with_holes(NUMBERS), title="t", rows="abcd", columns=["x", "mean", "standard deviation"], own_scale=[2],
        names=["price (thousands of pounds)", *"bcdef"], row_title="datum", column_title="what",
    ),
    "long table": lambda: sheet(RNG.normal(size=(40, 2, 30)), title="t", rows=range(40), columns=["x", "mean"]),
    "table without labels": lambda: sheet(NUMBERS, title="t"),
    "one value each": lambda: sheet(
        with_holes(NUMBERS[..., 0]), title="t", rows="abcd", columns=["x", LONG, "y"], column_title="draw"
    ),
    "one number": lambda: sheet([[-3.25]], title="t"),
    "colours of one value": lambda: sheet(GRID[..., :1], title="t", rows=range(20), columns=range(20)),
    "strips": lambda: sheet(
        with_holes(RNG.normal(size=(4, 3, 64))), title="t", rows=range(4), columns=["x", "mean", LONG], own_scale=[2],
        row_title="datum",
    ),
    "one strip": lambda: sheet(GRID.reshape(1, 1, -1), title="t"),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_every_sheet_is_legible_and_of_a_size_for_paper(make):
    figure = make()
    figure.savefig(io.BytesIO(), format="png", dpi=60)
    assert misplaced(*text_boxes(figure)) == []
    canvas = FigureCanvasAgg(figure).get_renderer()
    title = figure._suptitle.get_window_extent(canvas)
    assert title.x0 >= 0
    assert title.x1 <= figure.bbox.x1
    for ax in figure.axes:
        assert ax.has_data()
        box = ax.get_tightbbox(canvas)
        assert min(box.x0, box.y0) >= -1
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y1 <= title.y0 + 1
    assert max(figure.get_size_inches()) <= 11
    assert pyplot.get_fignums() == []


class TestImages:
    def test_each_is_the_datum_of_its_row_and_column(self):
        figure = FIGURES["images"]()
        drawn = figure.axes[0].images
        np.testing.assert_array_equal([image.get_array().data for image in drawn], IMAGES.reshape(6, 4, 5))
        (a, b, c, d, e, f) = places(figure)
        assert a[0] == d[0] < b[0] == e[0] < c[0] == f[0]
        assert a[1] == b[1] == c[1] < d[1] == e[1] == f[1]
        left, right, bottom, top = drawn[0].get_extent()
        assert (right - left) / (bottom - top) == pytest.approx(5 / 4)

    def test_labels_stand_at_their_row_and_above_their_column(self):
        figure = FIGURES["images"]()
        assert row_labels(figure) == ["a", "b"]
        extents = [image.get_extent() for image in figure.axes[0].images]
        for tick, (_, _, bottom, top) in zip(figure.axes[0].get_yticks(), extents[::3], strict=True):
            assert tick == pytest.approx((top + bottom) / 2)
        at = {text.get_text().replace("\n", " "): text.get_position() for text in figure.axes[0].texts}
        for name, (left, right, _, top) in zip(["x", "mean", LONG], extents[:3], strict=True):
            assert at[name][0] == pytest.approx((left + right) / 2)
            assert at[name][1] < top

    def test_one_scale_for_all_but_what_has_its_own(self):
        cells = IMAGES.copy()
        cells[:, 1] *= 0.3
        cells[:, 2] *= 40
        figure = sheet(cells, title="t", columns=["x", "sd", "y"], image_shape=(4, 5), own_scale=[1])
        limits = {i % 3: image.get_clim() for i, image in enumerate(figure.axes[0].images)}
        assert limits[0] == limits[2] == (cells[:, [0, 2]].min(), cells[:, [0, 2]].max())
        assert limits[1] == (0, cells[:, 1].max())
        assert [ax.get_ylabel() for ax in figure.axes[1:]] == ["value", "sd"]
        grey, other = figure.axes[0].images[0].cmap, figure.axes[0].images[1].cmap
        assert grey.name != other.name
        lightness = other(np.linspace(0, 1, 20))[:, :3] @ [0.299, 0.587, 0.114]
        assert (np.diff(lightness) < 0).all()

    def test_a_hole_is_orange_but_no_value_of_its_own_scale_is_white(self):
        cells = IMAGES.copy()
        cells[0, :2, 0, 0] = NAN
        figure = sheet(cells, title="t", image_shape=(4, 5), own_scale=[1])
        for image, expected in zip(figure.axes[0].images, [MISSING, (1, 1, 1)], strict=False):
            np.testing.assert_allclose(image.cmap(np.ma.masked_invalid(image.get_array()))[0, 0, :3], expected)
        (strokes,) = figure.axes[0].collections  # through the hole only
        left, right, bottom, top = figure.axes[0].images[0].get_extent()
        assert strokes.get_segments()[0].tolist() == [
            pytest.approx([left, top + (bottom - top) / 4]), pytest.approx([left + (right - left) / 5, top])
        ]  # fmt: skip
        assert len(strokes.get_segments()) == 1
        assert "orange and struck through: missing" in said(figure)
        assert "orange" not in said(FIGURES["images"]())

    def test_a_row_ends_with_its_last_datum(self):
        cells = IMAGES.copy()
        cells[0, 0] = NAN  # wholly missing, but followed by others: drawn
        cells[1, 1:] = NAN
        figure = sheet(cells, title="t", columns="xyz", image_shape=(4, 5))
        assert len(figure.axes[0].images) == 4
        assert np.isnan(figure.axes[0].images[0].get_array().filled(NAN)).all()
        np.testing.assert_array_equal(figure.axes[0].images[3].get_array(), cells[1, 0])
        assert len(sheet(cells, title="t", image_shape=(4, 5), own_scale=[0]).axes[0].images) == 3

    def test_a_large_grid_has_no_gaps_and_fewer_labels(self):
        figure = FIGURES["large"]()
        at = np.array(places(figure)).reshape(20, 20, 2)
        left, right, *_ = figure.axes[0].images[0].get_extent()
        np.testing.assert_allclose(np.diff(at[..., 0], axis=1), right - left)
        np.testing.assert_array_equal(figure.axes[0].images[3 * 20 + 7].get_array(), GRID[3, 7].reshape(4, 4))
        rows = row_labels(figure)
        assert (rows[0], rows[-1], len(rows)) == (f"{MINUS}2", "2", 20)
        columns = [t for t in figure.axes[0].texts if t.get_text() not in ("z[0]", "z[1]")]
        assert 5 < len(columns) < 20
        values = np.linspace(-2.125, 2, 20)
        for text in columns:
            column = int(np.argmin(abs(at[0, :, 0] + (right - left) / 2 - text.get_position()[0])))
            assert text.get_text().replace(MINUS, "-") == f"{values[column]:.3g}"

    def test_colour(self):
        x = RNG.uniform(0, 255, (2, 3, 4, 4, 3))
        figure = sheet(x, title="t", columns=["a", "b", "sd"], image_shape=(4, 4, 3), own_scale=[2])
        low, high = x[:, :2].min(), x[:, :2].max()
        np.testing.assert_allclose(figure.axes[0].images[1].get_array(), (x[0, 1] - low) / (high - low))
        np.testing.assert_allclose(figure.axes[0].images[5].get_array(), x[1, 2].mean(-1))
        assert [ax.get_ylabel() for ax in figure.axes[1:]] == ["sd"]
        assert "drawn as 0 to 1" in said(figure)

    def test_rolls_are_longer_than_wide_and_leave_silence_out(self):
        cells = np.zeros((1, 2, 10, 6))
        cells[0, 0, 3, 2] = cells[0, 1, 5, 1] = 1
        cells[0, 1, 9, 0] = 0.01
        figure = sheet(cells, title="t", image_shape=(10, 6), roll=True)
        one, other = figure.axes[0].images
        np.testing.assert_array_equal(one.get_array(), cells[0, 0, 2:7])
        np.testing.assert_array_equal(other.get_array(), cells[0, 1, 2:7])
        left, right, bottom, top = one.get_extent()
        assert right - left > bottom - top
        hint = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
        assert {"0", "5", "step", "feature", "3", "7"} <= set(hint)  # rows 2 to 6 from above are features 7 to 3
        assert hint["7"][1] < hint["3"][1]
        assert "left out" in said(figure)

    def test_rolls_that_sound_everywhere_are_whole(self):
        figure = sheet(np.ones((1, 1, 10, 6)), title="t", image_shape=(10, 6), roll=True)
        assert figure.axes[0].images[0].get_array().shape == (10, 6)
        assert "left out" not in said(figure)


class TestNumbers:
    def test_a_line_for_each_datum(self):
        x = np.array([[[0.12345, 1987], [0.5, 1987.4]], [[-1.5, NAN], [2, 1900]]])
        figure = sheet(x, title="t", rows=["r0", "r1"], columns=["x", "mean"], names=["a", "year"], row_title="datum")
        assert table(figure)[:5] == [
            ["datum", "", "a", "year"],
            ["r0", "x", "0.123", "1987"],
            ["", "mean", "0.500", "1987"],
            ["r1", "x", f"{MINUS}1.50", "missing"],
            ["", "mean", "2", "1900"],
        ]
        np.testing.assert_allclose(shade(figure, "missing"), MISSING)
        assert shade(figure, f"{MINUS}1.50") == (1, 1, 1)
        darkest = shade(figure, "2")
        assert sum(darkest) < sum(shade(figure, "0.500")) < sum(shade(figure, "0.123")) < 3
        assert min(darkest) > 0.7  # text on it is legible

    def test_numbers_end_below_each_other(self):
        figure = sheet(NUMBERS, title="t")
        ends = {round(t.get_position()[0], 6) for t in figure.axes[0].texts if t.get_ha() == "right"}
        assert len(ends) == 6
        assert table(figure)[0] == [f"value {d}" for d in range(6)]

    def test_what_is_left_out_is_said(self):
        figure = FIGURES["long table"]()
        assert figure.get_suptitle().replace("\n", " ") == "t (first 15 of 40 rows, first 12 of 30 values)"
        lines = table(figure)
        assert lines[0][-1] == "value 11"
        assert [line[0] for line in lines[1:31]] == [str(i // 2) if i % 2 == 0 else "" for i in range(30)]
        assert len(lines) == 32  # and the note

    def test_one_value_a_datum_is_the_table_of_the_sheet(self):
        x = np.array([[0.25, NAN, 3], [4, 5, NAN]])
        for cells in (x, x[..., None]):
            figure = sheet(cells, title="t", rows=["a", "b"], columns=["p", "q", "r"], column_title="draw")
            assert table(figure)[:4] == [
                ["draw"], ["", "p", "q", "r"], ["a", "0.250", "missing", "3"], ["b", "4", "5"]
            ]  # fmt: skip
        assert sum(shade(figure, "5")) < sum(shade(figure, "4")) < sum(shade(figure, "0.250")) == 3

    def test_a_column_of_its_own_scale_is_shaded_by_itself(self):
        x = np.array([[[1.0, 2], [100, 200]], [[3, 4], [300, 400]]])
        figure = sheet(x, title="t", columns=["x", "sd"], own_scale=[1])
        assert shade(figure, "1") == shade(figure, "100") == (1, 1, 1)
        assert shade(figure, "3") != shade(figure, "300") != (1, 1, 1)
        assert "lilac, by itself: sd" in said(figure)

    def test_nothing_is_missing_from_a_column_of_its_own_scale(self):
        figure = sheet([[[1.0, NAN], [0.5, NAN]]], title="t", columns=["x", "sd"], own_scale=[1])
        assert [line[-1] for line in table(figure)[1:3]] == ["missing", "\N{EN DASH}"]

    def test_many_single_values_are_colours(self):
        figure = FIGURES["colours of one value"]()
        drawn = [float(image.get_array()[0, 0]) for image in figure.axes[0].images]
        np.testing.assert_array_equal(drawn, GRID[..., 0].ravel())

    def test_long_data_are_strips(self):
        x = RNG.normal(size=(2, 2, 64))
        figure = sheet(x, title="t", rows=["a", "b"], columns=["x", "sd"], own_scale=[1])
        drawn = figure.axes[0].images
        np.testing.assert_array_equal([image.get_array().data for image in drawn], x.reshape(4, 1, 64))
        tops = [top for _, top in places(figure)]
        assert tops == sorted(tops)
        assert tops[2] - tops[1] > tops[1] - tops[0]
        lefts = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
        assert tops[2] < lefts["b"][1] < tops[3]
        assert drawn[0].get_clim() == drawn[2].get_clim() == (x[:, 0].min(), x[:, 0].max())
        (left, right, *_) = drawn[0].get_extent()
        ticks = zip(figure.axes[0].get_xticks(), figure.axes[0].get_xticklabels(), strict=True)
        for at, label in ticks:
            assert at == pytest.approx(left + (right - left) * (int(label.get_text()) + 0.5) / 64)
        assert figure.axes[0].get_xlabel() == "index of the value"


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (np.zeros(3), {}, "cells: expected data in rows and columns"),
        (np.zeros((2, 0, 3)), {}, "cells: expected data in rows and columns"),
        (np.full((2, 2, 3), NAN), {}, "cells: none of 12 values is finite"),
        (IMAGES, {"rows": "abc"}, "rows: expected 2, one for a row, or none, got 3"),
        (IMAGES, {"columns": "ab"}, "columns: expected 3"),
        (IMAGES, {"names": "ab"}, "names: expected 20, one for a value"),
        (IMAGES, {"own_scale": [3]}, "own_scale: expected columns from 0 to 2, got 3"),
        (IMAGES, {"image_shape": (4, 4)}, "image_shape"),
        (IMAGES, {"roll": True}, "image_shape: a roll needs"),
    ],
)
def test_bad_input(cells, options, message):
    with pytest.raises(InputError, match=message) as error:
        sheet(cells, title="t", **options)
    assert "\n" not in str(error.value)
