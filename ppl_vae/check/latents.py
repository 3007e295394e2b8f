"""The check of the latents: are they used, and do the posteriors of all data together look like the prior?"""

from __future__ import annotations

import torch

from ppl_vae.check.subject import CheckedFit
from ppl_vae.check.verdict import FigureData, Findings, Verdict
from ppl_vae.evaluation.diagnose import look_at_latents, summarise_latents
from ppl_vae.evaluation.evaluation import Diagnostics
from ppl_vae.evidence.diagnostics import ACTIVE_VARIANCE
from ppl_vae.plots import aggregated_posterior

USED = 0.5
"""The least share of the latent dimensions that are used."""
APART = 0.3
"""The largest accepted KL divergence of the aggregated posterior from the prior in one dimension, nats."""
NAMED = 5
"""The largest number of dimensions that a text names."""


def latents(fit: CheckedFit) -> Findings:
    """Check if the latents are used, and if the aggregated posterior is near the prior from which one generates."""
    program, arrays = fit.test.located
    with torch.no_grad(), program.running(seed=fit.seed, training=False):
        look = look_at_latents(program, fit.fitted.batches(arrays), fit.seed)
        if look is None:
            return Findings([Verdict.not_judged("the latents", "the guide samples none of a datum")])
        used = summarise_latents(program, [look], fit.seed)
    verdicts = [_activity(used), _distance(used)]
    figure = FigureData(
        aggregated_posterior,
        {
            "draws": used.draws.numpy(),
            "prior_draws": used.prior_draws.numpy(),
            "divergence": used.aggregated_divergence.numpy(),
            "errors": used.aggregated_divergence_se.numpy(),
            "gaussian_prior": used.gaussian_prior.numpy(),
            "names": used.dimensions,
        },
        "Aggregated posterior beside the prior",
        "Where they differ, the decoder gets draws from the prior that are unlike most that it was trained on.",
    )
    return Findings(verdicts, {"latents": figure})


def _activity(used: Diagnostics) -> Verdict:
    if used.active is None:
        return Verdict.not_judged("used dimensions", "one datum has no variance")
    idle = [name for name, active in zip(used.dimensions, used.active.tolist(), strict=True) if not active]
    return Verdict.judged(
        subject="share of dimensions used",
        value=float(used.active.double().mean()),
        threshold=USED,
        least=True,
        source="Burda, Grosse and Salakhutdinov (2016): the variance of the posterior mean is above "
        f"{ACTIVE_VARIANCE} of that of the prior",
        meaning=f"The mean of the posterior hardly depends on the datum in {len(idle)} of {len(used.dimensions)} "
        f"latent dimensions{': ' if idle else ''}{_listed(idle)}.",
        consequence="They carry little about the data, or the guide does not show it.",
        remedy="Take fewer dimensions, or let them be used: --kl-warmup-epochs 50, --free-bits 0.1, or a decoder that "
        "can do less without them.",
    )


def _distance(used: Diagnostics) -> Verdict:
    kl = used.aggregated_divergence.double()
    worst = int(kl.argmax())
    far = [name for name, value in zip(used.dimensions, kl.tolist(), strict=True) if value > APART]
    differ = f"differ from the prior in {_listed(far)}" if far else "are near the prior"
    return Verdict.judged(
        subject=f"aggregated KL of {used.dimensions[worst]}",
        value=float(kl[worst]),
        doubt=float(used.aggregated_divergence_se[worst]),
        threshold=APART,
        unit="nats",
        source="Hoffman and Johnson, ELBO surgery (2016); 0.3 nats is a shift of 0.8 standard deviations",
        meaning=f"The posteriors of all data together {differ}.",
        consequence="Draws from the prior come where the decoder has seen few data, and look worse than "
        "reconstructions.",
        remedy="If the guide fails in calibration, mend that first. Train longer, or take a prior that can follow, as "
        "in vamp_vae, mixture_prior_vae or flow_prior_vae of the gallery.",
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
