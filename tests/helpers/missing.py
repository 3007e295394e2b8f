"""Factor analysis of data with missing numbers: the closed form of a row, and expectation maximisation."""

from __future__ import annotations

import numpy as np


def seen_log_prob(mean: np.ndarray, covariance: np.ndarray, row: np.ndarray) -> float:
    """Return the log density of the numbers of a row that are not NaN; zero if there is none."""
    seen = np.flatnonzero(~np.isnan(row))
    residual, part = row[seen] - mean[seen], covariance[np.ix_(seen, seen)]
    _, log_det = np.linalg.slogdet(part)
    return float(-0.5 * (residual @ np.linalg.solve(part, residual) + log_det + len(seen) * np.log(2 * np.pi)))


def maximise_expectation(x: np.ndarray, latent_dim: int, steps: int = 500) -> tuple[np.ndarray, np.ndarray]:
    r"""Return mean and covariance of a factor analysis whose likelihood of the seen numbers is highest.

    For each variable the loadings and the mean regress its seen numbers on the expected factors.

    Source: Rubin and Thayer, EM Algorithms for ML Factor Analysis (1982); Ghahramani and Jordan, Supervised learning
    from incomplete data via an EM approach (1994).

    Args:
        x: data, ``(N, D)``; a missing number is NaN.
        latent_dim: the number of factors.
        steps: the number of steps.
    """
    seen = ~np.isnan(x)
    number = np.where(seen, x, 0.0)
    loadings = np.random.default_rng(0).normal(size=(x.shape[1], latent_dim + 1))  # the last column is the mean
    noise = np.nanvar(x, 0)
    for _ in range(steps):
        weight = seen / noise
        precision = np.eye(latent_dim) + np.einsum("nd,di,dj->nij", weight, loadings[:, :-1], loadings[:, :-1])
        covariance = np.linalg.inv(precision)
        mean = np.einsum("nij,nd,dj,nd->ni", covariance, weight, loadings[:, :-1], number - loadings[:, -1])
        design = np.concatenate([mean, np.ones((len(x), 1))], 1)
        second = design[:, :, None] * design[:, None, :]
        second[:, :-1, :-1] += covariance
        for d in range(x.shape[1]):
            of_design, with_x = second[seen[:, d]].sum(0), number[:, d] @ design
            loadings[d] = np.linalg.solve(of_design, with_x)
            rest = number[seen[:, d], d] ** 2 @ np.ones(seen[:, d].sum()) - loadings[d] @ with_x
            noise[d] = rest / seen[:, d].sum()
    return loadings[:, -1], loadings[:, :-1] @ loadings[:, :-1].T + np.diag(noise)
