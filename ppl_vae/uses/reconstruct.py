"""Data, and draws from their posterior predictive."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ppl_vae.display.readable import readable
from ppl_vae.estimator import VariationalInference
from ppl_vae.inference.options import Count, check_value
from ppl_vae.uses.description import Caption, describe_use

DRAWS_OF_A_MEAN = 64
"""The least number of draws of z for a mean."""


@readable
class Reconstruction(NamedTuple):
    """Data and their posterior predictive, by observed site."""

    data: dict[str, np.ndarray]
    """The data as the sites observe them, ``(N, ...)``."""
    mean: dict[str, np.ndarray]
    """Means of the posterior predictive, ``(N, ...)``; of classes, their probabilities, ``(N, ..., C)``."""
    draws: dict[str, np.ndarray]
    """Draws from the posterior predictive, ``(S, N, ...)``."""


@describe_use(
    reconstruct=Caption("samples", "Reconstructions by several draws", "Data, their means and several posterior draws.")
)
def reconstruct(vi: VariationalInference, *arrays: Any, num_draws: int = 5) -> Reconstruction:
    r"""Draw from the posterior predictive of data.

    .. math:: x' \sim \int p(x' \mid z)\, q(z \mid x)\, dz

    Args:
        vi: a fitted program.
        arrays: the data, in the order of the model's arguments, or one mapping.
        num_draws: number of draws, ``S``. The mean is one over 64 draws of z, or over ``S`` if that is more.

    Example:
        >>> from ppl_vae import VariationalInference
        >>> from ppl_vae.models.vae import VAE
        >>> x = np.random.default_rng(0).integers(0, 2, (50, 6))
        >>> vi = VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=1).fit(x)
        >>> reconstruction = reconstruct(vi, x[:3])
        >>> reconstruction.mean["x"].shape, reconstruction.draws["x"].shape
        ((3, 6), (5, 3, 6))
    """
    check_value("num_draws", num_draws, Count)
    drawn = vi.posterior(*arrays, num_samples=max(DRAWS_OF_A_MEAN, num_draws))
    return Reconstruction(
        drawn.data, dict(drawn.average), {name: draws[:num_draws] for name, draws in drawn.observed.items()}
    )
