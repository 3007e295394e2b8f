"""A fit of the guide of a fitted program to other data, for checks of inference."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from ppl_vae.data import hold_out
from ppl_vae.estimator.holes import look_for_holes
from ppl_vae.estimator.options import FitOptions
from ppl_vae.evaluation.arguments import Arrays
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.inference.options import options_of
from ppl_vae.program import seeded
from ppl_vae.program.model_parameters import hold_model


def refit(vi: Any, arrays: Arrays, seed: int) -> Fitted:
    """Fit anew to other data with the options of a fit; theta has the fitted values and does not move.

    The guide, and the posterior of latents that all data share, start where they did before the fit.

    Args:
        vi: a fitted ``VariationalInference``, which is left as it is.
        arrays: the data by name.
        seed: the seed of the new fit.

    Raises:
        InputError: as in ``VariationalInference.fit``.
        Diverged: the loss is not finite.
    """
    again = clone(vi).set_params(seed=seed)
    options = options_of(again, FitOptions)
    train, valid = hold_out(arrays, options.validation_fraction, seed)
    again.origin.size_by(train, standardize=options.standardize)
    holes = look_for_holes(again.origin.definition, again, [part for part in (train, valid) if part])
    with seeded(seed):
        again.attach(holes.fill(train), train=True, holes=holes)
    again.fitted.inference.held = hold_model(again.program_, vi.program_)
    again.prepare(train, valid)
    for _ in again.epochs():
        pass
    return again.fitted
