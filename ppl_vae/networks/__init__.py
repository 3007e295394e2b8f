"""Encoders, decoders and likelihoods. Leading dimensions are free: ``(K, B, ...)`` as well as ``(B, ...)``."""

from ppl_vae.networks.data_encoder import DataEncoder
from ppl_vae.networks.images import convolutions
from ppl_vae.networks.likelihoods import Likelihood, make_likelihood
from ppl_vae.networks.perceptrons import Activation, GaussianEncoder, LinearGaussian, mlp

__all__ = [
    "Activation",
    "DataEncoder",
    "GaussianEncoder",
    "Likelihood",
    "LinearGaussian",
    "convolutions",
    "make_likelihood",
    "mlp",
]
