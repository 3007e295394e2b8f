"""Statistics of a set of data, by which the data are compared with data sets that are drawn from the model."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

MOST_CORRELATED, MOST_CLASSES = 128, 20
"""The largest number of columns whose correlations, and of classes whose shares, are statistics."""
UNEVEN = 20.0
"""The ratio of the largest to the median scale of columns above which each column is divided by its own."""


class StatisticsOfSite(NamedTuple):
    """The statistics of what one site observes, which are fixed before the data are seen.

    Attributes:
        centre: what is subtracted from each column, ``(D,)``.
        scale: what each column is divided by, ``(D,)``.
        correlated: the columns whose correlations count.
        image: height and width if the data are images, channels first.
        active: the value above which a pixel is active.
        classes: the number of classes if the values are classes, else zero.
    """

    centre: np.ndarray
    scale: np.ndarray
    correlated: np.ndarray
    image: tuple[int, int] | None
    active: float
    classes: int = 0

    @classmethod
    def of(cls, reference: np.ndarray, image: tuple[int, int] | None, classes: int = 0) -> StatisticsOfSite:
        """Fix the statistics by a data set that is drawn from the model and does not count among the replicates.

        Args:
            reference: the data set, ``(N, D)``.
            image: height and width if the data are images.
            classes: the number of classes if the values are classes, else zero.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of columns that are missing altogether
            sd, mean = np.nan_to_num(np.nanstd(reference, 0)), np.nan_to_num(np.nanmean(reference, 0))
            middle = (np.nanmax(reference) + np.nanmin(reference)) / 2
        varying = sd[sd > 0]
        uneven = varying.size > 0 and sd.max() > UNEVEN * np.median(varying)
        scale = np.where(sd > 0, sd, 1.0) if uneven else np.ones_like(sd)
        correlated = np.argsort(-sd, kind="stable")[:MOST_CORRELATED]
        centre = mean if uneven else np.zeros_like(sd)
        return cls(centre, scale, correlated[sd[correlated] > 0], image, float(middle), classes)

    def compute(self, x: np.ndarray) -> dict[str, float]:
        """Compute the statistics of a data set, ``(N, D)``; NaN is a missing number.

        Example:
            >>> site = StatisticsOfSite.of(np.random.default_rng(0).normal(size=(100, 2)), None)
            >>> site.compute(np.array([[0.0, 1.0], [2.0, 5.0]]))["zeros"]
            0.25
        """
        seen = ~np.isnan(x)
        values = x[seen]
        if self.classes:
            shares = np.bincount(values.astype(int), minlength=self.classes)[: self.classes] / max(1, len(values))
            return {f"share of {c}": float(share) for c, share in enumerate(shares[:MOST_CLASSES])}
        y = (x - self.centre) / self.scale
        whole = bool(seen.all())
        column_mean, column_variance = _moments(y, seen, whole)
        inner = y[seen]
        results = {
            "mean": float(inner.mean()),
            "standard deviation": float(np.sqrt(column_variance.mean())),
            "smallest": float(inner.min()),
            "largest": float(inner.max()),
            "zeros": float((values == 0).mean()),
            "whole numbers": float((values == np.rint(values)).mean()),
        }
        if x.shape[1] > 1:
            filled = y if whole else np.where(seen, y, column_mean)
            results["sd of the data's means"] = float(filled.mean(1).std())
            results["correlations"] = _correlation(filled[:, self.correlated])
        else:
            spread = np.sqrt(column_variance[0])
            results["skewness"] = float((((inner - inner.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0
        if self.image is not None:
            results["active area"] = float(_active_areas(np.nan_to_num(x) > self.active, self.image).mean())
        return results


def _moments(y: np.ndarray, seen: np.ndarray, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    if whole:
        return y.mean(0), y.var(0)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, y, 0.0).sum(0) / count
    return mean, np.where(seen, np.square(y - mean), 0.0).sum(0) / count


def _correlation(y: np.ndarray) -> float:
    """Return the root of the mean square of the correlations of different columns."""
    centred = y - y.mean(0)
    sd = centred.std(0)
    scaled = centred[:, sd > 0] / sd[sd > 0]
    count = scaled.shape[1]
    if count < 2:
        return 0.0
    squares = np.square(scaled.T @ scaled / len(y)).sum()
    return float(np.sqrt(max(0.0, squares - count) / (count * (count - 1))))


def _active_areas(active: np.ndarray, image: tuple[int, int]) -> np.ndarray:
    """Return the share of each image that lies in the smallest rectangle around its active pixels, ``(N,)``."""
    pixels: np.ndarray = active.reshape(len(active), -1, *image).max(1)
    sides = []
    for axis in (2, 1):
        line: np.ndarray = pixels.max(axis)
        first, last = line.argmax(1), line.shape[1] - 1 - line[:, ::-1].argmax(1)
        sides.append(np.where(line.max(1), last - first + 1, 0) / line.shape[1])
    return sides[0] * sides[1]
