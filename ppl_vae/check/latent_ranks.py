"""Ranks of known latents among draws of their posteriors: their tests, what is wrong in words, and their figures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ppl_vae.check.ranks import expected_coverage
from ppl_vae.check.uniformity import uniformity_bands, uniformity_p_value
from ppl_vae.check.verdict import FigureData, Verdict, holm
from ppl_vae.check.width import width_and_shift
from ppl_vae.plots import coverage, ecdf_differences, rank_histograms

MOST_NUMBERS = 500
"""The largest number of latent numbers that are ranked one by one; of more, some are drawn."""
DOUBTFUL = 0.05
"""The share of data with too high a Pareto k that is accepted."""
LEVELS = np.linspace(0.02, 0.98, 49)
LIKELIHOOD, JOINT, TOGETHER = "log p(x | z)", "log p(x, z)", "all latents (TARP)"
SOURCE = (
    "Talts et al., Simulation-Based Calibration (2018), Modrak et al. (2023) for quantities of the data, and "
    "Sailynoja et al. (2022) for the bands"
)


class RanksOfLatents(NamedTuple):
    """Ranks of the latents of simulated data, and of quantities of them, among the draws of one method."""

    method: str
    """The guide, the guide with weights, or annealing."""
    names: tuple[str, ...]
    """Names of the ``Q`` quantities: numbers of latents, and quantities that depend on the data."""
    ranks: np.ndarray
    """Numbers in (0, 1), ``(N, Q)``, which are uniform if the method is right; NaN where a mask hides a latent."""
    num_draws: float
    """The number of draws, or the median effective number of weighted ones."""
    doubtful: np.ndarray = np.zeros(0, dtype=bool)
    """True for a datum whose weights have so heavy a tail, by Pareto's k, that they mend nothing for certain, ``(N,)``;
    empty without such weights."""
    discrete: frozenset[str] = frozenset()
    """The names of numbers that are whole, which have no width and no place."""

    def p_values(self) -> np.ndarray:
        """Return the p value of each quantity's uniformity, adjusted for the number of quantities, ``(Q,)``."""
        return np.array(holm([uniformity_p_value(self.ranks[:, q]) for q in range(len(self.names))]))

    def of_latents(self) -> np.ndarray:
        """Return the ranks of the numbers of latents alone, ``(N, D)``."""
        return self.ranks[:, [name not in (LIKELIHOOD, JOINT, TOGETHER) for name in self.names]]


def judge(method: RanksOfLatents, p_values: np.ndarray, level: float, guide_fails: bool) -> Verdict:
    """Return the verdict about one method: the smallest adjusted p value of its quantities, and what is wrong."""
    worst = float(np.nanmin(p_values))
    number, heavy = len(method.ranks), method.doubtful.mean() if len(method.doubtful) else 0.0
    if worst > level:
        meaning = f"The latents of {number} simulated data lie among the draws as those of the posterior would."
        if guide_fails and method.method != "guide":
            mended = "Reweighting by importance mends" if "reweighted" in method.method else "Annealing mends"
            meaning += f" {mended} what is wrong with the guide."
    else:
        meaning = describe(method, p_values, level)
    if heavy > DOUBTFUL:
        meaning += f" Reweighting cannot be trusted for {heavy:.0%} of these data, whose Pareto k is too high."
    return Verdict.judged(
        subject=method.method, value=worst, threshold=level, least=True, spec=".2g", unit="p value", p_value=worst,
        meaning=meaning, remedy=REMEDIES[method.method], source=SOURCE,
    )  # fmt: skip


BETTER_GUIDE = "--family full or flow, more steps, --guide semi-amortized, or a larger encoder"
REMEDIES = {
    "guide": f"Take a better guide: {BETTER_GUIDE}.",
    "guide, reweighted": "The weights do not mend the guide. If annealing holds, believe that: estimate the evidence "
    "by ais. Else take more --num-samples, or a wider proposal, --proposal-scale 1.2.",
    "annealing (AIS)": "The chains do not reach the posterior: evaluate with more --num-temperatures.",
}


def remedy_of_guide(weights: Verdict, annealing: Verdict | None, is_trusted: bool) -> str:
    """Return what to do about a guide that fails, given what mends it.

    Args:
        weights: the verdict about the guide reweighted by importance.
        annealing: the verdict about annealing, if there is one.
        is_trusted: True if few of the weights have too high a Pareto k.
    """
    anneals = annealing is not None and annealing.status == "holds"
    if weights.status == "holds" and is_trusted:
        mended = "Reweighting by importance mends it: believe iwae, and draws with their weights."
    elif weights.status == "holds":
        mended = "Reweighting by importance mends the ranks, but Pareto's k is too high for many of these data."
        mended += " Annealing holds: compare iwae with ais." if anneals else ""
    elif anneals:
        mended = "Reweighting does not mend it, and annealing does: believe ais, not iwae."
    else:
        mended = "Neither reweighting nor annealing mends it."
    return f"{mended} A better guide: {BETTER_GUIDE}."


def describe(method: RanksOfLatents, p_values: np.ndarray, level: float) -> str:
    """Return what is wrong with the posteriors, in words: the width and the shift of those that differ most.

    Whole numbers, such as classes, have neither.
    """
    failing = np.flatnonzero(p_values <= level)
    latents = [q for q in failing if method.names[q] not in (LIKELIHOOD, JOINT, TOGETHER)]
    whole = [q for q in latents if method.names[q] in method.discrete]
    fits = {q: width_and_shift(method.ranks[:, q], method.num_draws) for q in latents[:MOST_NUMBERS] if q not in whole}
    order = sorted(fits, key=lambda q: -max(abs(np.log(fits[q].width)), abs(fits[q].shift)))
    parts = [f"{method.names[q]} is {fits[q].in_words()}" for q in order[:3]]
    if len(order) > 3:
        parts.append(f"and {len(order) - 3} more")
    if whole:
        more = f" and {len(whole) - 3} more" if len(whole) > 3 else ""
        parts.append(f"the probabilities of {', '.join(method.names[q] for q in whole[:3])}{more} are wrong")
    others = [method.names[q] for q in failing if q not in latents]
    if others and not parts:
        parts.append(f"{' and '.join(others)} differ, though each latent by itself does not")
    covered = 100 * expected_coverage(method.of_latents(), [0.9])[0]
    return f"Of the draws, {'; '.join(parts)}. Intervals of 90 % hold {covered:.0f} % of the latents."


def rank_figures(methods: list[RanksOfLatents], p_values: list[np.ndarray]) -> dict[str, FigureData]:
    """Return the figures of distribution functions, of the ranks of one latent, and of coverage.

    The one latent is the worst of those that all methods rank.
    """
    bands = {}
    for method in methods:
        band = uniformity_bands(len(method.ranks))
        bands[method.method] = (band.points, band.lower, band.upper)
    ranks = {method.method: method.ranks for method in methods}
    names = {method.method: method.names for method in methods}
    chances = {method.method: p for method, p in zip(methods, p_values, strict=True)}
    numbers = [q for q, name in enumerate(methods[0].names) if name not in (LIKELIHOOD, JOINT, TOGETHER)]
    of_all = [q for q in numbers if all(methods[0].names[q] in method.names for method in methods)]
    worst = min(of_all or numbers, key=lambda q: np.nan_to_num(p_values[0][q], nan=2.0))
    chosen = {m.method: m.ranks[:, m.names.index(n)] for m in methods if (n := methods[0].names[worst]) in m.names}
    covered = {method.method: expected_coverage(method.of_latents(), LEVELS) for method in methods}
    sizes = {method.method: len(method.ranks) for method in methods}
    return {
        "ecdf": FigureData(ecdf_differences, {"ranks": ranks, "names": names, "bands": bands, "p_values": chances}),
        "ranks": FigureData(rank_histograms, {"ranks": chosen, "name": methods[0].names[worst]}),
        "coverage": FigureData(coverage, {"levels": LEVELS, "shares": covered, "num_data": sizes}),
    }
