"""The checks in the order in which one should act on them: a check that fails may be the cause of later failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ppl_vae.check.annealing import annealing
from ppl_vae.check.calibration import calibration
from ppl_vae.check.encoder import encoder
from ppl_vae.check.lambdas import lambdas
from ppl_vae.check.latents import latents
from ppl_vae.check.predictions import predictions
from ppl_vae.check.subject import CheckedFit, CheckNeed
from ppl_vae.check.surprise import surprise
from ppl_vae.check.training import training
from ppl_vae.check.two_samples import two_samples
from ppl_vae.check.verdict import Findings
from ppl_vae.check.weights import weights


class Check(NamedTuple):
    """A check, as the page and the command line know it."""

    function: Callable[[CheckedFit], Findings]
    """The function from a fit to verdicts."""
    needs: tuple[CheckNeed, ...] = ()
    """What the fit must have; without it the page says so, and the function is not called."""
    is_test: bool = False
    """True if its verdicts are tests at ``CheckedFit.level``, which can fail by chance."""

    @property
    def name(self) -> str:
        """The name for ``--only`` and ``--skip``, which is that of the function."""
        return self.function.__name__


CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        Check(training, ("history",)),
        Check(lambdas, ("latents", "test data")),
        Check(encoder, ("latents", "test data", "training data")),
        Check(weights, ("latents", "test data")),
        Check(annealing, ("latents", "test data")),
        Check(calibration, ("simulation",), is_test=True),
        Check(latents, ("latents", "test data")),
        Check(predictions, ("simulation", "test data"), is_test=True),
        Check(surprise, ("simulation", "test data"), is_test=True),
        Check(two_samples, ("simulation", "test data"), is_test=True),
    )
}
"""All checks by name, in their order."""
