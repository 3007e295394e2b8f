"""The uses against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from ppl_vae import InputError, VariationalInference
from ppl_vae.models.cvae import CVAE
from ppl_vae.models.gmvae import GMVAE
from ppl_vae.models.hmm import HMM
from ppl_vae.models.mixture import Mixture
from ppl_vae.models.semi_supervised_vae import SemiSupervisedVAE
from ppl_vae.uses import (
    augment,
    embed,
    generate,
    interpolate,
    latents,
    listed_values,
    manifold,
    outliers,
    reconstruct,
    traverse,
)
from tests.helpers.known import Gaussian, factor_analysis


@pytest.fixture(scope="module")
def known() -> Gaussian:
    """A factor analysis whose encoder is its posterior, up to the correlation of its two latents."""
    result = factor_analysis(latent_dim=2)
    scaled = result.loadings / result.noise[:, None] ** 2
    _, covariance = result.posterior(result.x)
    weight = (scaled @ covariance).T
    with torch.no_grad():
        for name, parameter in result.vi.program_.module.named_parameters():
            if "encoder" in name and parameter.dim() == 2:
                parameter.copy_(torch.tensor(np.concatenate([weight, np.zeros_like(weight)])))
            elif "encoder" in name:
                parameter.copy_(torch.tensor(np.concatenate([-weight @ result.mean, np.full(2, 0.5)])))
    return result


def small(program: nn.Module, *arrays: np.ndarray) -> VariationalInference:
    torch.manual_seed(0)
    return VariationalInference(program, max_epochs=1, precision="64-true", compile="off").fit(*arrays)


@pytest.fixture(scope="module")
def labelled() -> VariationalInference:
    x, y = np.eye(5).repeat(8, 0), np.arange(40) // 8
    return small(CVAE(data_dim=5, num_classes=5, latent_dim=2, hidden=(8,)), x, y)


# ------------------------------------------------------------------------------------------------------ generate


def test_draws_have_the_models_mean_and_covariance(known: Gaussian) -> None:
    result = generate(known.vi, 20000)
    error = np.sqrt(np.diag(known.covariance) / 20000)
    assert (np.abs(result.draws["x"].mean(0) - known.mean) < 4.5 * error).all()
    covariance = np.cov(result.draws["x"].T)
    scale = np.sqrt(np.outer(np.diag(known.covariance), np.diag(known.covariance)) + known.covariance**2)
    assert (np.abs(covariance - known.covariance) < 4.5 * scale / np.sqrt(20000)).all()
    np.testing.assert_allclose(result.means["x"], known.mean + result.latents["z"] @ known.loadings.T, rtol=1e-10)


def test_a_condition_changes_only_what_depends_on_it(labelled: VariationalInference) -> None:
    three, four = generate(labelled, 6, y=3), generate(labelled, 6, y=4)
    np.testing.assert_array_equal(three.latents["z"], four.latents["z"])  # of one seed
    assert not np.allclose(three.means["x"], four.means["x"])
    mixed = generate(labelled, 6, y=np.array([3, 3, 3, 4, 4, 4]))
    np.testing.assert_allclose(mixed.means["x"][:3], three.means["x"][:3])
    np.testing.assert_allclose(mixed.means["x"][3:], four.means["x"][3:])


def test_a_latent_can_be_given() -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    vi = small(Mixture(data_dim=2, num_components=3), x)
    result = generate(vi, 4, c=2)
    np.testing.assert_allclose(result.means["x"], np.tile(vi.program.loc[2].detach().numpy(), (4, 1)))
    assert listed_values(vi, "c") == [0, 1, 2]
    z = generate(vi, 4, c=np.array([0, 1, 2, 0])).latents["c"]
    np.testing.assert_array_equal(z, [0, 1, 2, 0])


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"x": 1.0}, "the model draws 'x', so that it is no condition; conditions: y, z"),
        ({"label": 3}, "takes no condition 'label'"),
        ({"y": 2.5}, "whole numbers"),
        ({"y": np.arange(3)}, r"expected \(4,\)"),
    ],
)
def test_a_bad_condition_is_reported(labelled: VariationalInference, conditions: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(labelled, 4, **conditions)


def test_a_label_that_the_model_draws_is_no_condition() -> None:
    x, y = np.eye(4).repeat(5, 0), np.arange(20) % 4
    vi = small(SemiSupervisedVAE(data_dim=4, num_classes=4, latent_dim=2, style_dim=1, hidden=(5,)), x, y)
    assert set(vi.conditions) == {"w", "c", "z"}
    with pytest.raises(InputError, match="conditions: w, c, z"):
        generate(vi, 2, y=3)
    np.testing.assert_array_equal(generate(vi, 2, c=3).means["y"], [3, 3])


# -------------------------------------------------------------------------------- reconstruct, interpolate, augment


def test_a_reconstruction_is_the_mean_over_the_posterior(known: Gaussian) -> None:
    result = reconstruct(known.vi, known.x[:50], num_draws=400)
    posterior, _ = known.posterior(known.x[:50])
    mean = known.mean + posterior @ known.loadings.T
    sd = result.draws["x"].std(0)
    assert (np.abs(result.mean["x"] - mean) < 4.5 * sd / 20).all()
    np.testing.assert_allclose(result.data["x"], known.x[:50])


def test_a_path_goes_from_one_posterior_mean_to_the_other(known: Gaussian) -> None:
    start, end = known.x[:30], known.x[30:60]
    result = interpolate(known.vi, start, end, num_steps=5)
    a, b = (known.posterior(side)[0] for side in (start, end))
    sd = known.vi.program.encoder(torch.tensor(start))[1].detach().numpy().max()
    error = 4.5 * sd / 8 * np.abs(known.loadings).sum(1)  # means over 64 draws
    for weight, mean in zip(result.weights, result.means["x"], strict=True):
        exact = known.mean + ((1 - weight) * a + weight * b) @ known.loadings.T
        assert (np.abs(mean - exact) < error).all()
    middle = (result.means["x"][0] + result.means["x"][-1]) / 2
    np.testing.assert_allclose(result.means["x"][2], middle, rtol=1e-6, atol=1e-6)  # the decoder is linear


def test_a_great_circle_keeps_its_distance(known: Gaussian) -> None:
    result = interpolate(known.vi, known.x[:10], known.x[10:20], num_steps=7, path="circle")
    z = (result.means["x"] - known.mean) @ np.linalg.pinv(known.loadings).T
    radius = np.linalg.norm(z, axis=-1)
    weights = result.weights[:, None]
    np.testing.assert_allclose(radius, (1 - weights) * radius[0] + weights * radius[-1], rtol=1e-6)
    angles = np.unwrap(np.arctan2(z[..., 1], z[..., 0]), axis=0)
    np.testing.assert_allclose(np.diff(angles, 2, axis=0), 0, atol=1e-4)  # equal steps


def test_a_discrete_latent_switches_with_the_share_of_the_way() -> None:
    x = np.concatenate([np.full((20, 1), -3.0), np.full((20, 1), 3.0)]) + np.random.default_rng(0).normal(size=(40, 1))
    program = Mixture(data_dim=1, num_components=2)
    vi = small(program, x)
    with torch.no_grad():
        program.loc.copy_(torch.tensor([[-3.0], [3.0]]))
    result = interpolate(vi, np.array([[-3.0]]), np.array([[3.0]]), num_steps=5)
    np.testing.assert_allclose(result.means["x"][:, 0, 0], [-3, -1.5, 0, 1.5, 3], atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"), [({"num_steps": 1}, "num_steps is 1"), ({"path": "arc"}, "path='arc' is unknown")]
)
def test_a_bad_path_is_reported(known: Gaussian, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        interpolate(known.vi, known.x[:2], known.x[2:4], **options)
    with pytest.raises(InputError, match="2 data at the start and 3 at the end"):
        interpolate(known.vi, known.x[:2], known.x[:3])


def test_new_data_keep_their_labels_and_lie_near() -> None:
    known = factor_analysis(num_data=200)
    y = np.arange(200) % 7
    result = augment(known.vi, {"x": known.x, "y": y}, copies=3)
    np.testing.assert_array_equal(result.arrays["y"], np.repeat(y, 3))
    np.testing.assert_array_equal(result.rows, np.repeat(np.arange(200), 3))
    assert result.arrays["x"].shape == (600, 8)
    assert len(np.unique(result.arrays["x"][:, 0])) == 600


def test_sequences_that_are_new_keep_their_lengths() -> None:
    x, lengths = np.random.default_rng(0).integers(0, 2, (12, 5, 3)).astype(float), 1 + np.arange(12) % 5
    x *= (np.arange(5) < lengths[:, None])[..., None]
    vi = small(HMM(features=3, num_states=2), x, lengths)
    result = augment(vi, x, lengths, copies=2)
    np.testing.assert_array_equal(result.arrays["lengths"], np.repeat(lengths, 2))
    past = np.arange(5) >= result.arrays["lengths"][:, None]
    assert (result.arrays["x"][past] == 0).all()
    assert (result.arrays["x"][~past] == 1).any()


# ------------------------------------------------------------------------------------------- traverse, manifold


def test_a_traversal_moves_one_dimension_by_the_priors_scale(known: Gaussian) -> None:
    result = traverse(known.vi, known.x, num_steps=3, width=2.0)
    np.testing.assert_allclose(result.values, [[-2, 0, 2], [-2, 0, 2]], atol=1e-6)
    for name, mean in zip(result.names, result.means["x"][:, :, 0], strict=True):
        column = known.loadings[:, int(name[2])]
        np.testing.assert_allclose(np.diff(mean, axis=0), np.tile(2 * column, (2, 1)), rtol=1e-5)


def test_dimensions_are_in_the_order_of_their_divergence(known: Gaussian) -> None:
    result = traverse(known.vi, known.x, num_steps=2)
    loc, scale = (part.detach().numpy() for part in known.vi.program.encoder(torch.tensor(known.x)))
    exact = (-np.log(scale) + (scale**2 + loc**2) / 2 - 0.5).mean(0)
    order = np.argsort(-exact)
    assert result.names == tuple(f"z[{i}]" for i in order)
    # over 300 data and 64 draws of each; the prior's moments are of 2048 draws or more
    np.testing.assert_allclose(result.divergence, exact[order], rtol=0.1)


def test_a_discrete_latent_takes_each_of_its_values() -> None:
    x = np.random.default_rng(0).integers(0, 2, (30, 6)).astype(float)
    vi = small(GMVAE(data_dim=6, num_clusters=4, latent_dim=2, style_dim=1, hidden=(5,), component_hidden=(3,)), x)
    result = traverse(vi, x, num_steps=3, num_dimensions=None)
    assert sorted(result.names) == ["c", "w[0]", "z[0]", "z[1]"]
    row = result.names.index("c")
    np.testing.assert_array_equal(result.values[row], [0, 1, 2, 3])
    others = np.delete(result.values, row, 0)
    assert np.isnan(others[:, 3]).all()
    assert np.isfinite(others[:, :3]).all()


def test_a_manifold_is_a_grid_of_quantiles(known: Gaussian) -> None:
    result = manifold(known.vi, num_steps=4)
    quantiles = norm.ppf([0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(result.values[0], quantiles, atol=1e-6)
    np.testing.assert_allclose(result.values[1], quantiles[::-1], atol=1e-6)
    assert result.names == ("z[0]", "z[1]")
    for row, down in enumerate(result.values[1]):
        for column, across in enumerate(result.values[0]):
            exact = known.mean + known.loadings @ [across, down]
            np.testing.assert_allclose(result.means["x"][row, column], exact, rtol=1e-5, atol=1e-6)


def test_a_manifold_of_named_dimensions_and_of_one(known: Gaussian) -> None:
    result = manifold(known.vi, num_steps=3, dimensions=["z[1]"])
    assert result.means["x"].shape == (1, 3, 8)
    exact = known.mean + norm.ppf([1 / 6, 0.5, 5 / 6])[:, None] * known.loadings[:, 1]
    np.testing.assert_allclose(result.means["x"][0], exact, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=r"has the name 'z\[7\]'"):
        manifold(known.vi, dimensions=["z[0]", "z[7]"])


def test_a_manifold_under_a_condition(labelled: VariationalInference) -> None:
    one, other = (manifold(labelled, num_steps=2, y=label).means["x"] for label in (1, 2))
    assert not np.allclose(one, other)
    with pytest.raises(InputError, match="no place for the condition 'z'"):
        manifold(labelled, num_steps=2, z=0)


# -------------------------------------------------------------------------------------- embed, latents, outliers


def test_an_embedding_has_the_guides_moments(known: Gaussian) -> None:
    result = embed(known.vi, known.x)
    loc, scale = (part.detach().numpy() for part in known.vi.program.encoder(torch.tensor(known.x)))
    np.testing.assert_allclose(result.mean, loc, rtol=1e-10)
    np.testing.assert_allclose(result.sd, scale, rtol=1e-10)


def test_a_mixture_is_embedded_by_its_responsibilities() -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    vi = small(Mixture(data_dim=2, num_components=3), x)
    result = embed(vi, x)
    np.testing.assert_allclose(result.mean.sum(1), 1, rtol=1e-10)
    np.testing.assert_allclose(result.sd, np.sqrt(result.mean * (1 - result.mean)), rtol=1e-8, atol=1e-8)
    draws = vi.posterior(x, num_samples=4000).latents["c"]
    shares = np.stack([(draws == c).mean(0) for c in range(3)], 1)
    assert (np.abs(shares - result.mean) < 4.5 * result.sd / np.sqrt(4000) + 1e-12).all()


def test_the_places_are_posterior_means_and_the_draws_agree(known: Gaussian) -> None:
    result = latents(known.vi, known.x, num_data=3)
    np.testing.assert_allclose(result.plane, embed(known.vi, known.x).mean)
    assert result.axes == result.names == ("z[0]", "z[1]")
    assert result.draws.shape == (500, 3, 2)
    mean = embed(known.vi, known.x[:3])
    assert (np.abs(result.draws.mean(0) - mean.mean) < 4.5 * mean.sd / np.sqrt(500)).all()
    assert (np.abs(result.prior.mean(0)) < 4.5 / np.sqrt(300)).all()
    assert result.aggregated.shape == (300, 2)


def test_more_dimensions_are_projected_by_pca_or_tsne() -> None:
    known = factor_analysis(latent_dim=4, num_data=60)
    pca, tsne = (latents(known.vi, known.x, by=by) for by in ("pca", "tsne"))
    assert pca.plane.shape == tsne.plane.shape == (60, 2)
    assert "principal component 1" in pca.axes[0]
    assert tsne.axes == ("t-SNE 1", "t-SNE 2")
    centred = embed(known.vi, known.x).mean
    centred = centred - centred.mean(0)
    variance = np.linalg.svd(centred, compute_uv=False)[:2] ** 2
    np.testing.assert_allclose(np.square(pca.plane).sum(0), variance, rtol=1e-8)
    with pytest.raises(InputError, match="by='umap' is unknown"):
        latents(known.vi, known.x, by="umap")


def test_the_least_likely_come_first(known: Gaussian) -> None:
    far = known.x.copy()
    far[[7, 3]] += [[40.0], [20.0]]
    result = outliers(known.vi, far)
    assert result.estimator == "exact"
    assert result.order[:2].tolist() == [7, 3]
    marginal = torch.distributions.MultivariateNormal(torch.tensor(known.mean), torch.tensor(known.covariance))
    np.testing.assert_allclose(result.log_evidence, marginal.log_prob(torch.tensor(far)).numpy(), rtol=1e-8)
    assert (result.mcse == 0).all()
