"""From a program and data to an evaluation."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ppl_vae.data import Batches
from ppl_vae.evaluation.diagnose import diagnose
from ppl_vae.evaluation.estimate import estimate
from ppl_vae.evaluation.estimators import Settings
from ppl_vae.evaluation.evaluation import Evaluation, summarise
from ppl_vae.evaluation.passes import ROWS_PER_PASS
from ppl_vae.inference import Compiler
from ppl_vae.program import BoundProgram, generates, observed_numbers, observes_discrete


def evaluate_program(
    program: BoundProgram,
    batches: Batches,
    names: Collection[str],
    settings: Settings,
    *,
    diagnostics: bool,
    seed: int,
    compiler: Compiler,
) -> Evaluation:
    """Evaluate how well a program explains data.

    Args:
        program: the program.
        batches: all data.
        names: names of the estimators, which ``check_estimators`` has passed.
        settings: the settings of the estimators.
        diagnostics: If True, the use of the latents is diagnosed too.
        seed: seed of the draws.
        compiler: runs log weights and trajectories as graphs if that repays; one for a program and its settings.

    Raises:
        InputError: an estimator that is not for this program, a setting that cannot be, bad data.
        Diverged: a density is not finite.
    """

    with torch.no_grad(), program.running(seed=seed, training=False):
        estimates = estimate(program, batches, names, settings, seed, compiler)
        used = diagnose(program, batches, seed) if diagnostics else None
        discrete = observes_discrete(program)
        numbers = sum(
            observed_numbers(program, batch).sum().item() for batch in batches.in_order(batch_size=ROWS_PER_PASS)
        )
    return Evaluation(
        num_data=batches.num_data,
        numbers_per_datum=numbers / batches.num_data,
        rows=summarise(estimates),
        evidence={name: estimate.evidence for name, estimate in estimates.items()},
        settings=settings,
        diagnostics=used,
        generates=generates(program),
        discrete=discrete,
    )
