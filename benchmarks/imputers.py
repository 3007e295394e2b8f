"""Imputers of tables: ours, and those of scikit-learn, as functions from a table with holes to what they fill in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

CODED = ("binary", "categorical", "ordinal")
SEED = 0


class Filled(NamedTuple):
    """What an imputer fills in; what was given is of no importance."""

    value: np.ndarray
    """Means of numbers, and the most probable codes, ``(N, D)``."""
    probabilities: dict[int, np.ndarray]
    """The probabilities of the codes of a column, ``(N, C)`` by its place; of ours and of frequencies only."""
    below: np.ndarray | None = None
    """The share of the draws that are smaller than the truth, ``(N, D)``; of ours only."""
    up_to: np.ndarray | None = None
    """The share of the draws that are not larger than the truth, ``(N, D)``."""


Imputer = Callable[[np.ndarray, Sequence[Mapping[str, Any]], np.ndarray], Filled]
"""Takes a table with NaN, its columns, and the truth, which only serves to count draws."""


def mean_or_mode(x: np.ndarray, columns: Sequence[Mapping[str, Any]], truth: np.ndarray) -> Filled:
    """Fill in the mean of a column of numbers, and the mode of a column of codes."""
    value, probabilities = np.tile(np.nanmean(x, 0), (len(x), 1)), {}
    for at, column in enumerate(columns):
        if column["kind"] in CODED:
            known = x[~np.isnan(x[:, at]), at].astype(int)
            share = np.bincount(known, minlength=len(column["categories"])) / len(known)
            value[:, at] = share.argmax()
            probabilities[at] = np.tile(share, (len(x), 1))
    return Filled(value, probabilities)


def by_scikit_learn(imputer: Any) -> Imputer:
    """Return an imputer of scikit-learn, which takes standardised numbers, and an indicator for each category.

    Ordinal and binary codes are numbers, and are rounded; with two indicators of one column, regressions would predict
    each from the other.

    Args:
        imputer: the imputer of tables of numbers.
    """

    def impute(x: np.ndarray, columns: Sequence[Mapping[str, Any]], truth: np.ndarray) -> Filled:
        loc, scale, parts, value = np.nanmean(x, 0), np.nanstd(x, 0), [], x.copy()
        for at, column in enumerate(columns):
            numbers = x[:, at : at + 1]
            if column["kind"] == "categorical":
                indicators = (numbers == np.arange(len(column["categories"]))).astype(float)
                parts.append(np.where(np.isnan(numbers), np.nan, indicators))
            else:
                parts.append((numbers - loc[at]) / scale[at])
        wide = np.concatenate(parts, 1)
        kept = np.nanstd(wide, 0) > 0
        filled = np.zeros_like(wide)
        filled[:, kept] = imputer.fit_transform(wide[:, kept])
        start = 0
        for at, (column, part) in enumerate(zip(columns, parts, strict=True)):
            numbers = filled[:, start : start + part.shape[1]]
            start += part.shape[1]
            value[:, at] = numbers.argmax(1) if column["kind"] == "categorical" else numbers[:, 0] * scale[at] + loc[at]
            if column["kind"] in ("binary", "ordinal"):
                value[:, at] = value[:, at].round().clip(0, len(column["categories"]) - 1)
        return Filled(value, {})

    return impute


def trees() -> ExtraTreesRegressor:
    """Return the trees of ``IterativeImputer``, as missForest has them."""
    return ExtraTreesRegressor(n_estimators=20, min_samples_leaf=3, max_features=0.5, random_state=SEED)


PEERS: dict[str, Imputer] = {
    "mean, mode": mean_or_mode,
    "KNNImputer": by_scikit_learn(KNNImputer(n_neighbors=5)),
    "IterativeImputer": by_scikit_learn(IterativeImputer(random_state=SEED)),
    "IterativeImputer, trees": by_scikit_learn(IterativeImputer(trees(), max_iter=4, random_state=SEED)),
}
