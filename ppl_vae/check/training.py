"""The check that training has converged."""

from __future__ import annotations

from ppl_vae.check.subject import CheckedFit
from ppl_vae.check.verdict import FigureData, Findings, Verdict
from ppl_vae.inference.plateau import ERRORS, HORIZONS, SMALL, Rise, convergence_of, more_epochs
from ppl_vae.plots import elbo_over_epochs

SOURCE = f"a rise of {ERRORS:g} standard errors, or of {SMALL:.1%} of the gain so far"


def training(fit: CheckedFit) -> Findings:
    """Check if training has converged: does the validation bound still rise?"""
    state = convergence_of(fit.history)
    if not state.is_known:
        return Findings([Verdict.not_judged("validation bound", str(state))])
    verdicts, more = [], more_epochs(fit.history)
    for horizon, rise in zip(HORIZONS, state.rises, strict=True):
        limit = max(ERRORS * (rise.error or 0.0), SMALL * abs(state.gain))
        doubt = "" if rise.error is None else f" ± {rise.error:.2g}"
        verdicts.append(
            Verdict.judged(
                subject=f"rise in the last {horizon:.0%}",
                value=rise.rise,
                doubt=rise.error,
                threshold=limit,
                unit="nats per datum",
                spec=".3f",
                source=SOURCE,
                meaning=f"The validation bound has risen by {rise.rise:.2g}{doubt} nats per datum from the "
                f"validations before to the last {rise.validations}, about {_per_100(rise):.2g} nats per 100 epochs.",
                consequence="Training was stopped too early; every number below is of a fit that is not finished.",
                remedy=f"Go on with --resume --stop plateau --max-epochs {more}, which trains until the bound no "
                "longer rises. If the learning rate was already near zero, fit anew with a larger --max-epochs.",
            )
        )
    figure = FigureData(
        elbo_over_epochs,
        {"metrics": list(fit.history)},
        "The bound over the fit",
        "Training has converged if the validation bound has been level for the last quarter.",
    )
    return Findings(verdicts, {"training": figure})


def _per_100(rise: Rise) -> float:
    return 100 * rise.rise / rise.epochs
