"""The log likelihood of data given posterior draws of their own latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evaluation.results import PosteriorDraws
from ppl_vae.program import latent_quantities


def conditional_log_likelihood(fitted: Fitted, draws: PosteriorDraws, *arrays: Any) -> np.ndarray | None:
    """Return log p(x | z) of data at posterior draws of their latents, ``(num_samples, N)``, nats.

    It is None if there is no latent, or one that all data share.

    Args:
        fitted: the fitted program.
        draws: the draws.
        arrays: the data that they belong to.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> x = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
        >>> vi = VariationalInference("factor_analysis", max_epochs=1).fit(x)
        >>> conditional_log_likelihood(vi.fitted, vi.posterior(x, num_samples=7), x).shape
        (7, 50)
    """
    program, parts, start = fitted.program, [], 0
    if not draws.latents or program.global_posterior is not None:
        return None
    named = {name: draws.latents[name] for name in program.structure.latents if name in draws.latents}
    rows = fitted.room.rows(len(next(iter(named.values()))))
    with torch.no_grad(), program.running(seed=fitted.seed, training=False):
        for batch in fitted.batches(fitted.checked(arrays)).in_order(batch_size=rows):
            own = slice(start, start := start + len(batch[0]))
            latents = {name: torch.as_tensor(z[:, own], device=fitted.device) for name, z in named.items()}
            parts.append(latent_quantities(program, batch, latents).log_likelihood.cpu().numpy())
    return np.concatenate(parts, axis=1)
