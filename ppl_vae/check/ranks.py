"""Ranks of a value among draws, randomised where there are ties, so that they are uniform if the draws are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def randomised_ranks(
    values: ArrayLike, draws: ArrayLike, random: np.random.Generator, log_weights: ArrayLike | None = None
) -> np.ndarray:
    r"""Return the rank of each value among its draws as a number between 0 and 1.

    .. math::
        u = \frac{\#\{z_k < z\} + U\,(\#\{z_k = z\} + 1)}{K + 1}, \qquad U \sim \mathrm{Uniform}(0, 1)

    If value and draws are exchangeable, as a latent from which a datum was simulated and draws of the datum's
    posterior are, u is uniform on (0, 1) exactly, for any ``K``, and for discrete values too. With weights,

    .. math::
        u = \frac{\sum_k w_k 1[z_k < z] + U\,(\sum_k w_k 1[z_k = z] + w)}{\sum_k w_k + w}, \qquad
        P(w = w_k) = \frac{w_k}{\sum_j w_j}

    where w stands for the weight that a draw of the posterior would have: the value is then one of ``K + 1``
    particles, drawn by their weights. u is uniform approximately. If the weights do not depend on the places of the
    draws, as those of annealed chains hardly do, a dozen effective draws are enough.

    Source: Talts, Betancourt, Simpson, Vehtari and Gelman, Validating Bayesian Inference Algorithms with
    Simulation-Based Calibration (2018), theorem 1; Modrak et al., Simulation-Based Calibration Checking for Bayesian
    Computation: The Choice of Test Quantities Shapes Sensitivity (2023), for ties; Andrieu, Doucet and Holenstein,
    Particle Markov Chain Monte Carlo Methods (2010), section 4, for a draw of the posterior among weighted particles.

    Args:
        values: the values, ``(N, ...)``.
        draws: ``K`` draws for each, ``(K, N, ...)``.
        random: the generator of U.
        log_weights: the logarithms of the weights of the draws, ``(K, N)``; equal weights by default.

    Returns:
        np.ndarray: ``(N, ...)``; NaN where the value or a draw of it is NaN.

    Example:
        >>> random = np.random.default_rng(0)
        >>> randomised_ranks([2.5], [[1.0], [2.0], [3.0]], random).round(2)  # between 2/4 and 3/4
        array([0.66])
        >>> u = randomised_ranks(random.poisson(1, 10_000), random.poisson(1, (20, 10_000)), random)
        >>> bool(abs(u.mean() - 0.5) < 0.01)
        True
    """
    value, drawn = np.asarray(values), np.asarray(draws)
    if log_weights is None:
        below, equal = (drawn < value).sum(0, dtype=float), (drawn == value).sum(0, dtype=float)
        ranks = ranks_of_counts(below, equal, float(len(drawn)), random)
    else:
        weights = normalised(log_weights)
        below, equal = (np.einsum("kn,kn...->n...", weights, part) for part in (drawn < value, drawn == value))
        own = drawn_weights(weights, random)
        own = own.reshape(own.shape + (1,) * (value.ndim - 1))
        ranks = (below + random.uniform(size=below.shape) * (equal + own)) / (1 + own)
    return np.where(np.isnan(drawn).any(0) | np.isnan(value), np.nan, ranks)


def drawn_weights(weights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return one of the weights ``(K, N)`` of each datum, which sum to one, drawn by these weights, ``(N,)``."""
    index = (weights.cumsum(0) < random.uniform(size=weights.shape[1])).sum(0)
    return np.take_along_axis(weights, np.minimum(index, len(weights) - 1)[None], 0)[0]


def ranks_of_counts(below: np.ndarray, equal: np.ndarray, total: float, random: np.random.Generator) -> np.ndarray:
    """Return randomised ranks from the numbers of draws, of ``total``, that are below each value and equal to it."""
    return (below + random.uniform(size=below.shape) * (equal + 1)) / (total + 1)


def normalised(log_weights: ArrayLike) -> np.ndarray:
    """Return weights that sum to one over the draws, ``(K, N)``; they are equal if all weights of a datum are zero.

    Example:
        >>> normalised([[0.0], [np.log(3.0)]]).ravel().tolist()
        [0.25, 0.75]
    """
    logs = np.asarray(log_weights, float)
    most = logs.max(0, keepdims=True)
    weights = np.exp(logs - np.where(np.isfinite(most), most, 0.0))
    weights = np.where(weights.sum(0) > 0, weights, 1.0)
    return weights / weights.sum(0)


def tarp_ranks(
    values: ArrayLike,
    draws: ArrayLike,
    references: ArrayLike,
    random: np.random.Generator,
    log_weights: ArrayLike | None = None,
) -> np.ndarray:
    r"""Return the expected coverage probabilities of tests of accuracy with random points (TARP).

    .. math:: f_i = \text{the share of draws with}\ \lVert z_{ik} - r_i \rVert < \lVert z_i - r_i \rVert

    They are uniform for every choice of reference points, which may depend on the data and not on the latents, if and
    only if the posterior is right jointly in all dimensions.

    Source: Lemos, Coogan, Hezaveh and Perreault-Levasseur, Sampling-Based Accuracy Testing of Posterior Estimators for
    General Inference (2023), theorem 3.

    Args:
        values: the latents from which the data were simulated, ``(N, D)``.
        draws: draws of their posteriors, ``(K, N, D)``.
        references: the random points, ``(N, D)``.
        random: the generator that breaks ties.
        log_weights: as in ``randomised_ranks``.

    Example:
        >>> random = np.random.default_rng(0)
        >>> z = random.normal(size=(101, 5000, 2))
        >>> f = tarp_ranks(z[0], z[1:], random.normal(size=(5000, 2)), random)
        >>> bool(abs(f.mean() - 0.5) < 0.02)
        True
    """
    value, drawn, reference = (np.asarray(part, float) for part in (values, draws, references))
    scale = value.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    distances = [np.square((part - reference) / scale).sum(-1) for part in (value, drawn)]
    return randomised_ranks(distances[0], distances[1], random, log_weights)


def expected_coverage(ranks: ArrayLike, levels: ArrayLike) -> np.ndarray:
    r"""Return the shares of values that lie in the central intervals of these levels of their draws.

    .. math:: \hat c(\alpha) = \frac1{NQ} \sum_{iq} 1\bigl[\,|2 u_{iq} - 1| \le \alpha\,\bigr]

    A share is below its level if the draws are too narrow or in the wrong place.

    Source: Cook, Gelman and Rubin, Validation of Software for Bayesian Models Using Posterior Quantiles (2006); Hermans
    et al., A Crisis In Simulation-Based Inference? (2022), definition 2.1.

    Args:
        ranks: the ranks ``u`` of values among draws, of any shape; NaN does not count.
        levels: the levels, ``(L,)``.

    Example:
        >>> expected_coverage([0.1, 0.5, 0.6, 0.99], [0.5, 0.9]).tolist()
        [0.5, 0.75]
    """
    inner = np.abs(2 * np.asarray(ranks, float).ravel() - 1)
    return (inner[np.isfinite(inner), None] <= np.asarray(levels, float)).mean(0)
