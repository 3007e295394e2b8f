"""Tests of what the artists of the figure of the gaps show."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ppl_vae.errors import InputError
from ppl_vae.plots import gaps
from ppl_vae.plots.gap import AMORTIZED, FAMILIES, _ticks
from tests.helpers.figures import gap_case, gap_figure

INF, NAN = np.inf, np.nan


def plain(text):
    return text.replace("\N{MINUS SIGN}", "-")


def note(figure):
    return plain(figure.get_supxlabel())


def steps(figure):
    return [plain(text.get_text()).replace("\n", " ") for text in figure.axes[0].texts]


def rungs(figure):
    return [plain(label.get_text()).replace("\n", " ") for label in figure.axes[0].get_xticklabels()]


def entries(figure):
    return [plain(text.get_text()) for text in figure.subfigs[0].legends[0].get_texts()]


def curves(figure):
    """The gaps of each curve, ascending: its points but the first, which begins the line at 100 per cent."""
    return [line.get_xydata()[1:] for line in figure.axes[1].get_lines() if line.get_drawstyle() == "steps-post"]


class TestLadder:
    def test_rungs_are_means_and_steps_have_paired_errors(self):
        evidence, elbos, amortized = gap_case(50)
        figure = gaps(evidence, elbos, amortized=amortized, by="ais")
        ladder = [amortized, *elbos.values(), evidence]
        names = ["encoder", "diagonal", "full", "flow", "evidence"]
        expected = [f"{name} {values.mean():.2f}" for name, values in zip(names, ladder, strict=True)]
        assert rungs(figure) == [*expected[:-1], f"{expected[-1]} (ais)"]
        drawn = [line.get_ydata() for line in figure.axes[0].get_lines() if line.get_solid_capstyle() == "butt"]
        np.testing.assert_allclose(drawn, [[values.mean()] * 2 for values in ladder])
        for label, lower, upper in zip(steps(figure), ladder, ladder[1:], strict=False):
            step, error = (float(part) for part in label.split(" ± "))
            gained = upper - lower
            assert label.startswith("+")
            assert step == pytest.approx(gained.mean(), abs=0.006)
            assert error == pytest.approx(np.sqrt(gained.var(ddof=1) / 50), rel=0.06)

    def test_the_error_is_that_of_the_difference(self):
        evidence = np.array([-100.0, -10.0, -55.0])
        figure = gaps(evidence, {"full": evidence - [1.0, 2.0, 3.0]}, amortized=evidence - 5)
        assert steps(figure) == ["+3.00 ± 0.58", "+2.00 ± 0.58"]
        assert figure.get_suptitle() == "Inference gap: 5 nats per datum, mean of 3 data"

    def test_a_step_down_is_labelled_and_drawn_as_it_is(self):
        figure = gaps([-9.0], {"diagonal": [-10.0], "full": [-10.25]}, amortized=[-9.75])
        assert steps(figure) == ["-0.25", "-0.25", "+1.25"]
        assert figure.get_suptitle() == "Inference gap: 0.75 nats at the one datum"
        assert [curve[:, 0].tolist() for curve in curves(figure)] == [[-0.25], [1.0], [1.25]]

    def test_without_an_encoder(self):
        figure = gaps([-9.0, -8.0], {"diagonal": [-10.0, -10.0], "full": [-9.5, -8.25]})
        assert rungs(figure) == ["diagonal -10.00", "full -8.88", "evidence -8.50"]
        assert figure.get_suptitle() == "Approximation gap (diagonal): 1.50 ± 0.50 nats per datum, mean of 2 data"
        assert entries(figure) == ["approximation (diagonal): 1.50 ± 0.50", "approximation (full): 0.38 ± 0.12"]


class TestShares:
    def test_the_share_of_the_data_with_a_larger_gap(self):
        evidence, elbos, amortized = gap_case(200)
        figure = gaps(evidence, elbos, amortized=amortized)
        expected = [elbos["diagonal"] - amortized, *(evidence - elbo for elbo in elbos.values())]
        for drawn, values in zip(curves(figure), expected, strict=True):
            np.testing.assert_array_equal(drawn[:, 0], np.sort(values))
            np.testing.assert_allclose(drawn[:, 1], [(values > x).mean() for x in drawn[:, 0]], atol=1e-12)
        marks = [
            line
            for line in figure.axes[1].get_lines()
            if line.get_linestyle() == "None" and line.get_marker() in "o^sD"
        ]
        for mark, values in zip(marks, expected, strict=True):
            assert mark.get_xdata()[0] == pytest.approx(values.mean())
            assert mark.get_ydata()[0] == pytest.approx((values > values.mean()).mean())
        means = [float(entry.split(": ")[1].split(" ± ")[0]) for entry in entries(figure)]
        np.testing.assert_allclose(means, [values.mean() for values in expected], atol=0.06)

    def test_amortization_and_approximation_add_up(self):
        evidence, elbos, amortized = gap_case(100)
        first, second = (drawn[:, 0].sum() for drawn in curves(gaps(evidence, elbos, amortized=amortized))[:2])
        assert first + second == pytest.approx((evidence - amortized).sum())

    def test_a_heavy_tail_is_on_the_axis_and_does_not_squash_the_rest(self):
        figure = gap_figure(1000)
        ax = figure.axes[1]
        worst = max(curve[-1, 0] for curve in curves(figure))
        assert worst > 50
        assert ax.get_xlim()[1] > worst
        places = ax.transAxes.inverted().transform(ax.transData.transform([[0.5, 0], [5, 0]]))[:, 0]
        assert places[1] - places[0] > 0.2  # on a linear axis, less than 0.09
        assert "beyond" not in note(figure)

    def test_a_note_reports_gaps_that_are_off_the_axis(self):
        evidence, elbos, amortized = gap_case(1000)
        amortized[5] -= 1e6
        elbos["full"][[6, 7]] += [1e5, 2e5]
        figure = gaps(evidence, elbos, amortized=amortized)
        low, high = figure.axes[1].get_xlim()
        assert high < 2000
        assert low > -10
        text = note(figure).split("\n")[0]
        assert text.startswith("beyond the axis, but in the means: amortization 1, furthest 10000")
        assert "approximation (full) 2, furthest -1999" in text
        assert text.endswith("(of 1000 data)")

    def test_half_of_a_few_data_is_never_off_the_axis(self):
        figure = gaps([0.0, 0.0], {"diagonal": [0.0, -5000.0]})
        assert figure.axes[1].get_xlim()[1] > 5000

    def test_gaps_below_zero_are_counted(self):
        figure = gaps([-3.0, -2.0, -1.0], {"diagonal": [-2.5, -3.0, -2.0]}, amortized=[-2.4, -2.9, -2.5])
        assert note(figure).endswith("amortization 2, approximation (diagonal) 1 of 3 data")
        assert figure.axes[1].get_xlim()[0] < -0.5
        assert note(gaps([-3.0], {"diagonal": [-3.5]})) == ""

    def test_ticks_are_round_and_zero_is_one(self):
        for low, high, width in [(-0.1, 0.3, 0.01), (-5, 1e5, 0.2), (-30, 2, 3), (-1e-6, 1e-6, 1e-6), (-2, 4000, 500)]:
            ticks = _ticks(low, high, width)
            assert 0 in ticks
            assert len(ticks) >= 3
            assert low <= min(ticks)
            assert max(ticks) <= high
            leading = {f"{abs(tick):.6e}".split("e")[0] for tick in ticks if tick}
            assert leading <= {"1.000000", "2.000000", "5.000000"}


class TestLeftOut:
    def test_a_datum_that_is_not_finite_is_left_out_everywhere_and_a_note_reports_it(self):
        evidence, elbos, amortized = gap_case(40)
        kept = np.arange(40) >= 4
        clean = gaps(evidence[kept], {k: v[kept] for k, v in elbos.items()}, amortized=amortized[kept])
        evidence[:2], amortized[1], elbos["flow"][[2, 3]] = -INF, NAN, [INF, -INF]
        figure = gaps(evidence, elbos, amortized=amortized)
        text = "4 of 40 data left out, not finite: ELBO of the encoder at 1, ELBO of flow at 2, evidence at 2"
        assert note(figure).split("\n")[0] == text
        assert figure.get_suptitle() == clean.get_suptitle()
        assert "mean of 36 data" in figure.get_suptitle()
        assert steps(figure) == steps(clean)
        for one, other in zip(curves(figure), curves(clean), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize(
        ("evidence", "families", "amortized", "message"),
        [
            ([-1.0], {}, None, "expected one to 3, got 0"),
            ([-1.0], {name: [-2.0] for name in "abcd"}, None, "expected one to 3, got 4"),
            ([-1.0], {"amortized": [-2.0]}, [-3.0], "not names of a family"),
            (
                [-1.0, -2.0],
                {"full": [-2.0]},
                None,
                r"families\['full'\]: expected one number .* of the 2 data .*, got 1",
            ),
            ([-1.0], {"full": [[-2.0, -3.0]]}, None, r"families\['full'\]: .* got shape \(1, 2\)"),
            ([-1.0], {"full": [-2.0]}, [-3.0, -4.0], "amortized: expected one number for each of the 1 data"),
            ([[-1.0, -2.0]], {"full": [-2.0]}, None, r"log_evidence: .* got shape \(1, 2\)"),
            ([], {"full": []}, None, "log_evidence: .* at least one datum"),
            (-1.0, {"full": [-1.0]}, None, "log_evidence: expected an array"),
            ([-INF, -1.0], {"full": [-2.0, NAN]}, None, "no datum has finite numbers only"),
        ],
    )
    def test_bad_input(self, evidence, families, amortized, message):
        with pytest.raises(InputError, match=message):
            gaps(evidence, families, amortized=amortized)


def test_neither_grey_nor_the_shape_alone_tells_two_gaps_apart():
    styles = [AMORTIZED, *FAMILIES]
    assert len({str(style["linestyle"]) for style in styles}) == len({style["marker"] for style in styles}) == 4
    shades = [float(np.dot(to_rgb(style["color"]), [0.299, 0.587, 0.114])) for style in FAMILIES]
    assert max(np.diff(shades)) < -0.15
