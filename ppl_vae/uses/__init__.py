"""The uses of a fitted model, one use a file: functions of a fitted ``VariationalInference`` to arrays.

Every use applies effect handlers to the program, so that it works for any program. It returns a ``NamedTuple`` of
arrays, and of dictionaries by the names of observed sites. Draws are made with the fit's seed, so that the same call
gives the same arrays.

Example:
    >>> import numpy as np
    >>> from ppl_vae import VariationalInference
    >>> from ppl_vae.models.vae import VAE
    >>> from ppl_vae.uses import embed, generate
    >>> x = np.random.default_rng(0).integers(0, 2, (50, 6))
    >>> vi = VariationalInference(VAE(data_dim=6, latent_dim=2), max_epochs=2).fit(x)
    >>> generate(vi, 5).means["x"].shape, embed(vi, x).mean.shape
    ((5, 6), (50, 2))
"""

from __future__ import annotations

from ppl_vae.uses._imputation import Imputation
from ppl_vae.uses.augment import Augmented, augment
from ppl_vae.uses.embed import Embedding, embed
from ppl_vae.uses.generate import Generated, generate, listed_values
from ppl_vae.uses.impute import ImputeBy, column_means, impute, score_missing
from ppl_vae.uses.interpolate import Interpolation, PathName, interpolate
from ppl_vae.uses.latents import Latents, Plane, latents
from ppl_vae.uses.manifold import Manifold, manifold
from ppl_vae.uses.outliers import Outliers, estimator_of_outliers, outliers
from ppl_vae.uses.reconstruct import Reconstruction, reconstruct
from ppl_vae.uses.traverse import Traversal, traverse

__all__ = [
    "Augmented",
    "Embedding",
    "Generated",
    "Imputation",
    "ImputeBy",
    "Interpolation",
    "Latents",
    "Manifold",
    "Outliers",
    "PathName",
    "Plane",
    "Reconstruction",
    "Traversal",
    "augment",
    "column_means",
    "embed",
    "estimator_of_outliers",
    "generate",
    "impute",
    "interpolate",
    "latents",
    "listed_values",
    "manifold",
    "outliers",
    "reconstruct",
    "score_missing",
    "traverse",
]
