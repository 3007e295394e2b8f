"""The check of lambda: would more gradient steps make the posterior of a datum better?"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.check.subject import CheckedData, CheckedFit
from ppl_vae.check.verdict import Findings, Verdict
from ppl_vae.inference import LocalElbo, LocalSteps, Rows
from ppl_vae.inference.iterates import SETTLED, average_error, split_rhat
from ppl_vae.inference.per_datum import FROM_TABLE, LambdaMethod
from ppl_vae.parallel import seed_at
from ppl_vae.program import seeded

NUM_DATA = 128
"""The number of data that take further steps."""
STEP = LocalSteps(num_steps=1, learning_rate=FROM_TABLE, num_particles=4)
"""A further step; the learning rate is the same for all of them."""
NUM_STEPS = 100
GAIN = 0.1
"""The gain of a datum's ELBO, nats, above which its lambda had not converged."""
ERRORS = 3.0
ACCEPTED = 0.05
"""The share of data that may not have converged."""
SOURCE = f"a gain of {GAIN} nats, and of {ERRORS:g} errors, for {ACCEPTED:.0%} of the data"


class FurtherSteps(NamedTuple):
    """The outcome of further steps of every datum from where its lambda was left, ``(N,)`` each."""

    gain: Tensor
    """The ELBO of the average of the last half of the iterates minus that of lambda, nats."""
    error: Tensor
    """Its Monte Carlo error."""
    rhat: Tensor
    """The largest split R-hat of the numbers of lambda."""
    ess: Tensor
    """The smallest effective size of the iterates that are averaged."""

    @property
    def improved(self) -> np.ndarray:
        """True for data whose lambda had not converged."""
        return ((self.gain > GAIN) & (self.gain > ERRORS * self.error)).numpy()


def lambdas(fit: CheckedFit) -> Findings:
    """Check if the lambda of every datum has converged: do further steps raise its ELBO?"""
    method = fit.fitted.inference
    if not isinstance(method, LambdaMethod):
        return Findings([Verdict.not_judged("lambda of the data", "an encoder gives it, and no steps of its own")])
    steps = take_further_steps(fit.test, method.local)
    improved = steps.improved
    moving = float((steps.rhat > SETTLED).double().mean())
    verdict = Verdict.judged(
        subject="share not converged",
        value=float(improved.mean()),
        threshold=ACCEPTED,
        source=SOURCE,
        meaning=f"{NUM_STEPS} further steps raise the ELBO of {int(improved.sum())} of {len(improved)} data by more "
        f"than {GAIN} nats, on average by {steps.gain.mean():.2f}. The lambda of {moving:.0%} of the data still moved "
        f"(split R-hat above {SETTLED}; the median effective size of the iterates is {steps.ess.median():.0f}).",
        consequence="Bounds and posteriors of these data are worse than their family allows.",
        remedy="Let each datum take steps until it has settled, --inference-steps auto, in check and in evaluate (for "
        "semi-amortized inference, fit with more --local-steps), or fit with another --local-learning-rate.",
        rows=tuple(fit.test.rows[: len(improved)][improved].tolist()),
    )
    return Findings([verdict])


def take_further_steps(data: CheckedData, local: LocalElbo, num_data: int = NUM_DATA) -> FurtherSteps:
    """Take steps with a constant learning rate in the lambda of the first data, and average the last half of them."""
    fitted, local = data.fitted, replace(local, compiler=None)
    posterior, arrays = data.located
    few = {name: array[:num_data] for name, array in arrays.items()}
    parts, row = [], 0
    for *given, lam in fitted.batches(few).in_order(batch_size=fitted.rows_to_infer):
        batch, rows, iterates = tuple(given), Rows.at(lam), []
        seed = seed_at(data.seed, row)
        with seeded(seed):
            for _ in range(NUM_STEPS):
                rows = local.ascend(batch, rows, STEP)
                iterates.append(rows.lam)
        series = torch.stack(iterates)
        last = series[NUM_STEPS // 2 :]
        before, after = (data.elbo_draws(posterior, batch, at, seed + 1) for at in (lam, last.mean(0)))
        gain = after - before
        moments = gain.mean(0), gain.std(0) / len(gain) ** 0.5
        parts.append((*moments, split_rhat(last).amax(-1), average_error(last)[1].amin(-1)))
        row += len(lam)
    return FurtherSteps(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))
