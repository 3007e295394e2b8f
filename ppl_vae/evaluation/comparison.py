"""Fits to the same data side by side: which explains them better, by how much, how surely, and at what cost."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError, nearest
from ppl_vae.evaluation.estimate import Estimate
from ppl_vae.evaluation.estimators import ESTIMATORS, WITH_ELBO, PerDatum, counted, estimators_for
from ppl_vae.evaluation.fitted import Arrays, Fitted
from ppl_vae.evaluation.results import mean_and_error
from ppl_vae.evaluation.rows import summarise
from ppl_vae.evaluation.table import Column, ResultTable
from ppl_vae.evidence import Evidence

SIMULATED = 4
"""The number of data that show if a program's observations are whole numbers."""
TIMED_SECONDS, TIMED_REPEATS = 0.2, 5
"""A shorter run is timed again, and the shortest time counts."""


@readable
class Measured(NamedTuple):
    """A fit's evidence, ELBO and costs, for a comparison with others."""

    evidence: Evidence
    """The evidence of every datum, ``(N,)``, nats."""
    elbo: float = math.nan
    """Nats per datum."""
    elbos: Tensor | None = None
    """The ELBO of every datum, ``(N,)``; None if nothing is random."""
    estimator: str = ""
    """The estimator of the evidence."""
    effort: str = ""
    """The estimator with its effort, such as ``iwae, 5000 draws``."""
    train_seconds: float = math.nan
    infer_milliseconds: float | None = None
    """The time for the posterior mean of one datum; None if a program has no latents that a guide samples."""
    evidence_seconds: float = math.nan
    warnings: tuple[str, ...] = ()


@readable
class Compared(NamedTuple):
    """A fit beside the best one, nats per datum."""

    name: str
    estimator: str
    effort: str
    bound: str
    num_data: int
    log_evidence: float
    log_evidence_se: float
    """The error over data of ``log_evidence`` by itself; it does not apply to differences."""
    difference: float
    """The distance of the log evidence below the best fit's; 0 for the best, infinite if data are impossible."""
    difference_se: float
    """The error over data of the mean of paired differences: the size of its change if the data were others."""
    difference_mcse: float
    """Monte Carlo error of the difference: the size of its change if the draws were others."""
    elbo: float
    elbo_difference: float | None
    """The distance of the ELBO below that of the best fit; None if either is not known for every datum."""
    elbo_difference_se: float | None
    """Error over data of the mean of paired differences."""
    doubtful: float
    """The share of the data whose estimate should not be believed."""
    train_seconds: float
    infer_milliseconds: float | None
    evidence_seconds: float
    warnings: tuple[str, ...]


def compare_fits(fits: Mapping[str, Measured]) -> list[Compared]:
    r"""Compare log evidence by differences with paired errors, as ArviZ's ``compare`` does for models.

    .. math::
        d_i = \log p_{\mathrm{best}}(x_i) - \log p(x_i), \qquad
        \mathrm{difference} = \frac1N \sum_i d_i, \qquad
        \mathrm{se} = \frac{\mathrm{sd}(d_1, \dots, d_N)}{\sqrt N}

    The error is that of the paired differences. An unusual datum is unlikely under every fit, so that the covariance
    in :math:`\mathrm{Var}(a_i - b_i) = \mathrm{Var}\,a_i + \mathrm{Var}\,b_i - 2\,\mathrm{Cov}(a_i, b_i)` removes most
    of the variance. The error that treats the two means as independent,
    :math:`\sqrt{\mathrm{se}_a^2 + \mathrm{se}_b^2}`, would be far too large.

    The Monte Carlo error is kept apart, :math:`\sqrt{\mathrm{mcse}_a^2 + \mathrm{mcse}_b^2}`: more draws make it
    smaller, but not the other error. Neither error contains the variation between seeds of a fit. With few data, the
    error over data is itself uncertain.

    Minus infinity counts as the limit of ever lower values. A datum that two fits give no probability makes no
    difference between them. A fit with more such data than the best lies infinitely below it; with as many but others,
    by the difference of the data that are left, with an infinite error.

    Source: Vehtari, Gelman and Gabry, Practical Bayesian model evaluation using leave-one-out cross-validation and
    WAIC (2017), equation 24.

    Args:
        fits: by name; their evidence is of the same data in the same order.

    Returns:
        list[Compared]: the best first.

    Raises:
        InputError: evidence of different numbers of data.

    Example:
        >>> import torch
        >>> known = lambda *nats: Evidence(torch.tensor(nats), torch.zeros(3), torch.ones(3), torch.zeros(3), "exact")
        >>> fits = {"small": Measured(known(-2.0, -10.0, -31.0)), "large": Measured(known(-1.0, -9.5, -30.0))}
        >>> best, other = compare_fits(fits)
        >>> best.name, other.name, round(other.difference, 3), round(other.difference_se, 3)
        ('large', 'small', 0.833, 0.167)
        >>> round(other.log_evidence_se, 3)  # that of its mean by itself
        8.647
    """
    sizes = {name: len(fit.evidence.log_evidence) for name, fit in fits.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(f"evidence of different numbers of data ({counts}): compare fits on the same data")
    ordered = sorted(fits, key=lambda name: _rank(fits[name].evidence.log_evidence.double()))
    rows = {name: summarise({"": Estimate(fit.evidence, fit.evidence_seconds)})[""] for name, fit in fits.items()}
    compared = []
    for name in ordered:
        fit, row, best = fits[name], rows[name], fits[ordered[0]]
        difference, se = _difference(best.evidence.log_evidence, fit.evidence.log_evidence)
        elbo_difference: tuple[float | None, float | None] = (None, None)
        if fit.elbos is not None and best.elbos is not None:
            elbo_difference = _difference(best.elbos, fit.elbos)
        compared.append(
            Compared(
                name=name,
                bound=row.bound,
                num_data=row.num_data,
                log_evidence=row.log_evidence,
                log_evidence_se=row.se,
                difference=difference,
                difference_se=se,
                difference_mcse=0.0 if name == ordered[0] else math.hypot(row.mcse, rows[ordered[0]].mcse),
                elbo_difference=elbo_difference[0],
                elbo_difference_se=elbo_difference[1],
                doubtful=row.doubtful,
                **{key: value for key, value in fit._asdict().items() if key in Compared._fields},
            )
        )
    return compared


def _rank(values: Tensor) -> tuple[int, float]:
    """Rank values, the best lowest: by the number of impossible data, then by minus the sum of the others."""
    impossible = values == -math.inf
    return int(impossible.sum()), -values[~impossible].sum().item()


def _difference(best: Tensor, other: Tensor) -> tuple[float, float]:
    """Return the mean of the paired differences and its error over data, never NaN; zeros for a fit and itself."""
    if best is other:
        return 0.0, 0.0
    best, other = best.double(), other.double()
    if ((best == -math.inf) == (other == -math.inf)).all():
        return mean_and_error((best - other).masked_fill(best == other, 0.0))
    (impossible, least), (more_impossible, less) = _rank(best), _rank(other)
    return (math.inf if more_impossible > impossible else (less - least) / len(best)), math.inf


COLUMNS = (
    Column("name", "run"),
    Column("estimator", "by"),
    Column("log_evidence", "nats per datum", ".2f"),
    Column("difference", "difference", ".3f"),
    Column("difference_se", "its error", ".3f"),
    Column("difference_mcse", "Monte Carlo", ".3f"),
    Column("elbo", "ELBO", ".2f", rank=2),
    Column("elbo_difference", "below the best's", ".3f", error="elbo_difference_se", rank=3),
    Column("doubtful", "doubtful", ".1%", rank=1),
    Column("train_seconds", "training s", ".1f", rank=4),
    Column("infer_milliseconds", "inference ms", ".1f", rank=5),
    Column("evidence_seconds", "evidence s", ".1f", rank=6),
)
"""The columns of a table of fits."""


def comparison_results(fits: list[Compared], part: str) -> ResultTable:
    """Make the table of fits, the best first; its rows are what JSON holds.

    Args:
        fits: from :func:`compare_fits`.
        part: the part of the data, for the caption.
    """
    rows = {fit.name: fit._asdict() for fit in fits}
    texts: dict[str, dict[str, str]] = {}
    for fit in fits:
        is_best, milliseconds = fit is fits[0], fit.infer_milliseconds
        is_empty = {
            "difference_se": is_best,
            "difference_mcse": is_best,
            "elbo_difference": is_best or fit.elbo_difference is None,
            "doubtful": fit.bound == "exact",
        }
        texts[fit.name] = {key: "" for key, empty in is_empty.items() if empty}
        if milliseconds is None or milliseconds < 1:
            texts[fit.name]["infer_milliseconds"] = "none" if milliseconds is None else f"{milliseconds:.4f}"
        del rows[fit.name]["name"], rows[fit.name]["num_data"]
    efforts = "; ".join(dict.fromkeys(fit.effort for fit in fits))
    return ResultTable(f"{part}, {fits[0].num_data} data; log evidence by {efforts}", COLUMNS, rows, texts, left=2)


def comparison_table(fits: list[Compared], part: str) -> str:
    """Return the fits as text, the best first, and below them what the columns mean.

    Args:
        fits: from :func:`compare_fits`.
        part: the part of the data, for the caption.
    """
    notes = [
        "difference: nats per datum below the best; its error is over data, of the paired differences;",
        "Monte Carlo: what other draws would change it by; inference: of one datum, all data together",
    ]
    bounds = {fit.bound: fit.estimator for fit in fits}
    if bounds.keys() == {"lower", "exact"}:
        by = bounds["lower"]
        notes.append(
            f"{by} is on average a lower bound of the evidence: beside exact, what it misses counts against it"
        )
    return comparison_results(fits, part).text(*notes)


def measure(fitted: Fitted, arrays: Arrays, estimator: PerDatum | None = None, **settings: Any) -> Measured:
    """Measure what a comparison needs: the evidence of a fitted program, its ELBO, and what they cost.

    Args:
        fitted: the fitted program.
        arrays: the data by name.
        estimator: the estimator of the evidence. The default is exact if the evidence is known, and iwae otherwise; if
            nothing is random, it is exact in any case.
        settings: fields of ``Settings``.

    Returns:
        Measured: the time of inference is that of ``transform``, all data together, divided by their number.

    Raises:
        InputError: an estimator that is unknown or not for this program, a setting that cannot be, bad data.
        Diverged: a density is not finite.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> x = np.random.default_rng(0).normal(size=(100, 5)).astype("float32")
        >>> vi = VariationalInference(FactorAnalysis(data_dim=5, latent_dim=2), max_epochs=5).fit(x)
        >>> fit = measure(vi.fitted, {"x": x}, num_samples=100)
        >>> fit.estimator, fit.elbo < fit.evidence.log_evidence.mean().item(), fit.infer_milliseconds > 0
        ('exact', True, True)
    """
    of_data = [name for name, kind in ESTIMATORS.items() if kind.needs != "simulated data"]
    if estimator is not None and estimator not in of_data:
        raise InputError(f"the estimator {estimator!r} has no evidence of the data; {nearest(estimator, of_data)}")
    known = estimators_for(fitted.program)
    is_random = WITH_ELBO in known
    chosen = estimator if estimator is not None and is_random else known[-1]
    names = dict.fromkeys((chosen, WITH_ELBO) if is_random else (chosen,))
    evaluation = fitted.evaluate(arrays, estimators=tuple(names), **settings)
    row = evaluation.rows[chosen]
    alone = evaluation._replace(rows={chosen: row}, evidence={chosen: evaluation.evidence[chosen]})
    return Measured(
        evidence=evaluation.evidence[chosen],
        elbo=evaluation.rows["elbo"].log_evidence if is_random else row.log_evidence,
        elbos=evaluation.evidence[WITH_ELBO].columns["elbo"] if is_random else None,
        estimator=chosen,
        effort=evaluation.label(chosen),
        train_seconds=fitted.train_seconds,
        infer_milliseconds=_infer_milliseconds(fitted, arrays, evaluation.num_data) if fitted.has_latents else None,
        evidence_seconds=row.seconds,
        warnings=tuple(alone.warnings()),
    )


def _infer_milliseconds(fitted: Fitted, arrays: Arrays, num_data: int) -> float:
    started, shortest = time.perf_counter(), math.inf
    for _ in range(TIMED_REPEATS):
        before = time.perf_counter()
        fitted.transform(arrays)
        after = time.perf_counter()
        shortest = min(shortest, after - before)
        if after - started > TIMED_SECONDS:
            break
    return 1000 * shortest / num_data


def check_comparable(fits: Mapping[str, Fitted]) -> None:
    """Raise ``InputError`` if the evidence of fits cannot be compared, before any is computed.

    A probability of whole numbers and a density of real numbers have different units, and so have the evidence of x and
    the evidence of x and y. Data that a program simulates show which kind it observes.

    Args:
        fits: by name.
    """
    kinds = {name: _observations(fitted) for name, fitted in fits.items()}
    first = next(iter(kinds))
    for name, kind in kinds.items():
        if kind != kinds[first]:
            raise InputError(
                f"{name} has {_in_words(*kind)} for each datum, {first} has {_in_words(*kinds[first])}: such evidence "
                f"cannot be compared; take models that observe the same arrays, with the same kind of likelihood"
            )


def _observations(fitted: Fitted) -> tuple[int, int]:
    """Count the whole and the real numbers that a program observes in a datum."""
    whole = real = 0
    for draws in fitted.prior(SIMULATED).observed.values():
        if (draws == np.round(draws)).all():
            whole += draws[0].size
        else:
            real += draws[0].size
    return whole, real


def _in_words(whole: int, real: int) -> str:
    kinds = ((whole, "a probability of", "whole"), (real, "a density of", "real"))
    return " and ".join(f"{what} {counted(count, f'{kind} number')}" for count, what, kind in kinds if count)
