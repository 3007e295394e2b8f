"""The places of data in the latent space, in a plane and dimension by dimension."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference
from ppl_vae.evaluation.results import join
from ppl_vae.evidence import gaussian_divergence, marginal_divergence, marginal_divergence_error, prior_scales
from ppl_vae.inference.options import check_value
from ppl_vae.program import (
    Batch,
    BoundProgram,
    LatentMoments,
    gaussian_posteriors,
    gaussian_priors,
    names_of,
)
from ppl_vae.uses.description import Caption, describe_use
from ppl_vae.uses.embed import embed
from ppl_vae.uses.points import divergence_of_choices

Plane = Literal["pca", "tsne"]
DRAWS = 500
"""Number of draws from the posterior of each of a few data."""
UNIT = 0.2
"""The most that a standard deviation of draws may differ from one in order to count as one."""


@readable
class Latents(NamedTuple):
    """The places of data in the latent space, with draws from their posteriors and the prior."""

    plane: np.ndarray
    """Place of each datum, ``(N, 2)``; ``(N, 1)`` if there is one dimension."""
    axes: tuple[str, ...]
    """Names of the axes of the plane."""
    names: tuple[str, ...]
    """Names of the latent dimensions, ``D`` of them."""
    draws: np.ndarray
    """Draws from the posteriors of the first data, ``(K, n, D)``."""
    aggregated: np.ndarray
    """Draws from the aggregated posterior, one for each datum, ``(N, D)``."""
    prior: np.ndarray
    """Draws from the prior under the conditions of the same data, ``(N, D)``."""
    divergence: np.ndarray
    """KL of the posteriors of the first data from the prior in each dimension, ``(D,)``, nats: by moments, or by the
    shares of the values of a latent whose values are classes."""
    aggregated_divergence: np.ndarray
    """KL of the aggregated posterior from the prior in each dimension, ``(D,)``, nats."""
    aggregated_divergence_se: np.ndarray
    """Its error over draws, ``(D,)``."""
    gaussian: np.ndarray
    """Mean and standard deviation of the posteriors that are Gaussians, ``(2, n, D)``; zeros for the others."""
    gaussian_prior: np.ndarray
    """Mean and standard deviation of the prior where it is one Gaussian for all data, ``(2, D)``; else zeros."""


@describe_use(
    "latents",
    latent_space=Caption(
        "latents", "Data in the latent space", "Posterior means, coloured by label if there are labels."
    ),
    latent_posteriors=Caption(
        "latents", "Posteriors of some data", "The posterior of each dimension beside the prior."
    ),
    latent_aggregated=Caption(
        "latents",
        "The aggregated posterior",
        "One draw for each datum, beside draws from the prior; the largest KL first.",
    ),
)
def latents(vi: VariationalInference, *arrays: Any, by: Plane = "pca", num_data: int = 4) -> Latents:
    r"""Map data to the latent space, beside posteriors and the prior.

    .. math:: q(z) = \frac1N \sum_i q(z \mid x_i), \qquad\text{beside}\qquad p(z)

    The places are the posterior means if there are one or two dimensions. If there are more, the means are taken in
    units of the prior's standard deviation, and the places are their first two principal components, or a t-SNE. The
    code of an autoencoder has neither a posterior nor a prior, so that it has places and no draws.

    Source: van der Maaten and Hinton, Visualizing Data using t-SNE (2008); Hoffman and Johnson, ELBO surgery (2016),
    for the aggregated posterior.

    Args:
        vi: a fitted program.
        arrays: the data.
        by: projection of more than two dimensions, pca or tsne.
        num_data: number of data, the first ones, whose posteriors are drawn from, ``n``.

    Raises:
        InputError: the program has no latents, or there are too few data for a plane.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x = np.random.default_rng(0).integers(0, 2, (50, 6))
        >>> places = latents(VariationalInference(VAE(data_dim=6, latent_dim=3), max_epochs=1).fit(x), x)
        >>> places.plane.shape, places.draws.shape, places.axes[0]
        ((50, 2), (500, 4, 3), 'principal component 1 (... % of variance)')
    """
    check_value("by", by, Plane)
    embedding = embed(vi, *arrays)
    if not vi.program_.structure.latents:  # a code
        plane, axes = project(embedding.mean, embedding.names, by, vi.seed)
        none = np.zeros((0, len(embedding.names)))
        empty, moments = none[:, 0], np.zeros((2, len(embedding.names)))
        draws = none[:, None]
        return Latents(
            plane, axes, embedding.names, draws, embedding.mean, none, empty, empty, empty, moments[:, None], moments
        )
    named = vi.fitted.checked(arrays)
    first = {name: array[:num_data] for name, array in named.items()}
    drawn = vi.posterior(first, num_samples=DRAWS).latents

    def draw(program: BoundProgram, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor], LatentMoments]:
        return program.posterior(batch).latents, program.prior(batch).latents, gaussian_priors(program, batch)

    *sides, priors = zip(*vi.fitted.each_batch((named,), draw), strict=True)
    aggregated, prior = (_join_sites(join(list(parts), 1), drawn)[0] for parts in sides)
    gaussian_prior = _join_moments(priors, drawn, len(embedding.mean))
    num_first = len(next(iter(drawn.values()))[0])
    gaussian = _join_moments(vi.fitted.each_batch((first,), gaussian_posteriors), drawn, num_first)
    names = tuple(name for site, draws in drawn.items() for name in names_of(site, draws.shape[2:]))
    units = dict(zip(names, prior_scales(torch.from_numpy(prior), UNIT).tolist(), strict=True))
    scaled = embedding.mean / np.array([units.get(name, 1.0) for name in embedding.names])
    few = embedding.mean.shape[1] <= 2
    plane, axes = project(embedding.mean if few else scaled, embedding.names, by, vi.seed)
    draws = _join_sites(drawn, drawn)
    few_data = gaussian_divergence(torch.from_numpy(draws), torch.from_numpy(prior)).numpy()
    sites = [site for site, values in drawn.items() for _ in range(values[0, 0].size)]
    for column, site in enumerate(sites):
        if number := vi.fitted.classes.get(site):
            chosen, at_prior = (torch.from_numpy(side[..., column]).long() for side in (draws, prior))
            few_data[column] = divergence_of_choices(chosen, at_prior, number)
    both = torch.from_numpy(aggregated), torch.from_numpy(prior)
    all_data, error = (estimate(*both).numpy() for estimate in (marginal_divergence, marginal_divergence_error))
    return Latents(
        plane, axes, names, draws, aggregated, prior, few_data, all_data, error, gaussian,
        np.where((gaussian_prior == gaussian_prior[:, :1]).all(1), gaussian_prior[:, 0], 0.0),
    )  # fmt: skip


def project(z: np.ndarray, names: tuple[str, ...], by: Plane, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Project points ``(N, D)`` to a plane, ``(N, 2)``, and name its axes; one or two dimensions stay as they are."""
    if z.shape[1] <= 2:
        return z, names
    if len(z) < 3:
        raise InputError(f"{len(z)} data have no plane: give three or more")
    if by == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(z) - 1) / 3)
        places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(z.astype(np.float32))
        return places, ("t-SNE 1", "t-SNE 2")
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full").fit(z)
    shares = (
        f"principal component {i + 1} ({share:.0%} of variance)"
        for i, share in enumerate(np.nan_to_num(pca.explained_variance_ratio_))
    )
    return pca.transform(z), tuple(share.replace("%", " %") for share in shares)


def _join_sites(sites: dict[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    """Return latents ``(K, N, ...)`` of some sites as one array ``(K, N, D)``."""
    chosen = (sites[name] for name in names)
    return np.concatenate([draws.reshape(*draws.shape[:2], -1).astype(float) for draws in chosen], -1)


def _join_moments(parts: Sequence[LatentMoments], sites: Mapping[str, np.ndarray], num_data: int) -> np.ndarray:
    """Return mean and standard deviation of all sites as one array ``(2, N, D)``; zeros for those that have none."""
    columns = []
    for field in LatentMoments._fields:
        known = join([getattr(part, field) for part in parts])
        some = (known.get(name, np.zeros((num_data, *draws.shape[2:]))) for name, draws in sites.items())
        columns.append(np.concatenate([values.reshape(len(values), -1).astype(float) for values in some], 1))
    return np.stack(columns)
