"""Simulation-based calibration: do draws of the posteriors of simulated data behave as their latents do?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ppl_vae.check.latent_ranks import (
    DOUBTFUL,
    JOINT,
    LIKELIHOOD,
    MOST_NUMBERS,
    TOGETHER,
    RanksOfLatents,
    judge,
    rank_figures,
    remedy_of_guide,
)
from ppl_vae.check.ranks import normalised, randomised_ranks, tarp_ranks
from ppl_vae.check.shared_calibration import shared_calibration
from ppl_vae.check.subject import CheckedData, CheckedFit
from ppl_vae.check.verdict import Findings, Verdict
from ppl_vae.data import NamedArrays
from ppl_vae.errors import Diverged, InputError
from ppl_vae.evidence import Annealing, Chains
from ppl_vae.program import Batch, annealing_path, latent_quantities, names_of

ANNEALED, ANNEALING = 100, Annealing(num_temperatures=100, num_chains=32)
"""The number of data whose posterior is sampled by annealing, and how: it costs hundreds of times what a guide does."""


def calibration(fit: CheckedFit) -> Findings:
    r"""Check if the latents of simulated data lie among draws of their posteriors as they should.

    .. math::
        z_i \sim p(z), \quad x_i \sim p(x \mid z_i), \quad z_{ik} \sim q(z \mid x_i), \qquad
        u_i = \mathrm{rank\ of}\ f(z_i, x_i)\ \mathrm{among}\ f(z_{ik}, x_i) \sim \mathrm{Uniform}(0, 1)

    if q is the posterior, for every quantity f: each number of each latent, log p(x | z), log p(x, z), and the
    distance from a random point. The guide, the guide reweighted by importance, and annealed importance sampling are
    judged apart, so that one sees which of them can be believed. If all data share latents, see ``shared_calibration``.
    """
    if fit.fitted.program.global_posterior is not None:
        return shared_calibration(fit)
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
    if guide_fails:
        is_trusted = bool(methods[1].doubtful.mean() <= DOUBTFUL)
        remedy = remedy_of_guide(verdicts[1], verdicts[2] if not missing else None, is_trusted)
        verdicts[0] = replace(verdicts[0], remedy=remedy)
    return Findings(verdicts + missing, rank_figures(methods, p_values))


def rank_by_guide(simulated: CheckedData, *, weighted: bool = False) -> RanksOfLatents:
    """Rank the latents of simulated data among draws of the guide, which may be weighted by importance."""
    weights = simulated.draws.log_weight.numpy() if weighted else None
    quantities = simulated.quantities
    random = np.random.default_rng([simulated.seed, int(weighted)])
    columns = _columns_of(simulated, quantities.hidden)
    names = [name for name, _, _ in columns]
    values = np.stack([value for _, value, _ in columns], 1)
    draws = np.stack([draw for _, _, draw in columns], 2)
    names, ranks = _rank_latents(names, values, draws, random, weights)
    for value, drawn in (quantities.log_likelihood, quantities.log_joint):
        ranks.append(randomised_ranks(value, drawn, random, weights)[:, None])
    effective = float(simulated.settings.num_samples)
    if weights is not None:
        effective = float(np.median(1 / np.square(normalised(weights)).sum(0)))
    method = "guide, reweighted" if weighted else "guide"
    doubtful = simulated.evidence.doubtful.numpy() if weighted else np.zeros(0, dtype=bool)
    whole = frozenset(name for name, _, draw in columns if (draw == np.rint(draw)).all())
    return RanksOfLatents(method, (*names, LIKELIHOOD, JOINT), np.concatenate(ranks, 1), effective, doubtful, whole)


def _rank_latents(
    names: list[str], values: np.ndarray, draws: np.ndarray, random: np.random.Generator, log_weights: np.ndarray | None
) -> tuple[list[str], list[np.ndarray]]:
    """Return the ranks of each latent number, and of all together if there are several, with their names.

    Args:
        names: the names of the ``D`` numbers.
        values: the latents of simulated data, ``(N, D)``; NaN where a mask hides a number.
        draws: draws of their posteriors, ``(K, N, D)``.
        random: see ``randomised_ranks``.
        log_weights: see ``randomised_ranks``.
    """
    ranks = [randomised_ranks(values, draws, random, log_weights)]
    if len(names) == 1:
        return names, ranks
    references = np.roll(np.nan_to_num(values), 1, 0)  # latents of another datum, which are draws of the prior
    seen = np.where(np.isnan(values), 0, draws)  # what is hidden is at no distance
    together = tarp_ranks(np.nan_to_num(values), seen, references, random, log_weights)
    return [*names, TOGETHER], [*ranks, together[:, None]]


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
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # values, draws and log weights of a batch
    names: list[str] = []

    def anneal(batch: Batch) -> None:
        nonlocal row, names
        rows = slice(row, row + len(batch[0]))
        row = rows.stop
        latents = {name: z[None, rows].to(batch[0].device) for name, z in simulated.latents.items()}
        path = annealing_path(program, batch, "prior")
        chains = Chains(path.draw, path.log_densities, settings, rows.start)
        ends = chains.forward(chains.adapt())
        exact, hidden = path.flat(latents), latent_quantities(program, batch, latents).hidden
        columns, names = [], []
        for site, drawn in path.values(ends.u).items():
            value, size = latents[site][0], torch.Size(drawn.shape[2:])
            if site in hidden:
                value = torch.where(hidden[site], torch.nan, value)
            columns.append((value.reshape(len(value), -1), drawn.reshape(*drawn.shape[:2], -1)))
            names += names_of(site, size)
        for of_both in ((-1, 1), (0, 1)):
            value, drawn = (_combined(path.log_densities(u), of_both) for u in (exact, ends.u))
            columns.append((value[0][:, None], drawn[..., None]))
        values, draws = (torch.cat([column[i] for column in columns], -1).double().cpu().numpy() for i in (0, 1))
        parts.append((values, draws, ends.log_weight.cpu().numpy()))

    fitted = simulated.fitted
    with torch.no_grad(), program.running(seed=simulated.seed, training=False):
        for batch in fitted.batches(first).in_order(batch_size=fitted.room.rows(settings.num_chains)):
            anneal(batch)
    values = np.concatenate([values for values, _, _ in parts])
    draws, log_weights = (np.concatenate([part[i] for part in parts], 1) for i in (1, 2))
    count = len(names)
    names, ranks = _rank_latents(names, values[:, :count], draws[..., :count], random, log_weights)
    ranks.append(randomised_ranks(values[:, count:], draws[..., count:], random, log_weights))
    size = float(np.median(1 / np.square(normalised(log_weights)).sum(0)))
    return RanksOfLatents("annealing (AIS)", (*names, LIKELIHOOD, JOINT), np.concatenate(ranks, 1), size)


def _combined(densities: tuple[Tensor, Tensor], factors: tuple[int, int]) -> Tensor:
    return densities[0] * factors[0] + densities[1] * factors[1]
