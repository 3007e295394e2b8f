"""The check of the evidence by annealed chains, which are themselves checked on simulated data."""

from __future__ import annotations

import math

import numpy as np

from ppl_vae.check.subject import CheckedData, CheckedFit
from ppl_vae.check.verdict import FigureData, Findings, Verdict
from ppl_vae.errors import Diverged, InputError
from ppl_vae.evaluation.estimate import Work, estimate
from ppl_vae.evaluation.estimators import Settings
from ppl_vae.evaluation.results import mean_and_error
from ppl_vae.evidence import Evidence
from ppl_vae.evidence.bdmc import WIDEST_SANDWICH
from ppl_vae.inference import Compiler
from ppl_vae.plots import sandwich

NUM_DATA = 32
"""The number of data that are annealed: a chain costs as much as thousands of draws from the guide."""
CHAINS = Settings(num_temperatures=300, num_chains=8, num_simulated=NUM_DATA)
SHORTFALL = 0.1
"""The difference of two estimates of the log evidence, nats per datum, that is accepted."""
GROSSE = "Grosse, Ghahramani and Adams, Sandwiching the marginal likelihood (2015)"


def annealing(fit: CheckedFit) -> Findings:
    """Check the evidence by annealing: do the chains work, and do they find more than importance sampling?"""
    verdicts, figures = [], {}
    try:
        bounds = anneal(fit.test, "bdmc")
    except (InputError, Diverged) as error:
        verdicts.append(Verdict.not_judged("BDMC's sandwich", str(error)))
    else:
        lower, upper = (bounds.columns[side].numpy() for side in ("lower", "upper"))
        verdicts.append(_width(lower, upper))
        figures["sandwich"] = FigureData(
            sandwich,
            {"lower": lower, "upper": upper},
            "Bidirectional Monte Carlo",
            "Bounds from below and from above for data that were simulated from the model; the chains work if they "
            "meet.",
        )
    try:
        chains = anneal(fit.test, "ais")
    except (InputError, Diverged) as error:
        return Findings([*verdicts, Verdict.not_judged("AIS above IWAE", str(error))], figures)
    return Findings([*verdicts, _shortfall(fit, chains)], figures)


def anneal(data: CheckedData, name: str) -> Evidence:
    """Return the evidence of the first data by ``"ais"``, or of simulated data by ``"bdmc"``."""
    program, arrays = data.located
    few = {key: array[:NUM_DATA] for key, array in arrays.items()}
    with program.running(seed=data.seed, training=False):
        work = Work(program, data.fitted.batches(few), CHAINS, Compiler(data.fitted.compile))
        return estimate(work, [name], data.seed)[name].evidence


def _width(lower: np.ndarray, upper: np.ndarray) -> Verdict:
    width = upper - lower
    wide = int((width > WIDEST_SANDWICH).sum())
    return Verdict.judged(
        subject="BDMC's sandwich",
        value=float(np.mean(width)),
        doubt=float(np.std(width) / math.sqrt(max(1, len(width)))),
        threshold=WIDEST_SANDWICH,
        unit="nats per datum",
        source=GROSSE,
        meaning=f"The bounds of the log evidence of data that were simulated from the model are more than "
        f"{WIDEST_SANDWICH:g} nat apart for {wide} of {len(width)} data.",
        consequence="The chains are too short, so that annealing cannot judge importance sampling.",
        remedy="Anneal more slowly: evaluate --estimators ais,bdmc --num-temperatures 3000, or --start guide.",
    )


def _shortfall(fit: CheckedFit, chains: Evidence) -> Verdict:
    difference = chains.log_evidence - fit.test.evidence.log_evidence[: len(chains.log_evidence)]
    mean, error = mean_and_error(difference)
    return Verdict.judged(
        subject="AIS above IWAE",
        value=mean,
        doubt=error,
        threshold=max(SHORTFALL, 2 * error),
        unit="nats per datum",
        source=f"{SHORTFALL} nats, or two standard errors",
        meaning=f"The evidence by annealed importance sampling minus that by importance sampling with "
        f"{fit.settings.num_samples} draws from the guide is {mean:.2f} ± {error:.2f} nats per datum.",
        consequence="Both are lower bounds, so that the evidence from the guide is too low by at least that.",
        remedy="Report the evidence of evaluate --estimators iwae,ais. The guide misses a part of the posterior: take "
        "--bound iwae, --guide semi-amortized, or a richer family.",
    )
