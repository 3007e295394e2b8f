"""Tests of what the artists of the figures of evidence and of latent dimensions show."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from scipy.stats import norm

from ppl_vae.errors import InputError
from ppl_vae.plots import (
    aggregated_posterior,
    bound_over_samples,
    divergence_per_dimension,
    pareto_k_histogram,
    sandwich,
    worst_explained,
)
from ppl_vae.plots.style import BLUE, ORANGE, PALE
from tests.helpers.figures import curve

RNG = np.random.default_rng(11)
INF, NAN = np.inf, np.nan
IMAGES = RNG.uniform(size=(24, 12))
Z = RNG.normal(size=(200, 20))


def plain(text):
    return text.replace("\N{MINUS SIGN}", "-")


def note(figure):
    return plain(figure.get_supxlabel())


def names(figure):
    """Return what the legend calls the lines, from the highest end to the lowest."""
    return [plain(text.get_text()) for text in figure.legends[0].get_texts()]


def labels(ax):
    return [plain(text.get_text()) for text in ax.texts]


class TestBound:
    def test_means_over_the_data_and_every_end_named(self):
        iwae = {1: np.array([-20.0, -18.0]), 10: np.array([-18.0, -17.0])}
        prior = {10: np.array([-18.5, -18.5]), 1: np.array([-90.0, -80.0])}
        figure = bound_over_samples({"iwae": iwae, "prior": prior}, exact=-17.25, references={"ais": -17.3})
        ax = figure.axes[0]
        lines = {line.get_label(): line for line in ax.get_lines()}
        assert lines["iwae"].get_xydata().tolist() == [[1, -19.0], [10, -17.5]]
        assert lines["prior"].get_xydata().tolist() == [[1, -85.0], [10, -18.5]]
        assert lines["exact"].get_ydata() == [-17.25, -17.25]
        assert lines["ais"].get_ydata() == [-17.3, -17.3]
        assert labels(ax) == ["ELBO -19.00"]
        assert names(figure) == ["exact -17.25", "ais -17.30", "iwae -17.50", "prior -18.50"]
        assert ax.get_xscale() == "log"
        assert len({(line.get_linestyle(), line.get_marker()) for line in ax.get_lines()}) == 4
        assert "nats per datum" in ax.get_ylabel()

    def test_values_far_below_are_in_a_note_and_do_not_squash_the_rest(self):
        figure = bound_over_samples({"iwae": curve(-17, 2), "prior": curve(-17.1, 20)})
        assert figure.axes[0].get_ylim()[0] > -20.5
        assert note(figure).startswith("prior lies below the axis up to K = 10, lowest -3")
        figure = bound_over_samples({"iwae": {1: [-19.0], 9: [-18]}, "prior": {9: [-60.0]}}, references={"ais": -99})
        assert note(figure) == "prior lies below the axis, -60.00 at K = 9\na reference lies below the axis: -99.00"
        assert names(figure) == ["iwae -18.00", "prior -60.00", "ais -99.00"]

    def test_a_datum_that_is_not_finite_is_left_out_of_every_mean(self):
        curves = {"iwae": {1: [-3.0, -5.0, -9.0], 2: [-2.0, -4.0, -INF]}, "prior": {1: [-5.0, -INF, -9.0], 2: [-4] * 3}}
        figure = bound_over_samples(curves)
        iwae, prior = figure.axes[0].get_lines()
        assert iwae.get_xydata().tolist() == [[1, -4.0], [2, -3.0]]
        assert prior.get_xydata().tolist() == [[2, -4.0]]
        assert figure.get_suptitle().endswith("mean of 2 data")
        assert "1 of 3 data left out" in note(figure)
        assert "prior: not finite below K = 2" in note(figure)

    def test_the_elbo_has_no_label_if_no_curve_begins_at_one_draw(self):
        assert labels(bound_over_samples({"iwae": {10: [-3.0]}}).axes[0]) == []

    @pytest.mark.parametrize(
        ("curves", "message"),
        [
            ({}, "expected one or more"),
            ({"iwae": {}}, "from 1 in 'iwae'"),
            ({"iwae": {0: [1.0]}}, "from 1 in 'iwae', got"),
            ({"iwae": {1: [1.0]}, "prior": {1: [1.0, 2.0]}}, "all of the same data"),
            ({"iwae": {1: [NAN]}}, "no datum has a finite bound"),
        ],
    )
    def test_bad_input(self, curves, message):
        with pytest.raises(InputError, match=message):
            bound_over_samples(curves)


class TestPareto:
    def test_every_datum_is_in_a_bar_and_the_colour_is_its_side(self):
        k = np.r_[RNG.normal(0.5, 0.2, 300), 0.7, np.nextafter(0.7, 1), -INF, -INF, INF, 5.0, NAN, -8.0]
        figure = pareto_k_histogram(k, 0.7)
        counts = {}
        for bar in figure.axes[0].patches:
            colour = tuple(bar.get_facecolor())
            counts[colour] = counts.get(colour, 0) + bar.get_height()
            if colour == to_rgba(ORANGE):
                assert bar.get_x() >= 0.7 - 1e-9
        bad = (k > 0.7).sum()
        assert counts == {to_rgba(BLUE): len(k) - bad - 1, to_rgba(ORANGE): bad, to_rgba(PALE): 1}
        assert f"{bad} of 308 data" in figure.get_suptitle()
        assert "k of 1 is not known" in note(figure)

    def test_a_threshold_beyond_the_axis_is_in_the_title(self):
        figure = pareto_k_histogram([0.1, 0.2, NAN], -2.3)
        assert len(figure.axes[0].get_lines()) == 0
        assert plain(figure.get_suptitle()).endswith("2 of 3 data (67 %) above -2.3")
        high = [bar for bar in figure.axes[0].patches if bar.get_height()]
        assert {bar.get_facecolor() for bar in high} == {to_rgba(ORANGE), to_rgba(PALE)}

    def test_bars_beside_the_axis(self):
        ax = pareto_k_histogram([0.3, -INF, -INF, INF, INF, INF, 7.0], 0.7).axes[0]
        names = dict(zip(ax.get_xticks(), [label.get_text() for label in ax.get_xticklabels()], strict=True))
        heights = {round(bar.get_x() + bar.get_width() / 2, 9): bar.get_height() for bar in ax.patches}
        at = {name: heights[round(x, 9)] for x, name in names.items() if "\n" in name}
        assert at == {"equal\nweights": 2, "2 or\nmore": 4}
        assert "\N{MINUS SIGN}1 or\nless" in [
            label.get_text() for label in pareto_k_histogram([-1.5, -INF], 0.7).axes[0].get_xticklabels()
        ]
        assert min(names) == next(x for x, name in names.items() if name == "equal\nweights")

    def test_heights_are_counts_by_interval(self):
        k = RNG.normal(0.5, 0.2, 150)
        for bar in pareto_k_histogram(k, 0.67).axes[0].patches:
            low = bar.get_x()
            assert bar.get_height() == ((k > low) & (k <= low + bar.get_width())).sum()

    def test_the_threshold_is_a_line_and_is_in_the_title(self):
        figure = pareto_k_histogram([0.1, 0.2], 0.625)
        (line,) = figure.axes[0].get_lines()
        assert list(line.get_xdata()) == [0.625, 0.625]
        assert labels(figure.axes[0]) == ["threshold 0.625"]
        assert figure.get_suptitle().endswith("none of 2 data above 0.625")
        assert note(figure) == ""
        with pytest.raises(InputError, match="at least one datum"):
            pareto_k_histogram([], 0.7)


class TestWorst:
    def test_images_are_labelled_under_their_reconstruction(self):
        evidence = np.linspace(-50, -20, 15)
        figure = worst_explained(IMAGES[:15], IMAGES[:15] ** 2, evidence, image_shape=(3, 4), rows=np.arange(15)[::-1])
        ax = figure.axes[0]
        assert labels(ax) == [f"row {14 - i}:\n{value:.1f}" for i, value in enumerate(evidence)]
        for i, text in enumerate(ax.texts):
            above, below = ax.images[i], ax.images[15 + i]
            np.testing.assert_array_equal(above.get_array(), IMAGES[i].reshape(3, 4))
            np.testing.assert_array_equal(below.get_array(), IMAGES[i].reshape(3, 4) ** 2)
            left, right, bottom, _ = below.get_extent()
            x, y = text.get_position()
            assert x == pytest.approx((left + right) / 2)
            assert bottom < y < bottom + 0.1

    def test_vectors_are_labelled_above(self):
        figure = worst_explained(IMAGES[:3], IMAGES[:3] ** 2, [-9.0, -8.0, -INF], rows=[5, 6, 7])
        assert [plain(ax.get_title()) for ax in figure.axes] == ["row 5: -9.0", "row 6: -8.0", "row 7: -inf"]
        np.testing.assert_array_equal(figure.axes[1].get_lines()[1].get_ydata(), IMAGES[1] ** 2)

    def test_the_title_reports_data_that_are_not_drawn(self):
        vectors = worst_explained(IMAGES, IMAGES, np.zeros(24))
        assert len(vectors.axes) == 12
        assert "(the worst 12 of 24)" in vectors.get_suptitle()
        images = worst_explained(IMAGES, IMAGES, np.zeros(24), image_shape=(3, 4))
        assert len(images.axes[0].images) == 40
        assert "(the worst 20 of 24)" in images.get_suptitle()

    def test_bad_input(self):
        with pytest.raises(InputError, match="means: expected"):
            worst_explained(IMAGES, IMAGES[:3], np.zeros(24))
        with pytest.raises(InputError, match="log_evidence: expected one for each of the 24 data, got 3"):
            worst_explained(IMAGES, IMAGES, np.zeros(3))
        with pytest.raises(InputError, match="rows: expected one"):
            worst_explained(IMAGES, IMAGES, np.zeros(24), rows=[1])
        with pytest.raises(InputError, match="image_shape"):
            worst_explained(IMAGES, IMAGES, np.zeros(24), image_shape=(5, 5))


class TestSandwich:
    def test_each_datum_has_an_interval_above_the_middle_of_its_bounds(self):
        figure = sandwich([-20.0, -30.0, -40.0], [-19.5, -30.25, -39.0])
        ax = figure.axes[0]
        segments = [s.tolist() for s in ax.collections[0].get_segments()]
        assert segments == [[[-39.5, 0], [-39.5, 1]], [[-30.125, -0.25], [-30.125, 0]], [[-19.75, 0], [-19.75, 0.5]]]
        wide, crossed, zero, mean = ax.get_lines()
        assert wide.get_xydata().tolist() == [[-39.5, 1.0], [-19.75, 0.5]]
        assert crossed.get_xydata().tolist() == [[-30.125, -0.25]]
        assert zero.get_ydata() == [0, 0]
        assert mean.get_ydata()[0] == pytest.approx(1.25 / 3)
        assert figure.get_suptitle().endswith("3 simulated data: mean width 0.42 nats")
        assert note(figure) == "median 0.5, largest 1\n1 crossed (triangles): the bounds are random"

    def test_bounds_that_are_not_finite_are_left_out_and_counted(self):
        figure = sandwich([-30.0, -INF, -31.0], [-29.9, -3.0, NAN])
        assert "1 simulated datum" in figure.get_suptitle()
        assert note(figure) == "2 of 3 not finite, left out"

    def test_bad_input(self):
        with pytest.raises(InputError, match="upper: expected as many"):
            sandwich([1.0, 2.0], [1.0])
        with pytest.raises(InputError, match="no datum has two finite bounds"):
            sandwich([-INF], [1.0])


class TestDivergence:
    def test_bars_descend_and_those_of_inactive_dimensions_are_pale(self):
        figure = divergence_per_dimension([0.5, 3.0, NAN, 0.001, 2.0], [True, True, False, False, True])
        ax = figure.axes[0]
        bars = sorted((bar for bar in ax.patches), key=lambda bar: bar.get_x())
        assert [bar.get_height() for bar in bars] == [3.0, 2.0, 0.5, 0.001]
        assert [bar.get_facecolor() for bar in bars] == [to_rgba(BLUE)] * 3 + [to_rgba(PALE)]
        assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4", "0", "3"]
        assert figure.get_suptitle() == "3 of 5 latent dimensions active, KL 5.5 nats per datum"
        assert note(figure) == "not finite at 1 of 5 dimensions"

    def test_errors_are_intervals_and_an_estimate_below_zero_is_explained(self):
        figure = divergence_per_dimension([0.5, -0.02], [True, False], errors=[0.1, 0.03])
        (bars,) = figure.axes[0].collections
        ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
        np.testing.assert_allclose(ends, [[0.4, 0.6], [-0.05, 0.01]])
        assert note(figure) == "intervals: ± the error over data\n1 below zero, where no KL is: estimated from draws"

    def test_an_inactive_tail_is_left_out_and_summed(self):
        kl = np.r_[np.full(3, 2.0), np.full(197, 0.01)]
        figure = divergence_per_dimension(kl, kl > 1)
        assert len(figure.axes[0].patches) == 60
        assert note(figure) == "140 more inactive dimensions, 1.4 nats in all, left out"
        assert len(divergence_per_dimension(kl, np.ones(200, bool)).axes[0].patches) == 200

    def test_bad_input(self):
        with pytest.raises(InputError, match="active: expected one for each of the 2"):
            divergence_per_dimension([1.0, 2.0], [True])
        with pytest.raises(InputError, match="finite divergence"):
            divergence_per_dimension([NAN], [True])


class TestAggregate:
    def test_the_most_different_dimension_is_first_and_both_have_the_same_bins(self):
        draws, prior = Z[:150, :2] * 0.5, Z[:, 2:4]
        figure = aggregated_posterior(draws, prior, [0.1, 0.7])
        assert [ax.get_title() for ax in figure.axes] == ["z[1]: KL 0.70", "z[0]: KL 0.10"]
        posterior_bars, prior_bars = (patch.get_data() for patch in figure.axes[0].patches)
        np.testing.assert_array_equal(posterior_bars.edges, prior_bars.edges)
        np.testing.assert_allclose(posterior_bars.values, np.histogram(draws[:, 1], posterior_bars.edges)[0] / 150)
        np.testing.assert_allclose(prior_bars.values, np.histogram(prior[:, 1], posterior_bars.edges)[0] / 200)
        assert posterior_bars.values.sum() > 0.97
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["aggregated posterior", "prior"]

    def test_an_estimate_below_zero_has_its_error_and_a_gaussian_prior_is_its_curve(self):
        figure = aggregated_posterior(
            Z[:, :2], Z[:, 2:4], [-0.02, 0.1], errors=[0.03, 0.001], gaussian_prior=[[0.5, NAN], [2.0, NAN]]
        )
        titles = [plain(ax.get_title()) for ax in figure.axes]
        assert titles == ["z[1]: KL 0.100 ± 0.001", "z[0]: KL -0.02 ± 0.03"]
        assert [len(ax.patches) for ax in figure.axes] == [2, 1]
        assert figure.axes[0].get_lines() == []
        x, y = figure.axes[1].get_lines()[0].get_data()
        (bars,) = (patch.get_data() for patch in figure.axes[1].patches)
        np.testing.assert_allclose(y, norm.pdf(x, 0.5, 2.0) * np.diff(bars.edges)[0])

    def test_at_most_sixteen_dimensions_are_drawn(self):
        figure = aggregated_posterior(Z, Z, np.r_[NAN, np.arange(19)])
        assert len(figure.axes) == 16
        assert figure.axes[0].get_title().startswith("z[19]")
        assert "the 16 of 20 dimensions that differ most" in figure.get_suptitle()

    def test_discrete_values_have_a_bin_each(self):
        counts = RNG.poisson(3, (400, 1))
        posterior_bars, _ = (p.get_data() for p in aggregated_posterior(counts, counts, [0.0]).axes[0].patches)
        values, expected = np.unique(counts, return_counts=True)
        np.testing.assert_allclose(posterior_bars.values, expected / 400)
        assert ((posterior_bars.edges[:-1] < values) & (values < posterior_bars.edges[1:])).all()

    def test_a_heavy_tail_does_not_squash_the_rest(self):
        prior = RNG.standard_t(1, (4000, 1))
        low, high = aggregated_posterior(Z[:, :1], prior, [0.0]).axes[0].get_xlim()
        assert -12 < low < -2
        assert 2 < high < 12

    def test_dimensions_without_draws_are_left_out(self):
        draws = Z[:, :3].copy()
        draws[:, 1] = NAN
        draws[0, 0] = INF
        figure = aggregated_posterior(draws, Z[:, :3], [1.0, 9.0, NAN])
        assert [ax.get_title() for ax in figure.axes] == ["z[0]: KL 1.00", "z[2]: KL not known"]
        assert "201 draws not finite" in figure.get_suptitle()
        with pytest.raises(InputError, match="finite draws of both"):
            aggregated_posterior(draws[:, 1], Z[:, 1], [0.0])

    def test_bad_input(self):
        with pytest.raises(InputError, match="draws: expected"):
            aggregated_posterior(Z, Z[:, :3], np.zeros(20))
