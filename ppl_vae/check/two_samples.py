"""Can a classifier tell test data from data that are drawn from the model?"""

from __future__ import annotations

import numpy as np

from ppl_vae.check.classifier import classifier_test
from ppl_vae.check.replicated import observed_data, prior_replicates
from ppl_vae.check.subject import CheckedFit
from ppl_vae.check.verdict import Findings, Verdict
from ppl_vae.program import classes_of


def two_samples(fit: CheckedFit) -> Findings:
    """Check if a classifier of nearest neighbours can tell test data from draws of the model.

    Each datum has one draw under its conditions, such as its label. If the model is right, the two can be exchanged.
    """
    observed = observed_data(fit.test)
    drawn = next(iter(prior_replicates(fit.test, 1)))
    classes = classes_of(fit.fitted.program)
    conditions = _conditions(fit)
    data = np.concatenate([_features({site: observed[site] for site in drawn}, classes), conditions], 1)
    draws = np.concatenate([_features({site: x[0] for site, x in drawn.items()}, classes), conditions], 1)
    result = classifier_test(data, draws, np.random.default_rng([fit.test.seed, 4]), paired=True)
    apart = result.p_value <= fit.level
    meaning = (
        f"Of the {len(fit.test)} test data and as many draws, the classifier names {100 * result.accuracy:.1f} % "
        f"rightly; {100 * result.chance:.1f} % is chance. "
    )
    meaning += "The draws differ from the data." if apart else "It cannot tell them apart."
    surest = np.argsort(-result.probabilities[: len(fit.test)], kind="stable")
    verdict = Verdict.judged(
        subject="data and draws",
        value=result.p_value,
        threshold=fit.level,
        least=True,
        spec=".2g",
        unit="p value",
        p_value=result.p_value,
        meaning=meaning,
        remedy="See predictions for what differs, and generate --what sample for how draws look. The rows are data "
        "that no draw resembles, such as those of a mode that the model misses.",
        source="Schilling (1986), Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests (2017)",
        rows=tuple(fit.test.rows[surest[result.probabilities[surest] > 0.99]].tolist()) if apart else (),
    )
    return Findings([verdict])


def _features(sites: dict[str, np.ndarray], classes: dict[str, int]) -> np.ndarray:
    """Return what all sites observe as columns ``(N, D)``; classes as indicators, missing numbers as zeros."""
    columns = []
    for site, x in sites.items():
        rows = np.nan_to_num(x.reshape(len(x), -1))
        if site in classes:
            rows = np.eye(classes[site])[rows.astype(int)].reshape(len(x), -1)
        columns.append(rows)
    return np.concatenate(columns, 1)


def _conditions(fit: CheckedFit) -> np.ndarray:
    """Return the arguments that the model does not draw as columns ``(N, C)``."""
    num_data = len(fit.test)
    names = [name for name in fit.fitted.arguments if name in fit.fitted.conditions]
    columns = [np.asarray(fit.test.arrays[name], float).reshape(num_data, -1) for name in names]
    return np.nan_to_num(np.concatenate([np.zeros((num_data, 0)), *columns], 1))
