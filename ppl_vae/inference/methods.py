"""The methods that ``guide=`` chooses from, and the method that makes a proposal of importance sampling."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ppl_vae.inference.amortized import Amortized
from ppl_vae.inference.families import FamilyName
from ppl_vae.inference.method import Method
from ppl_vae.inference.per_datum import FROM_AFAR, FROM_PRIOR, FoundLambda, LocalOptions
from ppl_vae.inference.per_sample import PerSample, PerSampleOptions
from ppl_vae.inference.semi_amortized import SemiAmortized, SemiAmortizedOptions
from ppl_vae.program import Batch, BoundProgram

METHODS: dict[str, type[Method]] = {"amortized": Amortized, "per-sample": PerSample, "semi-amortized": SemiAmortized}
"""Every method of inference by its name."""


class FromEncoder(SemiAmortized):
    """Gradient steps from f(x; phi) until they converge; a datum whose ELBO does not rise stays at f(x; phi)."""

    def find(self, batch: Batch) -> FoundLambda:
        """See ``LambdaMethod``."""
        return self.optimise(batch, self.encoded(batch), FROM_AFAR)


def proposal(program: BoundProgram, template: Batch, options: LocalOptions, family: FamilyName) -> Method:
    """Return the method that finds the lambda of every datum for importance sampling.

    It starts at the posterior of the program's guide if there is one, and otherwise at the prior.

    Args:
        program: the fitted program.
        template: a few data.
        options: the options of the steps in lambda.
        family: the variational family of the proposal.
    """
    shared: dict[str, Any] = {option.name: getattr(options, option.name) for option in fields(LocalOptions)}
    shared |= {"family": family, "gradient": "reparam"}
    if program.guide is None:
        return PerSample(program, template, PerSampleOptions(**shared | {"local_learning_rate": FROM_PRIOR}))
    shared |= {"local_learning_rate": FROM_AFAR}
    return FromEncoder(program, template, SemiAmortizedOptions(**shared))
