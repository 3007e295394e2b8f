"""Simulation-based calibration: do draws of the posteriors of simulated data behave as their latents do?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.check.ranks import expected_coverage, normalised, randomised_ranks, tarp_ranks
from ppl_vae.check.subject import CheckedData, CheckedFit
from ppl_vae.check.uniformity import uniformity_bands, uniformity_p_value
from ppl_vae.check.verdict import FigureData, Findings, Verdict, holm
from ppl_vae.check.width import width_and_shift
from ppl_vae.data import NamedArrays
from ppl_vae.errors import Diverged, InputError
from ppl_vae.evidence import Annealing, Chains
from ppl_vae.plots import coverage, ecdf_differences, rank_histograms
from ppl_vae.program import Batch, annealing_path, latent_quantities, names_of

ANNEALED, ANNEALING = 100, Annealing(num_temperatures=100, num_chains=16)
"""The number of data whose posterior is sampled by annealing, and how: it costs hundreds of times what a guide does."""
MOST_NUMBERS = 500
"""The largest number of latent numbers that are ranked one by one; of more, some are drawn."""
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

    def p_values(self) -> np.ndarray:
        """Return the p value of each quantity's uniformity, adjusted for the number of quantities, ``(Q,)``."""
        return np.array(holm([uniformity_p_value(self.ranks[:, q]) for q in range(len(self.names))]))

    def of_latents(self) -> np.ndarray:
        """Return the ranks of the numbers of latents alone, ``(N, D)``."""
        return self.ranks[:, [name not in (LIKELIHOOD, JOINT, TOGETHER) for name in self.names]]


def calibration(fit: CheckedFit) -> Findings:
    r"""Check if the latents of simulated data lie among draws of their posteriors as they should.

    .. math::
        z_i \sim p(z), \quad x_i \sim p(x \mid z_i), \quad z_{ik} \sim q(z \mid x_i), \qquad
        u_i = \mathrm{rank\ of}\ f(z_i, x_i)\ \mathrm{among}\ f(z_{ik}, x_i) \sim \mathrm{Uniform}(0, 1)

    if q is the posterior, for every quantity f: each number of each latent, log p(x | z), log p(x, z), and the
    distance from a random point. The guide, the guide reweighted by importance, and annealed importance sampling are
    judged apart, so that one sees which of them can be believed.
    """
    simulated = fit.simulated
    if not simulated.latents:
        return Findings([Verdict.not_judged("the guide", "the program has no latents")])
    methods, missing = [rank_by_guide(simulated), rank_by_guide(simulated, weighted=True)], []
    try:
        methods.append(rank_by_annealing(simulated))
    except (InputError, Diverged) as error:
        missing.append(Verdict.not_judged("annealing (AIS)", str(error)))
    level = fit.level / len(methods)
    p_values = [method.p_values() for method in methods]
    guide_fails = bool(np.nanmin(p_values[0]) <= level)
    verdicts = [judge(m, p, level, guide_fails) for m, p in zip(methods, p_values, strict=True)]
    return Findings(verdicts + missing, _figures(methods, p_values))


# ------------------------------------------------------------------------------------------------------ ranks


def rank_by_guide(simulated: CheckedData, *, weighted: bool = False) -> RanksOfLatents:
    """Rank the latents of simulated data among draws of the guide, which may be weighted by importance."""
    weights = simulated.draws.log_weight.numpy() if weighted else None
    quantities = simulated.quantities
    random = np.random.default_rng([simulated.seed, int(weighted)])
    columns = _columns_of(simulated, quantities.hidden)
    names = [name for name, _, _ in columns]
    values = np.stack([value for _, value, _ in columns], 1)
    draws = np.stack([draw for _, _, draw in columns], 2)
    ranks = [randomised_ranks(values, draws, random, weights)]
    if len(columns) > 1:
        references = np.roll(np.nan_to_num(values), 1, 0)  # latents of another datum, which are draws of the prior
        seen = np.where(np.isnan(values), 0, draws)  # what is hidden is at no distance
        together = tarp_ranks(np.nan_to_num(values), seen, references, random, weights)
        ranks, names = [*ranks, together[:, None]], [*names, TOGETHER]
    for value, drawn in (quantities.log_likelihood, quantities.log_joint):
        ranks.append(randomised_ranks(value, drawn, random, weights)[:, None])
    effective = float(simulated.settings.num_samples)
    if weights is not None:
        effective = float(np.median(1 / np.square(normalised(weights)).sum(0)))
    method = "guide, reweighted" if weighted else "guide"
    return RanksOfLatents(method, (*names, LIKELIHOOD, JOINT), np.concatenate(ranks, 1), effective)


def _columns_of(simulated: CheckedData, hidden: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return name, values ``(N,)`` and draws ``(K, N)`` of each latent number; NaN where a mask hides it."""
    columns = []
    for site, tensor in simulated.latents.items():
        if site not in simulated.draws.latents:
            continue
        value, drawn = tensor.double().numpy(), simulated.draws.latents[site].numpy()
        if site in hidden:
            value = np.where(hidden[site], np.nan, value)
        value, drawn = value.reshape(len(value), -1), drawn.reshape(*drawn.shape[:2], -1)
        names = names_of(site, tensor.shape[1:])
        columns += [(names[d], value[:, d], drawn[..., d]) for d in range(value.shape[1])]
    if len(columns) > MOST_NUMBERS:
        chosen = np.random.default_rng(simulated.seed).choice(len(columns), MOST_NUMBERS, replace=False)
        columns = [columns[i] for i in sorted(chosen)]
    return columns


def rank_by_annealing(
    simulated: CheckedData, num_data: int = ANNEALED, settings: Annealing = ANNEALING
) -> RanksOfLatents:
    """Rank the latents of simulated data among the ends of annealed chains, which start at the prior.

    Raises:
        InputError: the latents cannot be annealed.
    """
    program, arrays = simulated.located
    first = NamedArrays({name: np.asarray(array)[:num_data] for name, array in arrays.items()})
    random, row = np.random.default_rng([simulated.seed, 2]), 0
    ranks: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    names: tuple[str, ...] = ()

    def anneal(batch: Batch) -> None:
        nonlocal row, names
        rows = slice(row, row + len(batch[0]))
        row = rows.stop
        latents = {name: z[None, rows].to(batch[0].device) for name, z in simulated.latents.items()}
        path = annealing_path(program, batch, "prior")
        chains = Chains(path.draw, path.log_densities, settings, rows.start)
        ends = chains.forward(chains.adapt())
        log_weight = ends.log_weight.cpu().numpy()
        exact, hidden = path.flat(latents), latent_quantities(program, batch, latents).hidden
        columns, names = [], ()
        for site, drawn in path.values(ends.u).items():
            value, size = latents[site][0], torch.Size(drawn.shape[2:])
            if site in hidden:
                value = torch.where(hidden[site], torch.nan, value)
            columns.append((value.reshape(len(value), -1), drawn.reshape(*drawn.shape[:2], -1)))
            names += tuple(names_of(site, size))
        for name, of_both in ((LIKELIHOOD, (-1, 1)), (JOINT, (0, 1))):
            value, drawn = (_combined(path.log_densities(u), of_both) for u in (exact, ends.u))
            columns.append((value[0][:, None], drawn[..., None]))
            names += (name,)
        values, draws = (torch.cat([column[i] for column in columns], -1).double().cpu().numpy() for i in (0, 1))
        ranks.append(randomised_ranks(values, draws, random, log_weight))
        sizes.append(1 / np.square(normalised(log_weight)).sum(0))

    fitted = simulated.fitted
    with torch.no_grad(), program.running(seed=simulated.seed, training=False):
        for batch in fitted.batches(first).in_order(batch_size=fitted.room.rows(settings.num_chains)):
            anneal(batch)
    return RanksOfLatents("annealing (AIS)", names, np.concatenate(ranks), float(np.median(np.concatenate(sizes))))


def _combined(densities: tuple[Tensor, Tensor], factors: tuple[int, int]) -> Tensor:
    return densities[0] * factors[0] + densities[1] * factors[1]


# ---------------------------------------------------------------------------------------------------- verdicts


def judge(method: RanksOfLatents, p_values: np.ndarray, level: float, guide_fails: bool) -> Verdict:
    """Return the verdict about one method: the smallest adjusted p value of its quantities, and what is wrong."""
    worst = float(np.nanmin(p_values))
    number = len(method.ranks)
    if worst > level:
        meaning = f"The latents of {number} simulated data lie among the draws as those of the posterior would."
        if guide_fails and method.method != "guide":
            mended = "Reweighting by importance mends" if "reweighted" in method.method else "Annealing mends"
            meaning += f" {mended} what is wrong with the guide."
    else:
        meaning = _describe(method, p_values, level)
    return Verdict.judged(
        subject=method.method, value=worst, threshold=level, least=True, spec=".2g", unit="p value", p_value=worst,
        meaning=meaning, remedy=REMEDIES[method.method], source=SOURCE,
    )  # fmt: skip


REMEDIES = {
    "guide": "Take the numbers that are reweighted (iwae, and draws with their weights) if these hold. Else take "
    "another family, --family full or flow, more steps, --guide semi-amortized, or a larger encoder.",
    "guide, reweighted": "The weights do not mend the guide: take more --num-samples or --proposal-scale 1.2, or "
    "estimate the evidence by ais.",
    "annealing (AIS)": "The chains do not reach the posterior: evaluate with more --num-temperatures.",
}


def _describe(method: RanksOfLatents, p_values: np.ndarray, level: float) -> str:
    failing = np.flatnonzero(p_values <= level)
    latents = [q for q in failing if method.names[q] not in (LIKELIHOOD, JOINT, TOGETHER)]
    fits = {q: width_and_shift(method.ranks[:, q], method.num_draws) for q in latents[:MOST_NUMBERS]}
    order = sorted(fits, key=lambda q: -max(abs(np.log(fits[q].width)), abs(fits[q].shift)))
    parts = [f"{method.names[q]} is {fits[q].in_words()}" for q in order[:3]]
    if len(order) > 3:
        parts.append(f"and {len(order) - 3} more")
    others = [method.names[q] for q in failing if q not in latents]
    if others and not parts:
        parts.append(f"{' and '.join(others)} differ, though each latent by itself does not")
    covered = 100 * expected_coverage(method.of_latents(), [0.9])[0]
    return f"Of the draws, {'; '.join(parts)}. Intervals of 90 % hold {covered:.0f} % of the latents."


def _figures(methods: list[RanksOfLatents], p_values: list[np.ndarray]) -> dict[str, FigureData]:
    bands = {}
    for method in methods:
        band = uniformity_bands(len(method.ranks))
        bands[method.method] = (band.points, band.lower, band.upper)
    ranks = {method.method: method.ranks for method in methods}
    names = {method.method: method.names for method in methods}
    chances = {method.method: p for method, p in zip(methods, p_values, strict=True)}
    numbers = [q for q, name in enumerate(methods[0].names) if name not in (LIKELIHOOD, JOINT, TOGETHER)]
    worst = min(numbers, key=lambda q: np.nan_to_num(p_values[0][q], nan=2.0))
    chosen = {m.method: m.ranks[:, m.names.index(n)] for m in methods if (n := methods[0].names[worst]) in m.names}
    covered = {method.method: expected_coverage(method.of_latents(), LEVELS) for method in methods}
    sizes = {method.method: len(method.ranks) for method in methods}
    return {
        "ecdf": FigureData(ecdf_differences, {"ranks": ranks, "names": names, "bands": bands, "p_values": chances}),
        "ranks": FigureData(rank_histograms, {"ranks": chosen, "name": methods[0].names[worst]}),
        "coverage": FigureData(coverage, {"levels": LEVELS, "shares": covered, "num_data": sizes}),
    }
