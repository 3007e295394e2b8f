"""Is the test set more surprising to the model than the model's own data?"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import ks_2samp

from ppl_vae.check.subject import CheckedFit
from ppl_vae.check.verdict import FigureData, Findings, Verdict
from ppl_vae.plots import evidence_of_two

OVERFITTED = (
    "If training data are more likely than test data (evaluate --part train), the fit is overfitted: take fewer "
    "epochs, a smaller network, or more data. If they are as likely, the model differs from the data: see predictions "
    "and two_samples."
)
BROAD = (
    "The model differs from the data: see predictions and two_samples. If latents shows a prior that is wider than the "
    "aggregated posterior, take one that can follow: vamp_vae, mixture_prior_vae or flow_prior_vae."
)


def surprise(fit: CheckedFit) -> Findings:
    r"""Check if test data are as likely under the model as data that are drawn from it.

    .. math:: \log p(x_i), \ x_i \text{ in the test data}, \quad\text{and}\quad \log p(\tilde x_j), \ \tilde x_j \sim p

    have one distribution if the model is right. Both are estimated by importance sampling with the same number of
    draws. Each datum is outside of the fit, so that its evidence is that of a datum left out.

    Source of the test: Kolmogorov and Smirnov's for two samples.
    """
    test, own = (data.evidence.log_evidence.numpy() for data in (fit.test, fit.simulated))
    p_value = float(ks_2samp(test, own).pvalue)
    finite = [values[np.isfinite(values)] for values in (test, own)]
    less = float(finite[1].mean() - finite[0].mean())
    error = math.sqrt(sum(values.var() / max(1, len(values)) for values in finite))
    if p_value > fit.level:
        meaning = "Test data are as likely as data that are drawn from the model."
    elif less > 2 * error:
        meaning = f"Test data are {less:.1f} ± {error:.1f} nats less likely than data that are drawn from the model."
    elif less < -2 * error:
        meaning = (
            f"Test data are {-less:.1f} ± {error:.1f} nats more likely than data that are drawn from the model: it "
            f"spends probability on data unlike them."
        )
    else:
        meaning = "The log evidence of test data has another spread than that of data that are drawn from the model."
    rarest = int((test < own.min()).sum())
    if p_value <= fit.level and rarest:
        meaning += f" {rarest} of {len(test)} test data are less likely than all {len(own)} draws."
    order = np.argsort(test, kind="stable")
    verdict = Verdict.judged(
        subject="evidence of test data",
        value=p_value,
        threshold=fit.level,
        least=True,
        spec=".2g",
        unit="p value",
        p_value=p_value,
        meaning=meaning,
        remedy=OVERFITTED if less > 2 * error else BROAD,
        source="the test of Kolmogorov and Smirnov for two samples",
        rows=tuple(fit.test.rows[order[test[order] < own.min()]].tolist()),
    )
    return Findings([verdict], {"surprise": FigureData(evidence_of_two, {"test": test, "simulated": own})})
