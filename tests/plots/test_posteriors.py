"""Posteriors beside the prior, read back from the figure's artists."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ppl_vae.errors import InputError
from ppl_vae.plots import latent_space, posteriors_beside_prior
from ppl_vae.plots.posteriors import density
from tests.helpers.figures import FIGURES

RNG = np.random.default_rng(5)
PRIOR = RNG.normal(size=(3000, 14))
LOC, SCALE = np.array([-1.0, 0.5, 2.0]), 0.4
DRAWS = LOC[:, None] + SCALE * RNG.normal(size=(2000, 3, 14))


def curves(ax):
    """The prior's line first, then those of the data."""
    return [line.get_xydata() for line in ax.get_lines()]


def test_the_density_is_scipys_of_the_same_bandwidth():
    draws = RNG.normal(2, 3, size=400)
    at = np.linspace(-8, 12, 50)
    spread = min(draws.std(), stats.iqr(draws) / 1.34)
    reference = stats.gaussian_kde(draws, bw_method=0.9 * spread * 400**-0.2 / draws.std(ddof=1))
    np.testing.assert_allclose(density(draws, at), reference(at), rtol=1e-10)


@pytest.mark.parametrize("ends", [(0.0, np.inf), (0.0, 1.0)])
def test_a_density_with_ends_keeps_its_mass_within_them(ends):
    draws = RNG.uniform(size=1000) if ends[1] == 1 else RNG.exponential(size=1000)
    at = np.linspace(-1, 15, 3201)
    heights = density(draws, at, ends)
    assert heights.sum() * (at[1] - at[0]) == pytest.approx(1, abs=1e-2)  # half a point at an end
    assert not heights[(at < ends[0]) | (at > ends[1])].any()
    assert density(draws, np.array([0.0]), ends)[0] > 0.75  # 1 but for smoothing; without the fold 0.5


def test_each_axes_has_the_prior_and_the_posterior_of_each_datum():
    figure = posteriors_beside_prior(DRAWS[..., :2], PRIOR[:, :2], data=["a", "b", "c"])
    assert [ax.get_xlabel() for ax in figure.axes] == ["value of z[0]", "value of z[1]"]
    for ax in figure.axes:
        prior, *posteriors = curves(ax)
        np.testing.assert_allclose(prior[:, 1], stats.norm.pdf(prior[:, 0]), atol=0.04)
        for (x, y), loc in zip((each.T for each in posteriors), LOC, strict=True):
            np.testing.assert_allclose(y, stats.norm.pdf(x, loc, SCALE), atol=0.12)
        assert ax.get_ylabel() == "density"
        styles = [(line.get_color(), line.get_linestyle(), str(line._unscaled_dash_pattern)) for line in ax.get_lines()]
        assert len({style[0] for style in styles}) == 4
        assert len({style[2] for style in styles[1:]}) == 3  # distinct in grey
        low, high = ax.get_xlim()
        assert low < LOC[0] - 2 * SCALE
        assert high > LOC[2] + 2 * SCALE
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["prior", "a", "b", "c"]
    drawn = [line.get_color() for line in figure.axes[0].get_lines()[1:]]
    assert [handle.get_color() for handle in legend.get_lines()] == drawn


def test_a_gaussian_is_drawn_as_the_curve_that_it_is():
    moments = np.stack([np.stack([LOC, LOC], -1), np.full((3, 2), SCALE)])
    moments[:, 1, 0] = np.nan  # of this posterior, only the draws are known
    prior = np.array([[0.0, 0.2], [1.0, 0.5]])
    figure = posteriors_beside_prior(DRAWS[:20, :, :2], PRIOR[:20, :2], gaussian=moments, gaussian_prior=prior)
    for d, ax in enumerate(figure.axes):
        x, y = curves(ax)[0].T
        np.testing.assert_allclose(y, stats.norm.pdf(x, *prior[:, d]))
        for i in (0, 1, 2) if d else (0, 2):
            x, y = curves(ax)[i + 1].T
            np.testing.assert_allclose(y, stats.norm.pdf(x, LOC[i], SCALE))
    x, y = curves(figure.axes[0])[2].T
    assert abs(y - stats.norm.pdf(x, LOC[1], SCALE)).max() > 0.02
    with pytest.raises(InputError, match=r"gaussian: expected .* of shape \(2, 3, 2\), got \(2, 2\)"):
        posteriors_beside_prior(DRAWS[..., :2], PRIOR[:, :2], gaussian=np.zeros((2, 2)))


def test_whole_numbers_are_bars_of_their_shares():
    draws = np.stack([np.repeat([0, 1, 2], [50, 30, 20]), np.repeat([0, 1, 2], [0, 10, 90])], 1)[..., None]
    figure = posteriors_beside_prior(draws, np.repeat([0, 1, 2], [10, 20, 70])[:, None])
    (ax,) = figure.axes
    heights = np.reshape([bar.get_height() for bar in ax.patches], (3, 3))
    np.testing.assert_allclose(heights, [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0, 0.1, 0.9]])
    assert ax.get_ylabel() == "probability"
    for k, (left, right) in enumerate(zip(ax.patches[3:6], ax.patches[6:9], strict=True)):
        assert k - 0.5 < left.get_x() < right.get_x() < k + 0.5


def test_a_point_mass_is_a_line_at_its_place():
    ax = FIGURES["posteriors, constant"]().axes[0]
    assert [line.get_xdata()[0] for line in ax.get_lines()[1:]] == [0.25, 0.25]


def test_a_density_far_higher_than_the_prior_is_cut_off_and_the_title_reports_it():
    z = DRAWS[..., :1].copy()
    z[:, 0] = 0.3 + 1e-4 * RNG.normal(size=(2000, 1))
    figure = posteriors_beside_prior(z, PRIOR[:, :1])
    assert figure.axes[0].get_ylim()[1] < 10
    assert curves(figure.axes[0])[1][:, 1].max() > 1000  # its narrow peak is not missed between points
    assert "cut off at the top: a density in 1 of 1 axes" in figure.get_suptitle()
    assert "cut off" not in FIGURES["posteriors, one"]().get_suptitle()


def test_more_data_and_dimensions_than_there_is_room_for():
    figure = FIGURES["posteriors, many"]()
    assert len(figure.axes) == 12
    assert all(len(ax.get_lines()) == 7 for ax in figure.axes)
    assert figure.get_suptitle() == "mine\n(first 6 of 9 data, first 12 of 14 dimensions)"


def test_draws_that_are_not_finite_are_left_out():
    z = DRAWS[..., :1].copy()
    z[::2] = np.nan
    x, y = curves(posteriors_beside_prior(z, PRIOR[:, :1]).axes[0])[2].T
    np.testing.assert_allclose(y, stats.norm.pdf(x, LOC[1], SCALE), atol=0.15)
    z[:, 1] = np.nan
    with pytest.raises(InputError, match=r"no finite draw of datum 1 at z\[0\]"):
        posteriors_beside_prior(z, PRIOR[:, :1])


@pytest.mark.parametrize(
    ("draws", "prior", "options", "message"),
    [
        (DRAWS[0], PRIOR, {}, "draws: expected"),
        (DRAWS[..., :2], PRIOR, {}, "draws: expected"),
        (DRAWS, PRIOR, {"names": ["a"]}, "names: expected 14, or none, got 1"),
        (DRAWS, PRIOR, {"data": ["a"]}, "data: expected 3, or none, got 1"),
    ],
)
def test_bad_input(draws, prior, options, message):
    with pytest.raises(InputError, match=message) as error:
        posteriors_beside_prior(draws, prior, **options)
    assert "\n" not in str(error.value)


class TestGivenPlane:
    def test_coordinates_as_they_are_with_their_names(self):
        z = PRIOR[:40, :2]
        figure = latent_space(z, axes=("t-SNE 1", "t-SNE 2"), title="by t-SNE")
        ax = figure.axes[0]
        np.testing.assert_array_equal(ax.collections[0].get_offsets(), z)
        assert (ax.get_xlabel(), ax.get_ylabel(), figure.get_suptitle()) == ("t-SNE 1", "t-SNE 2", "by t-SNE")

    def test_a_title_alone_and_what_is_left_out(self):
        z = PRIOR[:40, :5].copy()
        z[0, 0] = np.nan
        figure = latent_space(z, title="mine")
        assert figure.get_suptitle() == "mine\n(1 not finite left out)"
        assert figure.axes[0].get_xlabel().startswith("principal component 1")

    def test_names_of_axes_are_refused_if_the_points_are_not_in_a_plane(self):
        with pytest.raises(InputError, match="z: expected coordinates"):
            latent_space(PRIOR, axes=("a", "b"))
