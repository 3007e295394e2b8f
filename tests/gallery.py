"""Every program of the gallery, small, with data for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from scenarios import bits, normal
from torch import nn

from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from ppl_vae.program import Batch


class Case(NamedTuple):
    """A program of the gallery."""

    make: Callable[[], nn.Module]
    """Of single precision, from torch's generator."""
    batch: Batch
    """21 data, real numbers in double precision."""


GALLERY: dict[str, Case] = {
    "factor_analysis": Case(lambda: FactorAnalysis(data_dim=6, latent_dim=2), (normal(21, 6),)),
    "vae": Case(lambda: VAE(data_dim=6, latent_dim=2, hidden=(8, 7)), (bits(21, 6),)),
}
