"""A two-sample test: can a classifier separate data from draws of the model?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

NUM_NEIGHBORS = 5
NUM_PERMUTATIONS = 999


class ClassifierTest(NamedTuple):
    """The accuracy of a classifier that separates two samples, and its distribution if they are alike."""

    accuracy: float
    """The mean probability that the classifier gives to the right sample, each point left out once."""
    chance: float
    """The mean of the accuracy if the samples are alike."""
    p_value: float
    probabilities: np.ndarray
    """The probability that a point belongs to the first sample, ``(N + M,)``; the points of the first come first."""


def classifier_test(
    first: ArrayLike,
    second: ArrayLike,
    random: np.random.Generator,
    *,
    num_neighbors: int = NUM_NEIGHBORS,
    num_permutations: int = NUM_PERMUTATIONS,
    paired: bool = False,
) -> ClassifierTest:
    r"""Test whether two samples have one distribution, by the accuracy of a classifier of nearest neighbours.

    A point is classified by the ``k`` points that are nearest to it, itself left out, which is cross-validation with
    one point in each part:

    .. math::
        a = \frac1{N + M} \sum_i \frac1k \sum_{j \in \text{nearest}(i)} 1[y_j = y_i], \qquad
        p = \frac{1 + \#\{b : a(\pi_b y) \ge a(y)\}}{1 + B}

    If the samples are alike, their labels can be permuted. The neighbours stay as they are, so that the accuracy of a
    permutation costs no training, and the p value is exact.

    Source: Schilling, Multivariate Two-Sample Tests Based on Nearest Neighbors (1986); Lopez-Paz and Oquab, Revisiting
    Classifier Two-Sample Tests (2017).

    Args:
        first: the first sample, ``(N, D)``.
        second: the second sample, ``(M, D)``.
        random: the generator of the permutations, and of the order of points at the same distance.
        num_neighbors: ``k``.
        num_permutations: ``B``.
        paired: True if row i of the first sample belongs to row i of the second one, so that only the two of them can
            be exchanged.

    Example:
        >>> random = np.random.default_rng(0)
        >>> alike = classifier_test(random.normal(size=(200, 3)), random.normal(size=(200, 3)), random)
        >>> other = classifier_test(random.normal(size=(200, 3)), random.normal(1, 1, size=(200, 3)), random)
        >>> alike.p_value > 0.05, other.p_value
        (True, 0.001)
    """
    samples = [part.reshape(len(part), -1) for part in (np.asarray(first, float), np.asarray(second, float))]
    points, size = np.concatenate(samples), len(samples[0])
    labels = np.arange(len(points)) < size
    scaled = _scaled(points) + 1e-7 * random.normal(size=points.shape)  # points at one place have neighbours at random
    count = min(num_neighbors, len(points) - 1)
    nearest = NearestNeighbors(n_neighbors=count).fit(scaled).kneighbors(return_distance=False)

    def accuracies(each: np.ndarray) -> np.ndarray:
        return (each[:, nearest] == each[:, :, None]).mean((1, 2))

    def permuted(times: int) -> np.ndarray:
        if not paired:
            return random.permuted(np.tile(labels, (times, 1)), axis=1)
        swapped = random.uniform(size=(times, size)) < 0.5
        return np.concatenate([~swapped, swapped], 1)

    accuracy, at_once = float(accuracies(labels[None])[0]), max(1, 2**24 // nearest.size)
    times = [min(at_once, num_permutations - done) for done in range(0, num_permutations, at_once)]
    by_chance = np.concatenate([accuracies(permuted(some)) for some in times])
    p_value = (1 + (by_chance >= accuracy - 1e-12).sum()) / (1 + num_permutations)
    return ClassifierTest(accuracy, float(by_chance.mean()), float(p_value), labels[nearest].mean(1))


def _scaled(points: np.ndarray) -> np.ndarray:
    """Return columns of one scale, cut at four standard deviations; those of zeros and ones stay as they are."""
    bits = np.isin(points, (0.0, 1.0)).all(0)
    return np.where(bits, points, np.clip(StandardScaler().fit_transform(points), -4, 4))
