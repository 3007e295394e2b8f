"""Tests of what the artists of a sheet show: the place, the colour and the label of each datum."""

from __future__ import annotations

import numpy as np
import pytest

from ppl_vae.errors import InputError
from ppl_vae.plots import sheet
from ppl_vae.plots.images import MISSING
from tests.helpers.figures import FIGURES, GRID, IMAGES, LONG, NUMBERS

RNG = np.random.default_rng(3)
MINUS = "\N{MINUS SIGN}"
NAN = np.nan


def column_labels(figure):
    return [tick.get_text() for tick in figure.axes[0].get_xticklabels()]


def row_labels(figure):
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def places(figure):
    """Left and top of each image, inches."""
    return [(image.get_extent()[0], image.get_extent()[3]) for image in figure.axes[0].images]


def table(figure):
    """Return the texts of a table, line by line."""
    cells = figure.axes[0].tables[0].get_celld()
    lines, columns = (max(places) + 1 for places in zip(*cells, strict=True))
    return [[cells[line, column].get_text().get_text() for column in range(columns)] for line in range(lines)]


def shade(figure, text):
    """Return the colour behind the one text of a table that reads so."""
    cells = figure.axes[0].tables[0].get_celld().values()
    (cell,) = (cell for cell in cells if cell.get_text().get_text() == text)
    return cell.get_facecolor()[:3]


class TestImages:
    def test_each_image_is_the_datum_of_its_row_and_column(self):
        figure = FIGURES["sheet"]()
        drawn = figure.axes[0].images
        np.testing.assert_array_equal([image.get_array().data for image in drawn], IMAGES.reshape(6, 4, 5))
        (a, b, c, d, e, f) = places(figure)
        assert a[0] == d[0] < b[0] == e[0] < c[0] == f[0]
        assert a[1] == b[1] == c[1] < d[1] == e[1] == f[1]
        left, right, bottom, top = drawn[0].get_extent()
        assert (right - left) / (bottom - top) == pytest.approx(5 / 4)

    def test_labels_stand_at_their_row_and_above_their_column(self):
        figure = FIGURES["sheet"]()
        assert row_labels(figure) == ["a", "b"]
        extents = [image.get_extent() for image in figure.axes[0].images]
        for tick, (_, _, bottom, top) in zip(figure.axes[0].get_yticks(), extents[::3], strict=True):
            assert tick == pytest.approx((top + bottom) / 2)
        assert [label.replace("\n", " ") for label in column_labels(figure)] == ["x", "mean", LONG]
        assert figure.axes[0].xaxis.get_tick_params()["labeltop"]
        for tick, (left, right, *_) in zip(figure.axes[0].get_xticks(), extents[:3], strict=True):
            assert tick == pytest.approx((left + right) / 2)

    def test_one_scale_for_all_but_what_has_its_own(self):
        cells = IMAGES.copy()
        cells[:, 1] *= 0.3
        cells[:, 2] *= 40
        figure = sheet(cells, title="t", columns=["x", "sd", "y"], image_shape=(4, 5), own_scale=[1])
        limits = {i % 3: image.get_clim() for i, image in enumerate(figure.axes[0].images)}
        assert limits[0] == limits[2] == (cells[:, [0, 2]].min(), cells[:, [0, 2]].max())
        assert limits[1] == (0, cells[:, 1].max())
        assert [ax.get_ylabel() for ax in figure.axes[1:]] == ["sd", "value"]  # from left to right: value, sd
        grey, other = figure.axes[0].images[0].cmap, figure.axes[0].images[1].cmap
        assert grey.name != other.name
        lightness = other(np.linspace(0, 1, 20))[:, :3] @ [0.299, 0.587, 0.114]
        assert (np.diff(lightness) < 0).all()

    def test_a_missing_value_is_orange_but_white_on_a_scale_of_its_own(self):
        cells = IMAGES.copy()
        cells[0, :2, 0, 0] = NAN
        figure = sheet(cells, title="t", image_shape=(4, 5), own_scale=[1])
        for image, expected in zip(figure.axes[0].images, [MISSING, (1, 1, 1)], strict=False):
            np.testing.assert_allclose(image.cmap(np.ma.masked_invalid(image.get_array()))[0, 0, :3], expected)
        frames, strokes = figure.axes[0].collections
        assert len(frames.get_paths()) == 6
        left, right, bottom, top = figure.axes[0].images[0].get_extent()
        assert strokes.get_segments()[0].tolist() == [
            pytest.approx([left, top + (bottom - top) / 4]), pytest.approx([left + (right - left) / 5, top])
        ]  # fmt: skip
        assert len(strokes.get_segments()) == 1
        assert "orange and struck through: missing" in figure.get_supxlabel()
        assert "orange" not in FIGURES["sheet"]().get_supxlabel()

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
        figure = FIGURES["sheet, large"]()
        at = np.array(places(figure)).reshape(14, 14, 2)
        left, right, *_ = figure.axes[0].images[0].get_extent()
        np.testing.assert_allclose(np.diff(at[..., 0], axis=1), right - left)
        np.testing.assert_array_equal(figure.axes[0].images[3 * 14 + 7].get_array(), GRID[3, 7].reshape(4, 4))
        rows = row_labels(figure)
        assert (rows[0], rows[-1], len(rows)) == (f"{MINUS}2", "2", 14)
        assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("z[0]", "z[1]")
        columns = column_labels(figure)
        assert 5 <= len(columns) < 14
        values = np.linspace(-2.125, 2, 14) / 1e3
        for tick, label in zip(figure.axes[0].get_xticks(), columns, strict=True):
            column = int(np.argmin(abs(at[0, :, 0] + (right - left) / 2 - tick)))
            assert label.replace(MINUS, "-") == f"{values[column]:.3g}"

    def test_colour(self):
        x = RNG.uniform(0, 255, (2, 3, 4, 4, 3))
        figure = sheet(x, title="t", columns=["a", "b", "sd"], image_shape=(4, 4, 3), own_scale=[2])
        low, high = x[:, :2].min(), x[:, :2].max()
        np.testing.assert_allclose(figure.axes[0].images[1].get_array(), (x[0, 1] - low) / (high - low))
        np.testing.assert_allclose(figure.axes[0].images[5].get_array(), x[1, 2].mean(-1))
        assert [ax.get_ylabel() for ax in figure.axes[1:]] == ["sd"]
        assert "drawn as 0 to 1" in figure.get_supxlabel()

    def test_rolls_are_wider_than_high_and_leave_silence_out(self):
        cells = np.zeros((1, 2, 10, 6))
        cells[0, 0, 3, 2] = cells[0, 1, 5, 1] = 1
        cells[0, 1, 9, 0] = 0.01
        figure = sheet(cells, title="t", image_shape=(10, 6), roll=True)
        one, other = figure.axes[0].images
        np.testing.assert_array_equal(one.get_array(), cells[0, 0, 2:7])
        np.testing.assert_array_equal(other.get_array(), cells[0, 1, 2:7])
        left, right, bottom, top = one.get_extent()
        assert right - left > bottom - top
        note = figure.get_supxlabel()  # rows 2 to 6 from above are features 7 to 3
        assert note.startswith("step 0 to 5 left to right, feature 3 to 7 upwards; outer features")
        assert "left out" in note

    def test_rolls_that_sound_everywhere_are_whole(self):
        figure = sheet(np.ones((1, 1, 10, 6)), title="t", image_shape=(10, 6), roll=True)
        assert figure.axes[0].images[0].get_array().shape == (10, 6)
        assert "left out" not in figure.get_supxlabel()


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

    def test_the_label_of_a_row_is_one_line_of_the_table(self):
        figure = sheet(NUMBERS[:2], title="t", rows=["row 7\n-3.5 nats", "row 8\n-3 nats"])
        assert [line[0] for line in table(figure)[1::3]] == ["row 7: -3.5 nats", "row 8: -3 nats"]

    def test_numbers_end_below_each_other(self):
        figure = sheet(NUMBERS, title="t")
        figure.draw_without_rendering()
        texts = [cell.get_text() for cell in figure.axes[0].tables[0].get_celld().values()]
        assert {text.get_ha() for text in texts} == {"right"}
        assert len({round(text.get_position()[0], 6) for text in texts}) == 6
        assert table(figure)[0] == [f"value {d}" for d in range(6)]

    def test_the_title_reports_what_is_left_out(self):
        figure = FIGURES["table, long"]()
        assert figure.get_suptitle().replace("\n", " ") == "t (first 15 of 49 rows, first 12 of 16 values)"
        lines = table(figure)
        assert lines[0][-1] == "value 11"
        assert [line[0] for line in lines[1:31]] == [str(i // 2) if i % 2 == 0 else "" for i in range(30)]
        assert len(lines) == 31

    def test_one_value_a_datum_is_the_table_of_the_sheet(self):
        x = np.array([[0.25, NAN, 3], [4, 5, NAN]])
        for cells in (x, x[..., None]):
            figure = sheet(cells, title="t", rows=["a", "b"], columns=["p", "q", "r"], column_title="draw")
            assert table(figure) == [["", "p", "q", "r"], ["a", "0.250", "missing", "3"], ["b", "4", "5", ""]]
            assert figure.axes[0].get_xlabel() == "draw"
        assert sum(shade(figure, "5")) < sum(shade(figure, "4")) < sum(shade(figure, "0.250")) == 3

    def test_a_column_of_its_own_scale_is_shaded_by_itself(self):
        x = np.array([[[1.0, 2], [100, 200]], [[3, 4], [300, 400]]])
        figure = sheet(x, title="t", columns=["x", "sd"], own_scale=[1])
        assert shade(figure, "1") == shade(figure, "100") == (1, 1, 1)
        assert shade(figure, "3") != shade(figure, "300") != (1, 1, 1)
        assert "lilac, by itself: sd" in figure.get_supxlabel()

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
        assert row_labels(figure) == ["a   x", "sd", "b   x", "sd"]
        assert tops[2] < figure.axes[0].get_yticks()[2] < tops[3]
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
