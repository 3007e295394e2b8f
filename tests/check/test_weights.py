"""The check of the importance weights: the effective number of draws of a guide that is far from the posterior."""

from __future__ import annotations

import numpy as np
import pytest

from ppl_vae.check.weights import weights
from tests.helpers.calibrated import GaussianFactors, checked, drawn_from


@pytest.mark.parametrize(("width", "shift", "status"), [(1.0, 0.0, "holds"), (0.7, 4.0, "fails")])
def test_the_effective_number_of_draws_is_that_of_the_weights(width: float, shift: float, status: str) -> None:
    fit = checked(GaussianFactors(width, shift), drawn_from("factor analysis", 30, 0), num_samples=200)
    _, effective = weights(fit).verdicts
    logs = fit.test.draws.log_weight.numpy()
    each = np.exp(logs - logs.max(0))
    expected = np.median(each.sum(0) ** 2 / np.square(each).sum(0))
    assert effective.value == pytest.approx(expected, rel=0.1)  # of an even number, torch has the lower median
    assert effective.status == status
    assert effective.threshold == 10
