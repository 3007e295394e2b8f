"""Deep latent-variable models as Pyro programs: fit them, then learn how good they are.

Example:
    >>> from ppl_vae import VariationalInference
    >>> from ppl_vae.models.vae import VAE
    >>> VariationalInference(VAE(), max_epochs=100).program.latent_dim
    10
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppl_vae.errors import Diverged, InputError
    from ppl_vae.estimator import VariationalInference, load
    from ppl_vae.program import Program

__version__ = "0.1.0"
__all__ = ["Diverged", "InputError", "Program", "VariationalInference", "load"]

_HOME = {
    "Diverged": "ppl_vae.errors",
    "InputError": "ppl_vae.errors",
    "Program": "ppl_vae.program",
    "VariationalInference": "ppl_vae.estimator",
    "load": "ppl_vae.estimator",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the commands set up OpenMP before PyTorch is loaded, and `ppl-vae --help` needs none."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'ppl_vae' has no attribute {name!r}")
