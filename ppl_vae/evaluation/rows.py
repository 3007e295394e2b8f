"""The rows of an evaluation: means over data, with their errors, one for each estimator and each bound of its draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from ppl_vae.evaluation.estimate import Estimate
from ppl_vae.evaluation.estimators import OF_DRAWS
from ppl_vae.evaluation.results import error_of_mean, mean_and_error


class Row(NamedTuple):
    """The estimate of one estimator for a part of the data, nats per datum."""

    log_evidence: float
    mcse: float
    """The Monte Carlo error of the mean: the size of its change if the draws were others."""
    se: float
    """The error over data of the mean: the size of its change if the data were others; infinite for a single datum."""
    bound: str
    ess: float | None
    """The effective number of draws or chains, the median over data; None for the ELBO, which weighs none."""
    doubtful: float
    """The share of the data whose estimate should not be believed."""
    seconds: float
    num_data: int
    lower: float | None = None
    upper: float | None = None
    of: str | None = None
    """What it is of, if latents are shared by all data: ``"predictive"``, the density of a datum given the fit,
    log E p(x | w) over the posterior q(w) of the shared latents; or ``"joint"``, the log evidence of all these data
    together, divided by their number. None for the evidence of a datum."""
    per_step: float | None = None
    """Of sequences: the sum of log evidence over that of lengths, nats per time step."""
    per_step_se: float | None = None
    """The error over sequences of this ratio."""


def per_step(values: Tensor, lengths: Tensor | None) -> dict[str, float]:
    r"""Return the columns of nats per time step of sequences; none of other data.

    .. math:: r = \frac{\sum_i v_i}{\sum_i n_i}, \qquad
        \mathrm{se}(r) = \frac{1}{\bar n} \sqrt{\frac{\sum_i (v_i - r n_i)^2}{N (N - 1)}}

    Args:
        values: log evidence of each sequence, ``(N,)``, nats.
        lengths: their lengths, ``(N,)``; None if the data are no sequences.

    Example:
        >>> import torch
        >>> per_step(torch.tensor([-3.0, -6.0]), torch.tensor([1, 2]))
        {'per_step': -3.0, 'per_step_se': 0.0}
    """
    if lengths is None or len(lengths) != len(values):  # simulated data are fewer
        return {}
    lengths, values = lengths.double().cpu(), values.double().cpu()
    ratio = values.sum() / lengths.sum()
    _, error = mean_and_error((values - ratio * lengths) / lengths.mean())
    return {"per_step": ratio.item(), "per_step_se": error}


def summarise(
    estimates: Mapping[str, Estimate], log_ratios: Tensor | None = None, lengths: Tensor | None = None
) -> dict[str, Row]:
    """Return a row for each estimator, and one for each bound of its draws.

    Args:
        estimates: by estimator.
        lengths: the lengths of the data, ``(N,)``, if they are sequences.
        log_ratios: draws of log p(w) - log q(w), ``(K,)``, if latents w are shared by all data. All data of a batch
            have the same draws of w then, so that their Monte Carlo errors are added as they are.
    """
    rows = {}
    of = None if log_ratios is None else "predictive"

    def mean_mcse(mcse: Tensor, of_logs: bool = False) -> float:
        if log_ratios is None:
            return error_of_mean(mcse, of_logs=of_logs)
        return math.hypot(mcse.mean().item(), mcse.square().mean().item() / 2 if of_logs else 0.0)

    for name, (evidence, seconds) in estimates.items():
        columns, num_data = evidence.columns, len(evidence.log_evidence)
        for bound in (bound for bound in OF_DRAWS if bound in columns):
            mean, se = mean_and_error(columns[bound])
            mcse = mean_mcse(columns[f"{bound}_mcse"])
            steps = per_step(columns[bound], lengths)
            rows[bound] = Row(mean, mcse, se, "lower", None, 0.0, seconds, num_data, of=of, **steps)
            if bound == "elbo" and log_ratios is not None:
                share = log_ratios.double() / num_data
                error = math.hypot(mcse, share.std().item() / math.sqrt(len(share)))
                joint = Row(mean + share.mean().item(), error, se, "lower", None, 0.0, seconds, num_data, of="joint")
                rows["elbo_joint"] = joint
        mean, se = mean_and_error(evidence.log_evidence)
        rows[name] = Row(
            log_evidence=mean,
            mcse=mean_mcse(evidence.mcse, of_logs=evidence.bound != "exact"),
            se=se,
            bound=evidence.bound,
            ess=evidence.ess.median().item(),
            doubtful=evidence.doubtful.double().mean().item(),
            seconds=seconds,
            num_data=num_data,
            of=of,
            **per_step(evidence.log_evidence, lengths),
            **{side: columns[side].mean().item() for side in ("lower", "upper") if side in columns},
        )
    return rows
