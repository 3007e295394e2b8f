"""Deep latent-variable models as Pyro programs: fit them, then learn how good they are.

Example:
    >>> from ppl_vae.models.vae import VAE
    >>> VariationalInference(VAE(), max_epochs=100).program.latent_dim
    10
"""

from ppl_vae.errors import Diverged, InputError
from ppl_vae.estimator import VariationalInference, load
from ppl_vae.program import Program

__version__ = "0.1.0"
__all__ = ["Diverged", "InputError", "Program", "VariationalInference", "load"]
