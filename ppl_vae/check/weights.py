"""The check of the importance weights, on which the evidence of test data rests."""

from __future__ import annotations

import numpy as np

from ppl_vae.check.latent_ranks import DOUBTFUL
from ppl_vae.check.subject import CheckedFit
from ppl_vae.check.verdict import FigureData, Findings, Verdict
from ppl_vae.evidence import threshold
from ppl_vae.plots import pareto_k_histogram

LEAST_DRAWS = 10
"""The least median of the effective number of draws of a datum; a tenth of the number of draws, if it is smaller."""
SOURCE = "Vehtari, Simpson, Gelman, Yao and Gabry, Pareto smoothed importance sampling (2024)"


def weights(fit: CheckedFit) -> Findings:
    r"""Check if the importance weights can be believed: Pareto's k and the effective number of draws of every datum.

    .. math::
        \mathrm{ess}_i = \frac{(\sum_k w_{ik})^2}{\sum_k w_{ik}^2}, \qquad
        \mathbb E \log \hat p(x_i) \approx \log p(x_i) - \frac1{2\,\mathrm{ess}_i}
    """
    evidence, count = fit.test.evidence, fit.settings.num_samples
    limit, k = threshold(count), evidence.columns["pareto_k"].numpy()
    doubtful = evidence.doubtful.numpy()
    verdict = Verdict.judged(
        subject=f"share with k > {limit:.2f}",
        value=float(doubtful.mean()),
        threshold=DOUBTFUL,
        source=SOURCE,
        meaning=f"The weights of {int(doubtful.sum())} of {len(k)} data have so heavy a tail that their evidence is "
        "too low by an unknown amount.",
        consequence="The guide misses a part of their posterior.",
        remedy="Evaluate with --estimators iwae,ais, or widen the proposal, --proposal-scale 1.2 or --proposal-df 5. A "
        "better guide mends it: --guide semi-amortized, --family full, or a larger encoder.",
        rows=tuple(fit.test.rows[doubtful][np.argsort(-k[doubtful])].tolist()),
    )
    least = min(LEAST_DRAWS, count / 10)
    draws = float(evidence.ess.double().median())
    effective = Verdict.judged(
        subject="median effective draws",
        value=draws,
        threshold=least,
        least=True,
        spec=".0f" if least >= 10 else ".1f",
        source=f"the evidence is too low by about 1 / (2 ess) nats, {1 / (2 * least):.2g} at {least:g}",
        meaning=f"Of {count} draws from the guide, the weights of half of the data are worth {draws:.1f} or fewer.",
        consequence="The evidence rests on a few draws of each datum.",
        remedy="Take more --num-samples, evaluate with --estimators iwae,ais, or fit a better guide.",
    )
    figure = FigureData(
        pareto_k_histogram,
        {"k": k, "threshold": limit},
        "Pareto k of the importance weights",
        "The weights of data to the right of the line have so heavy a tail that their estimate should not be believed.",
    )
    return Findings([verdict, effective], {"pareto_k": figure})
