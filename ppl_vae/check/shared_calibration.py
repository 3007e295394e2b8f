"""Simulation-based calibration of latents that all data share: a fit for each simulated data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from ppl_vae.check.latent_ranks import LIKELIHOOD, TOGETHER, RanksOfLatents, describe, rank_figures
from ppl_vae.check.ranks import randomised_ranks, tarp_ranks
from ppl_vae.check.subject import CheckedData, CheckedFit, simulate_like
from ppl_vae.check.verdict import Findings, Verdict
from ppl_vae.display.bars import progress_bar
from ppl_vae.errors import InputError
from ppl_vae.evaluation.arguments import Arrays
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.program import draw_shared, log_likelihoods, names_of

NUM_DRAWS = 199
"""The number of draws from each posterior."""
REFITS = 404
"""What is added to the seed for the first simulated data set."""
SOURCE = "Talts et al., Simulation-Based Calibration (2018), and Sailynoja et al. (2022) for the bands"
REMEDY = (
    "If the latents that all data share are too wide or shifted, train longer, --stop plateau --max-epochs 2000. If "
    "they are too narrow, the other latents depend on them: sample them in a guide of your own, such as "
    "AutoMultivariateNormal, or sum the others out."
)


class RankedNumbers(NamedTuple):
    """The numbers of a latent, or of a quantity, and draws of them."""

    names: tuple[str, ...]
    value: np.ndarray
    """``(D,)``."""
    draws: np.ndarray
    """``(K, D)``."""


def shared_calibration(fit: CheckedFit) -> Findings:
    r"""Check if the latents of simulated data sets lie among draws of the posteriors that are fitted to these sets.

    .. math::
        w_r \sim p(w), \quad z_{ri} \sim p(z \mid w_r), \quad x_{ri} \sim p(x \mid z_{ri}, w_r), \qquad
        q_r = \mathrm{fit}(x_{r1}, \dots, x_{rN}), \qquad
        u_r = \mathrm{rank\ of}\ w_r\ \mathrm{among\ draws\ of}\ q_r \sim \mathrm{Uniform}(0, 1)

    Each set has as many data as there are training data, at most ``num_data``. Theta keeps its fitted values, because
    they are those of the simulation; guide and q are fitted with the options of the fit. The latents of one datum of
    each set are ranked too, and log p(x | w) if there are none.

    Raises:
        InputError: no number of fits is given.
    """
    shared, count = fit.fitted.program.global_posterior, fit.settings.calibration_fits
    assert shared is not None
    if not count or fit.refit is None:
        raise InputError(
            f"the latent {shared.names[0]!r} is shared by all data, so that each set of simulated data needs a fit of "
            "its own: --calibration-fits 40 takes forty times as long as the fit"
        )
    sets = []
    with progress_bar("calibration", count, "fit") as bar:
        for number in range(count):
            sets.append(_numbers_of_fit(fit, number))
            bar.update()
    method = rank_in_sets(sets, fit.seed)
    p_values = method.p_values()
    return Findings([_judge(fit, method, p_values)], rank_figures([method], [p_values]))


def rank_in_sets(sets: list[list[RankedNumbers]], seed: int) -> RanksOfLatents:
    """Rank the numbers of each data set among their draws."""
    random = np.random.default_rng([seed, 5])
    names = [name for part in sets[0] for name in part.names]
    values = np.stack([np.concatenate([part.value for part in parts]) for parts in sets])
    draws = np.stack([np.concatenate([part.draws for part in parts], -1) for parts in sets], 1)
    ranks = [randomised_ranks(values, draws, random)]
    latents = [name != LIKELIHOOD for name in names]
    if sum(latents) > 1:
        own = values[:, latents]
        ranks.append(tarp_ranks(own, draws[..., latents], np.roll(own, 1, 0), random)[:, None])
        names.append(TOGETHER)
    return RanksOfLatents("fit", tuple(names), np.concatenate(ranks, 1), NUM_DRAWS)


def _numbers_of_fit(fit: CheckedFit, number: int) -> list[RankedNumbers]:
    """Simulate a data set, fit it, and return its latents with draws of them."""
    assert fit.refit is not None
    seed = fit.seed + REFITS + number
    conditions = fit.train if len(fit.train) else fit.test
    simulated = simulate_like(fit.fitted, conditions, len(conditions), seed)
    fitted = fit.refit(simulated.arrays, seed)
    program = fitted.program
    with torch.no_grad(), program.running(seed=seed, training=False):
        drawn = draw_shared(program, NUM_DRAWS)
        numbers = [_flat(name, simulated.shared[name], w.cpu()) for name, w in drawn.items()]
        if not program.structure.latents:
            numbers.append(_likelihoods(fitted, simulated.arrays, simulated.shared, drawn))
    if fitted.has_latents:
        row = number % len(conditions)
        one = {name: array[row : row + 1] for name, array in simulated.arrays.items()}
        settings = replace(fit.settings, num_samples=NUM_DRAWS)
        draws = CheckedData(fitted, one, np.array([row]), settings, seed).draws.latents
        numbers += [_flat(name, z[row], draws[name][:, 0]) for name, z in simulated.latents.items() if name in draws]
    return numbers


def _likelihoods(
    fitted: Fitted, arrays: Arrays, exact: Mapping[str, torch.Tensor], drawn: Mapping[str, torch.Tensor]
) -> RankedNumbers:
    """Return log p(x | w) of all data at the latents from which they were simulated, and at draws."""
    like, batches = next(iter(drawn.values())), fitted.batches(arrays)

    def of_all(shared: Mapping[str, torch.Tensor]) -> np.ndarray:
        parts = [log_likelihoods(fitted.program, batch, shared).double().sum(1) for batch in batches.in_order()]
        return torch.stack(parts).sum(0).cpu().numpy()

    value = of_all({name: w[None].to(like.device) for name, w in exact.items()})
    draws = of_all(drawn)
    return RankedNumbers((LIKELIHOOD,), value, draws[:, None])


def _flat(name: str, value: torch.Tensor, draws: torch.Tensor) -> RankedNumbers:
    numbers, of_draws = value.double().numpy().reshape(-1), draws.double().numpy().reshape(len(draws), -1)
    return RankedNumbers(tuple(names_of(name, value.shape)), numbers, of_draws)


def _judge(fit: CheckedFit, method: RanksOfLatents, p_values: np.ndarray) -> Verdict:
    worst, number = float(np.nanmin(p_values)), len(method.ranks)
    meaning = f"The latents of {number} simulated data sets lie among the draws of their fits as they should."
    if worst <= fit.level:
        meaning = describe(method, p_values, fit.level)
    return Verdict.judged(
        subject=f"{number} fits", value=worst, threshold=fit.level, least=True, spec=".2g", unit="p value",
        p_value=worst, meaning=meaning, remedy=REMEDY, source=SOURCE,
    )  # fmt: skip
