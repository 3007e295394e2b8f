"""Predictive checks: do data sets that are drawn from the model look like the data?"""

from __future__ import annotations

import math

import numpy as np

from ppl_vae.check.among_replicates import AmongReplicates, among_replicates
from ppl_vae.check.comparison import Comparison, compare, read_statistic
from ppl_vae.check.ranks import expected_coverage
from ppl_vae.check.subject import CheckedFit
from ppl_vae.check.uniformity import uniformity_bands, uniformity_p_value
from ppl_vae.check.verdict import FigureData, Findings, Verdict, holm
from ppl_vae.check.width import width_and_shift
from ppl_vae.plots import ecdf_differences, number, statistics_among_draws

FEWEST_REPLICATES = 199
STATISTIC_SOURCE = "Westfall and Young, Resampling-Based Multiple Testing (1993), section 2.3"
BAND_SOURCE = "Sailynoja, Buerkner and Vehtari (2022)"
REMEDIES_OF_STATISTICS = {
    "whole numbers": "The data are whole numbers and the draws are not: take a likelihood of counts, such as Poisson "
    "or negative binomial, or of classes.",
    "zeros": "The data have more zeros than the draws: take a likelihood with extra zeros, such as a zero-inflated "
    "one.",
    "standard deviation": "The data vary more than the draws: take a likelihood with more spread, such as negative "
    "binomial for counts or Student-t, or more latents.",
    "correlations": "The columns of the data depend on each other more than those of the draws: more latents, a larger "
    "decoder.",
}
"""What to do if the data have a larger statistic than the draws; the first one that differs decides."""


def predictions(fit: CheckedFit) -> Findings:
    r"""Check if data that are drawn from the model look like test data, by statistics and by intervals.

    .. math::
        x^{(r)} \sim p(x), \qquad T(x) \text{ among } T(x^{(1)}), \dots, T(x^{(R)}), \qquad
        u_{id} = \mathrm{rank\ of}\ x_{id}\ \mathrm{among}\ x^{(1)}_{id}, \dots, x^{(R)}_{id}

    The draws are from the prior predictive, given the fitted parameters, so that the p values are uniform if the model
    is right and the data were not used by the fit. Draws given each datum look more like the data than new data would.
    Their p values are not uniform, so that they are in the figure and not in a verdict.
    """
    own = read_statistic(fit.settings.statistic) if fit.settings.statistic else {}
    num_sites = len(fit.fitted.program.structure.observed)
    sites = compare(fit.test, max(FEWEST_REPLICATES, math.ceil(2.5 * num_sites / fit.level)), own)
    level = fit.level / (2 * len(sites))
    verdicts: list[Verdict] = []
    figures: dict[str, FigureData] = {}
    for site, compared in sites.items():
        among = among_replicates(compared.observed, compared.replicated)
        raw = [uniformity_p_value(compared.ranks[:, d]) for d in range(len(compared.columns))]
        p_values = np.nan_to_num(holm(raw), nan=1.0)  # a number that is hardly ever seen shows nothing
        verdicts.append(judge_statistics(site, compared, among, level))
        verdicts.append(judge_intervals(site, compared, p_values, level))
        figures |= _figures(site, compared, among, p_values, "" if len(sites) == 1 else f"_{site}")
    return Findings(verdicts, figures)


def judge_statistics(site: str, compared: Comparison, among: AmongReplicates, level: float) -> Verdict:
    """Return the verdict about the statistics of a site: the smallest adjusted p value, and which ones differ."""
    worst, count = float(among.adjusted.min()), len(compared.replicated)
    failing = [i for i in np.argsort(-np.abs(among.z), kind="stable") if among.adjusted[i] <= level]
    meaning = f"The statistics of the data are among those of {count} data sets that are drawn from the model."
    if failing:
        parts = []
        for i in failing[:3]:
            low, high = np.nanquantile(compared.replicated[:, i], [0.025, 0.975])
            parts.append(f"{compared.names[i]}: {number(compared.observed[i])}, drawn {number(low)} to {number(high)}")
        more = f", and {len(failing) - 3} more" if len(failing) > 3 else ""
        meaning = f"The model does not reproduce these statistics of the data: {'; '.join(parts)}{more}."
    return Verdict.judged(
        subject=f"statistics of {site}", value=worst, threshold=level, least=True, spec=".2g", unit="p value",
        p_value=worst, meaning=meaning, source=STATISTIC_SOURCE,
        remedy=_remedy({compared.names[i]: among.z[i] for i in failing}),
    )  # fmt: skip


def _remedy(failing: dict[str, float]) -> str:
    """Return what to do about statistics that differ, given their distances from those of the draws."""
    for name, remedy in REMEDIES_OF_STATISTICS.items():
        if failing.get(name, 0) > 0:
            return remedy
    return "Look at check_statistics, and change the likelihood, the prior of the latents, or the decoder."


def judge_intervals(site: str, compared: Comparison, p_values: np.ndarray, level: float) -> Verdict:
    """Return the verdict about the predictive intervals of the numbers of a site."""
    worst, total = float(p_values.min()), len(compared.columns)
    failing = np.flatnonzero(p_values <= level)
    meaning = "The predictive distributions of the numbers of a datum have the right width and place."
    if len(failing):
        count = float(len(compared.replicated))
        fits = {d: width_and_shift(compared.ranks[:, d], count) for d in failing}
        order = sorted(failing, key=lambda d: p_values[d])[:3]
        parts = [f"{compared.columns[d]} is {fits[d].in_words()}" for d in order]
        inside = expected_coverage(compared.ranks, [0.9])[0]
        meaning = (
            f"The predictive distribution of {'; that of '.join(parts)}. {len(failing)} of {total} differ. Intervals "
            f"of 90 % hold {100 * inside:.0f} % of the data."
        )
    return Verdict.judged(
        subject=f"intervals of {site} (PIT)", value=worst, threshold=level, least=True, spec=".2g", unit="p value",
        p_value=worst, meaning=meaning, source=BAND_SOURCE,
        remedy="Change the likelihood of these numbers: its spread if they are too wide or too narrow, its kind if "
        "they have another shape. Look at check_intervals.",
    )  # fmt: skip


def _figures(
    site: str, compared: Comparison, among: AmongReplicates, p_values: np.ndarray, suffix: str
) -> dict[str, FigureData]:
    band = uniformity_bands(len(compared.ranks))
    statistics = {
        "names": compared.names, "observed": compared.observed, "replicated": compared.replicated,
        "given_data": compared.given_data, "p_values": among.adjusted, "title": f"Statistics of {site}",
    }  # fmt: skip
    intervals = {
        "ranks": {site: compared.ranks}, "names": {site: compared.columns}, "p_values": {site: p_values},
        "bands": {site: (band.points, band.lower, band.upper)},
        "title": f"Ranks of {site} among draws from the model (PIT)",
    }  # fmt: skip
    return {
        f"statistics{suffix}": FigureData(statistics_among_draws, statistics),
        f"intervals{suffix}": FigureData(ecdf_differences, intervals),
    }
