"""Imputers of tables: ours, and those of scikit-learn, as functions from a table with holes to what they fill in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from ppl_vae import VariationalInference
from ppl_vae.data import Variable, table_columns
from ppl_vae.data.kinds import CODED
from ppl_vae.data.source import NamedArrays
from ppl_vae.models.table_vae import TableVAE
from ppl_vae.program import seeded
from ppl_vae.uses import impute
from ppl_vae.uses.impute import ImputeBy

SEED, ROWS = 0, 2000
NUM_SAMPLES, NUM_DRAWS, NUM_CHAINS = 300, 100, 5
OPTIONS: dict[str, Any] = {
    "batch_size": 256,
    "learning_rate": 5e-3,
    "schedule": "cosine",
    "max_epochs": 400,
    "patience": None,
    "validation_fraction": 0.05,
    "extra_missing": 0.1,
    "compile": "on",
}
"""The options of all fits."""
CHOSEN_ON = (("wine", 10), ("credit", 10), ("adult", 30))
"""The cells by whose errors rate, bound and epochs were chosen; the others took no part."""


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


@dataclass(frozen=True, eq=False)
class Table:
    """A table with holes, NaN, its columns, and the truth, which only serves to count draws below it."""

    x: np.ndarray
    columns: list[dict[str, Any]]
    truth: np.ndarray


Imputer = Callable[[Table], Filled]


def mean_or_mode(table: Table) -> Filled:
    """Fill in the mean of a column of numbers, and the mode of a column of codes."""
    x, columns = table.x, table.columns
    value, probabilities = np.tile(np.nanmean(x, 0), (len(x), 1)), {}
    for at, column in enumerate(columns):
        if column["kind"] in CODED:
            known = x[~np.isnan(x[:, at]), at].astype(int)
            share = np.bincount(known, minlength=len(column["categories"])) / len(known)
            value[:, at] = share.argmax()
            probabilities[at] = np.tile(share, (len(x), 1))
    return Filled(value, probabilities)


def by_scikit_learn(imputer: Any, *, as_codes: bool = False) -> Imputer:
    """Return an imputer of scikit-learn, which takes standardised numbers.

    A categorical column has an indicator for each category, or its codes, which are rounded and cut to the range of the
    categories like those of ordinal and binary columns.

    Args:
        imputer: the imputer of tables of numbers.
        as_codes: if true, categories are given by their codes.
    """

    def fill_in(table: Table) -> Filled:
        x, columns = table.x, table.columns
        loc, scale, parts, value = np.nanmean(x, 0), np.nanstd(x, 0), [], x.copy()
        has_indicators = [column["kind"] == "categorical" and not as_codes for column in columns]
        for at, column in enumerate(columns):
            numbers = x[:, at : at + 1]
            if has_indicators[at]:
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
            value[:, at] = numbers.argmax(1) if has_indicators[at] else numbers[:, 0] * scale[at] + loc[at]
            if column["kind"] in CODED:
                value[:, at] = value[:, at].round().clip(0, len(column["categories"]) - 1)
        return Filled(value, {})

    return fill_in


def mice(table: Table) -> Filled:
    """Fill in the mean of draws of chained equations, and the code that most of them have."""
    chains = [IterativeImputer(sample_posterior=True, random_state=seed) for seed in range(NUM_CHAINS)]
    draws = np.stack([by_scikit_learn(chain, as_codes=True)(table).value for chain in chains])
    coded = [column["kind"] in CODED for column in table.columns]
    return Filled(np.where(coded, stats.mode(draws).mode, draws.mean(0)), {})


def trees() -> ExtraTreesRegressor:
    """Return the trees of ``IterativeImputer``, as missForest has them."""
    return ExtraTreesRegressor(n_estimators=20, min_samples_leaf=3, max_features=0.5, random_state=SEED)


@lru_cache(maxsize=1)
def fitted(table: Table) -> VariationalInference:
    """Return ``table_vae``, fitted to a table with holes; the last one is kept for the next imputer."""
    arrays = NamedArrays({"x": table.x}, {"x": tuple(Variable(**column) for column in table.columns)})
    columns = table_columns(arrays)
    with seeded(SEED):
        program = TableVAE(columns, latent_dim=10, count="zero-inflated-rounded-log-normal")
    return VariationalInference(program, seed=SEED, **OPTIONS).fit(arrays)


def by_table_vae(method: ImputeBy) -> Imputer:
    """Return the imputer that takes draws from the encoder, or from a posterior that is optimised for each row."""

    def fill_in(table: Table) -> Filled:
        vi, parts = fitted(table), []
        for start in range(0, len(table.x), ROWS):
            rows = slice(start, start + ROWS)
            truth = table.truth[rows]
            imputation = impute(vi, table.x[rows], method=method, num_samples=NUM_SAMPLES, num_draws=NUM_DRAWS)
            draws, shares = imputation.draws["x"], imputation.probabilities["x"]
            parts.append((imputation.mean["x"], shares, (draws < truth).mean(0), (draws <= truth).mean(0)))
        value, shares, below, up_to = (np.concatenate(part) for part in zip(*parts, strict=True))
        coded = [at for at, column in enumerate(table.columns) if column["kind"] in CODED]
        return Filled(value, {at: shares[:, place] for place, at in enumerate(coded)}, below, up_to)

    return fill_in


IMPUTERS: dict[str, Imputer] = {
    "mean, mode": mean_or_mode,
    "KNNImputer": by_scikit_learn(KNNImputer(n_neighbors=5)),
    "IterativeImputer": by_scikit_learn(IterativeImputer(random_state=SEED)),
    "IterativeImputer, codes": by_scikit_learn(IterativeImputer(random_state=SEED), as_codes=True),
    "IterativeImputer, trees": by_scikit_learn(IterativeImputer(trees(), max_iter=4, random_state=SEED), as_codes=True),
    "MICE": mice,
    "table_vae, amortized": by_table_vae("importance"),
    "table_vae, per-sample": by_table_vae("per-sample"),
}
