"""Tests of what the artists of each figure show."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from ppl_vae.errors import InputError
from ppl_vae.plots import elbo_over_epochs, latent_space, prior_samples, reconstructions, sheet, worst_explained
from tests.helpers.figures import metrics

RNG = np.random.default_rng(7)
MINUS = "\N{MINUS SIGN}"


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def points(figure, which=0):
    offsets = np.asarray(figure.axes[0].collections[which].get_offsets())
    return offsets[np.lexsort(offsets.T)]


def in_order(array):
    return array[np.lexsort(array.T)]


UNIT = RNG.uniform(size=(7, 12))
WIDE = RNG.normal(size=(300, 4))


class TestElbo:
    def test_both_curves_are_drawn_and_the_best_epoch_is_marked(self):
        figure = elbo_over_epochs(metrics([-9, -5, -4, -3], [-9.5, -6.125, -6.5, -7]))
        drawn = lines(figure)
        assert drawn["training"].get_xydata().tolist() == [[1, -9], [2, -5], [3, -4], [4, -3]]
        assert drawn["validation"].get_ydata().tolist() == [-9.5, -6.125, -6.5, -7]
        best = f"best validation: {MINUS}6.12 at epoch 2"
        assert legend(figure) == ["training", "validation", best]
        assert drawn[best].get_xydata().tolist() == [[2, -6.125]]
        assert "nats per datum" in figure.axes[0].get_ylabel()
        assert figure.axes[0].get_xlabel() == "epoch"

    def test_a_single_epoch_is_visible(self):
        assert lines(elbo_over_epochs(metrics([-9])))["training"].get_marker() == "o"

    def test_without_validation(self):
        assert legend(elbo_over_epochs(metrics([-9, -5]))) == ["training"]

    def test_epochs_without_validation_are_skipped(self):
        table = metrics([-9, -5, -4])
        table[2]["elbo_valid"] = -6
        assert lines(elbo_over_epochs(table))["validation"].get_xydata().tolist() == [[3, -6]]

    def test_low_first_epochs_are_left_out_and_reported(self):
        curve = np.concatenate([[-900, -400], np.linspace(-100, -90, 48)])
        figure = elbo_over_epochs(metrics(curve))
        low, high = figure.axes[0].get_ylim()
        assert -110 < low < -100
        assert -90 < high < -80
        assert figure.get_supxlabel() == f"epochs 1 to 2 lie below the axis, lowest {MINUS}900.0"

    def test_a_later_collapse_is_never_left_out(self):
        curve = np.linspace(-100, -90, 50)
        curve[30] = -5000
        figure = elbo_over_epochs(metrics(curve))
        assert figure.axes[0].get_ylim()[0] < -5000
        assert figure.get_supxlabel() == ""

    def test_values_that_are_not_finite_are_reported(self):
        figure = elbo_over_epochs(metrics([-9, -8, -7], [-9, -8, np.nan]))
        assert figure.get_supxlabel() == "not finite at 1 epoch, first at 3"
        assert "at epoch 2" in legend(figure)[-1]

    @pytest.mark.parametrize("table", [[], [{"epoch": 1, "loss": 3.0}]])
    def test_nothing_to_draw(self, table):
        with pytest.raises(InputError, match="elbo_train"):
            elbo_over_epochs(table)


class TestImages:
    def test_pairs_are_the_input_on_one_scale_one_above_the_other(self):
        figure = reconstructions(UNIT, UNIT**2, image_shape=(3, 4))
        ax = figure.axes[0]
        drawn = [image.get_array().data for image in ax.images]
        np.testing.assert_array_equal(drawn[:7], UNIT.reshape(7, 3, 4))
        np.testing.assert_array_equal(drawn[7:], (UNIT**2).reshape(7, 3, 4))
        assert {image.get_clim() for image in ax.images} == {(0.0, 1.0)}
        for above, below in zip(ax.images[:7], ax.images[7:], strict=True):
            assert above.get_extent()[:2] == below.get_extent()[:2]
            assert above.get_extent()[2] < below.get_extent()[3]
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["original", "reconstruction"]

    def test_the_largest_value_is_the_darkest(self):
        image = prior_samples(UNIT, image_shape=(3, 4)).axes[0].images[0]
        assert sum(image.to_rgba(1.0)[:3]) < sum(image.to_rgba(0.0)[:3])

    @pytest.mark.parametrize("light", [False, True])
    def test_high_values_are_ink_or_light_as_asked(self, light):
        figures = [
            prior_samples(UNIT, image_shape=(3, 4), light=light),
            reconstructions(UNIT, UNIT, image_shape=(3, 4), light=light),
            worst_explained(UNIT, UNIT, np.zeros(7), image_shape=(3, 4), light=light),
            sheet(UNIT[None], title="t", image_shape=(3, 4), light=light),
        ]
        for figure in figures:
            image = figure.axes[0].images[0]
            assert image.to_rgba(1.0)[:3] == ((1, 1, 1) if light else (0, 0, 0))
            assert image.to_rgba(0.0)[:3] == ((0, 0, 0) if light else (1, 1, 1))

    def test_the_colour_bar_shows_that_values_lie_beyond_the_originals(self):
        figure = reconstructions(UNIT, UNIT - 0.9, image_shape=(3, 4))
        assert figure.axes[0].images[0].get_clim() == (0.0, 1.0)
        assert figure.axes[0].images[0].colorbar.extend == "min"

    def test_the_scale_is_the_range_of_data_beyond_the_unit_interval(self):
        draws = np.linspace(-3, 5, 24).reshape(2, 12)
        assert prior_samples(draws, image_shape=(3, 4)).axes[0].images[0].get_clim() == (-3.0, 5.0)

    def test_many_pairs_wrap_and_the_rest_is_reported(self):
        few = reconstructions(np.zeros((12, 4)), np.zeros((12, 4)), image_shape=(2, 2))
        assert len({image.get_extent()[2] for image in few.axes[0].images}) == 4
        many = reconstructions(np.zeros((90, 4)), np.zeros((90, 4)), image_shape=(2, 2))
        assert len(many.axes[0].images) == 80
        assert "(first 40 of 90)" in many.get_suptitle()

    def test_colour(self):
        x = RNG.uniform(0, 255, (2, 12))
        figure = reconstructions(x, x, image_shape=(2, 2, 3))
        expected = ((x - x.min()) / (x.max() - x.min())).reshape(2, 2, 2, 3)
        np.testing.assert_allclose(figure.axes[0].images[1].get_array(), expected[1])
        assert len(figure.axes) == 1
        assert "drawn as 0 to 1" in figure.get_supxlabel()

    def test_a_note_reports_missing_pixels(self):
        x = UNIT.copy()
        x[0, 0] = np.nan
        assert "missing" in reconstructions(x, UNIT, image_shape=(3, 4)).get_supxlabel()

    def test_square_grid(self):
        figure = prior_samples(np.zeros((16, 4)), image_shape=(2, 2), title="mine")
        assert len({image.get_extent()[0] for image in figure.axes[0].images}) == 4
        assert figure.get_suptitle() == "mine"

    @pytest.mark.parametrize("shape", [(5, 5), (12,), (3, 2, 2)])
    def test_wrong_shape(self, shape):
        with pytest.raises(InputError, match="image_shape"):
            prior_samples(UNIT, image_shape=shape)


class TestOtherData:
    def test_vectors_are_lines_on_shared_axes(self):
        figure = reconstructions(UNIT, UNIT**2)
        assert len(figure.axes) == 7
        for i, ax in enumerate(figure.axes):
            one, other = ax.get_lines()
            np.testing.assert_array_equal(one.get_ydata(), UNIT[i])
            np.testing.assert_array_equal(other.get_ydata(), UNIT[i] ** 2)
            assert one.get_linestyle() != other.get_linestyle()
            assert ax.get_ylim() == figure.axes[0].get_ylim()
        assert figure.axes[-1].get_xlabel() == "index of the value"
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["original", "reconstruction"]

    def test_points_are_joined(self):
        x, mean = WIDE[:, :2], WIDE[:, 2:]
        segments, first, second = reconstructions(x, mean).axes[0].collections
        np.testing.assert_array_equal(segments.get_segments(), np.stack([x, mean], 1))
        np.testing.assert_array_equal(first.get_offsets(), x)
        np.testing.assert_array_equal(second.get_offsets(), mean)

    def test_scalars_lie_about_the_identity(self):
        figure = reconstructions(WIDE[:, 0], WIDE[:, 1])
        (identity,) = figure.axes[0].get_lines()
        np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
        np.testing.assert_array_equal(points(figure), in_order(WIDE[:, :2]))
        assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("original", "reconstruction")

    def test_drawn_vectors_points_and_scalars(self):
        figure = prior_samples(UNIT)
        assert [ax.get_lines()[0].get_ydata().tolist() for ax in figure.axes] == UNIT.tolist()
        np.testing.assert_array_equal(points(prior_samples(WIDE[:, :2])), in_order(WIDE[:, :2]))
        bars = prior_samples(WIDE[:, 0]).axes[0].patches
        assert sum(bar.get_height() for bar in bars) == len(WIDE)

    def test_shapes_that_do_not_agree(self):
        with pytest.raises(InputError, match="means: expected"):
            reconstructions(UNIT, UNIT[:, :3])
        with pytest.raises(InputError, match="at least one datum"):
            prior_samples(np.zeros((0, 3)))


class TestLatentSpace:
    def test_two_dimensions_as_they_are_and_not_class_by_class(self):
        labels = np.repeat([3, 8], 150)
        figure = latent_space(WIDE[:, :2], labels)
        ax = figure.axes[0]
        np.testing.assert_array_equal(points(figure), in_order(WIDE[:, :2]))
        dots = ax.collections[0]
        colour = {tuple(z): tuple(c) for z, c in zip(dots.get_offsets(), dots.get_facecolors(), strict=True)}
        assert len({colour[tuple(z)] for z in WIDE[:150, :2]}) == 1
        assert len(set(colour.values())) == 2
        assert not np.array_equal(dots.get_offsets(), WIDE[:, :2])
        assert ax.get_aspect() == 1
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["3", "8"]
        at = {text.get_text(): text.get_position() for text in ax.texts}
        medians = {"3": np.median(WIDE[:150, :2], 0), "8": np.median(WIDE[150:, :2], 0)}
        step = 0.05 * np.ptp(WIDE[:, :2], 0).max()
        assert np.linalg.norm(medians["3"] - medians["8"]) < step  # here one name would lie on the other
        assert np.linalg.norm(np.subtract(at["3"], at["8"])) == pytest.approx(step)
        assert all(np.linalg.norm(at[name] - medians[name]) < step for name in at)

    @pytest.mark.parametrize("columns", [1, 2])
    def test_a_datum_without_a_label_is_grey_and_no_class(self, columns):
        labels = np.repeat([-1, *range(10)], [200, *[10] * 10])
        figure = latent_space(WIDE[:, :columns], labels)
        if columns == 1:
            assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [str(k) for k in range(10)]
            return
        grey, coloured = figure.axes[0].collections
        np.testing.assert_array_equal(in_order(np.asarray(grey.get_offsets())), in_order(WIDE[:200, :2]))
        assert len(coloured.get_offsets()) == 100
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [str(k) for k in range(10)]
        assert not latent_space(WIDE[:, :2], np.full(300, -1)).legends

    def test_names_that_have_room_are_at_the_medians(self):
        z = WIDE[:, :2] + np.repeat([[0.0, 0.0], [9.0, 9.0]], 150, axis=0)
        at = {text.get_text(): text.get_position() for text in latent_space(z, np.repeat([3, 8], 150)).axes[0].texts}
        assert at == {"3": tuple(np.median(z[:150], 0)), "8": tuple(np.median(z[150:], 0))}

    def test_more_dimensions_are_the_principal_components_of_scikit_learn(self):
        z = RNG.normal(size=(400, 5)) * [4, 2, 1, 1, 0.5] + 3
        pca = PCA(2).fit(z)
        figure = latent_space(z)
        first, second = pca.explained_variance_ratio_
        assert figure.axes[0].get_xlabel() == f"principal component 1 ({100 * first:.0f} % of variance)"
        assert figure.axes[0].get_ylabel() == f"principal component 2 ({100 * second:.0f} % of variance)"
        drawn = np.asarray(figure.axes[0].collections[0].get_offsets())
        np.testing.assert_allclose(np.abs(drawn), np.abs(pca.transform(z)), atol=1e-8)

    def test_the_picture_does_not_depend_on_the_order_of_the_data(self):
        np.testing.assert_allclose(points(latent_space(WIDE)), points(latent_space(WIDE[::-1])), atol=1e-9)

    @pytest.mark.parametrize("labels", [np.arange(300) % 11, WIDE[:, 3]], ids=["11 integers", "floats"])
    def test_many_labels_are_a_colour_bar(self, labels):
        figure = latent_space(WIDE, labels)
        assert len(figure.axes) == 2
        assert figure.axes[1].get_ylabel() == "label"
        assert figure.axes[0].collections[0].get_clim() == (labels.min(), labels.max())

    def test_one_dimension_by_class(self):
        figure = latent_space(WIDE[:, 0], np.where(WIDE[:, 0] > 0, "up", "down"))
        ax = figure.axes[0]
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["down", "up"]
        up, down = (patch.get_data() for patch in ax.patches)
        assert (up.values > 1).sum() > 1
        assert not np.any((up.values > 1) & (up.edges[1:] < 0))
        assert (down.baseline, up.baseline) == (0, 1)

    def test_one_dimension_counts_every_datum(self):
        assert sum(bar.get_height() for bar in latent_space(WIDE[:, 0]).axes[0].patches) == len(WIDE)

    def test_rows_that_are_not_finite_are_left_out_and_counted(self):
        z = WIDE.copy()
        z[:2, 1] = np.nan
        figure = latent_space(z, np.arange(300) % 2)
        assert "298 data" in figure.get_suptitle()
        assert "2 not finite" in figure.get_suptitle()
        with pytest.raises(InputError, match="diverge"):
            latent_space(np.full((3, 2), np.nan))

    def test_wrong_labels(self):
        with pytest.raises(InputError, match="labels: expected shape"):
            latent_space(WIDE, [1, 2])
        with pytest.raises(InputError, match="at most 10 names"):
            latent_space(WIDE, [f"word {i}" for i in range(300)])
