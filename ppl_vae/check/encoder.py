"""The check of the encoder: does it know the training data better than others?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppl_vae.check.subject import CheckedData, CheckedFit
from ppl_vae.check.verdict import Findings, Verdict
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evaluation.results import mean_and_error
from ppl_vae.inference import LocalElbo, LocalSteps, Rows, make_family
from ppl_vae.inference.per_datum import FROM_AFAR
from ppl_vae.parallel import seed_at
from ppl_vae.program import LatentSpace, seeded, with_lambda, without_guide

NUM_DATA = 128
"""The number of data of each part whose lambda is refined."""
STEPS = LocalSteps(num_steps=150, learning_rate=FROM_AFAR, num_particles=4)
ACCEPTED = 0.1
"""The difference, nats per datum, that is accepted."""
SOURCE = f"{ACCEPTED} nats, or two standard errors; Cremer, Li and Duvenaud, Inference suboptimality (2018)"


def encoder(fit: CheckedFit) -> Findings:
    """Check if the encoder has overfitted: do test data gain more than training data by steps of their own?"""
    if fit.fitted.inference.lambda_is_data or fit.fitted.program.guide is None:
        return Findings([Verdict.not_judged("the encoder", "the method of inference has no encoder")])
    local = local_elbo(fit.fitted)
    return Findings([judge_gains(*(gains(local, data) for data in (fit.test, fit.train)))])


def judge_gains(test_gains: Tensor, train_gains: Tensor) -> Verdict:
    """Return the verdict about the gains of the ELBO of test data and of training data, ``(N,)`` each."""
    (test, test_error), (train, train_error) = (mean_and_error(part) for part in (test_gains, train_gains))
    value, error = test - train, math.hypot(test_error, train_error)
    return Verdict.judged(
        subject="gain by steps, test - train",
        value=value,
        doubt=error,
        threshold=max(ACCEPTED, 2 * error),
        unit="nats per datum",
        source=SOURCE,
        meaning="If the posterior of each datum is refined by gradient steps of its own, the ELBO of test data rises "
        f"by {test:.2f} ± {test_error:.2f} nats and that of training data by {train:.2f} ± {train_error:.2f}.",
        consequence="The encoder has memorised the training data, and its posteriors of new data are worse.",
        remedy="Stop earlier (--patience), use a smaller encoder, more data, or --guide semi-amortized; for the "
        "evidence of new data, evaluate --proposal per-sample.",
    )


def local_elbo(fitted: Fitted) -> LocalElbo:
    """Return the ELBO as a function of the lambda of Gaussians with a diagonal covariance."""
    space = LatentSpace(without_guide(fitted.program))
    return LocalElbo(space, make_family("diagonal", space.size))


def gains(local: LocalElbo, data: CheckedData, num_data: int = NUM_DATA) -> Tensor:
    """Return the gain of the ELBO of the first data by steps in their own lambda from the encoder's output, ``(N,)``.

    The steps of a datum that do not raise its ELBO by draws of their own are not taken.
    """
    fitted, program = data.fitted, data.fitted.program
    few = {name: array[:num_data] for name, array in data.arrays.items()}
    posterior = with_lambda(local.space, local.family.distribution, local.at_prior(fitted.template).lam)
    parts, row = [], 0
    for batch in fitted.batches(few).in_order(batch_size=fitted.rows_to_infer):
        seed = seed_at(data.seed, row)
        with torch.no_grad(), program.running(seed=seed, training=False):
            start = Rows.at(local.at_guide(program, batch))
        with seeded(seed):
            end = local.unless_worse(batch, start, local.ascend(batch, start, STEPS))
        before, after = (data.elbo_draws(posterior, batch, rows.lam, seed + 1).mean(0).cpu() for rows in (start, end))
        parts.append(after - before)
        row += len(batch[0])
    return torch.cat(parts)
