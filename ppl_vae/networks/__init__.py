"""Encoders, decoders and likelihoods, for any leading dimensions: ``(K, B, ...)`` as well as ``(B, ...)``."""

from ppl_vae.networks.chains import GaussianChain
from ppl_vae.networks.data_encoder import DataEncoder
from ppl_vae.networks.distributions import Classes, GaussianMixture, InverseAutoregressiveFlow, MixedColumns
from ppl_vae.networks.flow_prior import FlowKind, FlowPrior
from ppl_vae.networks.images import ImageDecoder, ImageEncoder, convolutions, flat_images, transposed_convolutions
from ppl_vae.networks.labels import ClassGaussian, join, one_hot
from ppl_vae.networks.likelihoods import Likelihood, make_likelihood
from ppl_vae.networks.perceptrons import Activation, GaussianEncoder, LinearGaussian, SkipMLP, mlp
from ppl_vae.networks.posteriors import FullGaussianEncoder, cholesky_factor, product_of_gaussians, seen_log_prob
from ppl_vae.networks.recurrence import recur, unrolled
from ppl_vae.networks.residual import ResidualBlock
from ppl_vae.networks.sequences import (
    BackwardRNN,
    Combiner,
    GatedTransition,
    RecurrentCell,
    reversed_within,
)
from ppl_vae.networks.tables import MixedLikelihood, TableFeatures

__all__ = [
    "Activation",
    "BackwardRNN",
    "ClassGaussian",
    "Classes",
    "Combiner",
    "DataEncoder",
    "FlowKind",
    "FlowPrior",
    "FullGaussianEncoder",
    "GatedTransition",
    "GaussianChain",
    "GaussianEncoder",
    "GaussianMixture",
    "ImageDecoder",
    "ImageEncoder",
    "InverseAutoregressiveFlow",
    "Likelihood",
    "LinearGaussian",
    "MixedColumns",
    "MixedLikelihood",
    "RecurrentCell",
    "ResidualBlock",
    "SkipMLP",
    "TableFeatures",
    "cholesky_factor",
    "convolutions",
    "flat_images",
    "join",
    "make_likelihood",
    "mlp",
    "one_hot",
    "product_of_gaussians",
    "recur",
    "reversed_within",
    "seen_log_prob",
    "transposed_convolutions",
    "unrolled",
]
