"""A small version of every model, with data for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from ppl_vae.models.autoencoder import Autoencoder
from ppl_vae.models.conv_hierarchical_vae import ConvHierarchicalVAE
from ppl_vae.models.conv_vae import ConvVAE
from ppl_vae.models.count_vae import CountVAE
from ppl_vae.models.cvae import CVAE
from ppl_vae.models.deep_markov_model import DeepMarkovModel
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.flow_prior_vae import FlowPriorVAE
from ppl_vae.models.flow_vae import FlowVAE
from ppl_vae.models.full_covariance_vae import FullCovarianceVAE
from ppl_vae.models.gmvae import GMVAE
from ppl_vae.models.hierarchical_vae import HierarchicalVAE
from ppl_vae.models.hmm import HMM
from ppl_vae.models.mixture import Mixture
from ppl_vae.models.mixture_prior_vae import MixturePriorVAE
from ppl_vae.models.normal import Normal
from ppl_vae.models.not_miwae import NotMIWAE
from ppl_vae.models.ppca import PPCA
from ppl_vae.models.resnet_vae import ResNetVAE
from ppl_vae.models.semi_supervised_vae import SemiSupervisedVAE
from ppl_vae.models.table_vae import TableVAE
from ppl_vae.models.top_down_vae import TopDownVAE
from ppl_vae.models.vae import VAE
from ppl_vae.models.vamp_vae import VampVAE
from ppl_vae.program import Batch
from tests.helpers.scenarios import bits, normal
from tests.helpers.tables import COLUMNS, mixed_rows

LABELS = torch.arange(21) % 4
COUNTS = (torch.arange(126).reshape(21, 6) ** 2 % 7).double()


class Case(NamedTuple):
    """A model of the gallery and its data."""

    make: Callable[[], nn.Module]
    """Makes the model in single precision, with parameters from the generator of torch."""
    batch: Batch
    """21 data, real numbers in double precision."""


GALLERY: dict[str, Case] = {
    "autoencoder": Case(lambda: Autoencoder(data_dim=6, latent_dim=2, hidden=(7,)), (bits(21, 6),)),
    "conv_hierarchical_vae": Case(
        lambda: ConvHierarchicalVAE(image_shape=(8, 9), latent_dims=(2, 2), channels=2, hidden=(5,), num_pseudo=3),
        (bits(21, 72),),
    ),
    "conv_vae": Case(
        lambda: ConvVAE(image_shape=(8, 9), latent_dim=2, channels=2, hidden=(5,)),
        (bits(21, 72),),
    ),
    "count_vae": Case(
        lambda: CountVAE(data_dim=6, num_batches=4, latent_dim=2, hidden=(7,)),
        (COUNTS, LABELS, 10.0 + torch.arange(21)),
    ),
    "count_vae, inflated": Case(
        lambda: CountVAE(data_dim=6, latent_dim=2, hidden=(7,), likelihood="zero-inflated-negative-binomial"),
        (COUNTS,),
    ),
    "cvae": Case(lambda: CVAE(data_dim=6, num_classes=4, latent_dim=2, hidden=(7,)), (bits(21, 6), LABELS)),
    "deep_markov_model": Case(
        lambda: DeepMarkovModel(features=3, latent_dim=2, emission=5, transition=4, rnn=6),
        (bits(21, 3, 3), 1 + torch.arange(21) % 3),
    ),
    "factor_analysis": Case(lambda: FactorAnalysis(data_dim=6, latent_dim=2), (normal(21, 6),)),
    "flow_prior_vae": Case(
        lambda: FlowPriorVAE(data_dim=6, latent_dim=2, hidden=(7,), num_flows=2, flow_hidden=(5,)),
        (bits(21, 6),),
    ),
    "flow_vae": Case(lambda: FlowVAE(data_dim=6, latent_dim=2, hidden=(7,), flow_hidden=(5,)), (bits(21, 6),)),
    "full_covariance_vae": Case(
        lambda: FullCovarianceVAE(data_dim=6, latent_dim=2, hidden=(7,)),
        (bits(21, 6),),
    ),
    "gmvae": Case(
        lambda: GMVAE(data_dim=6, num_clusters=3, latent_dim=2, style_dim=2, hidden=(8,), component_hidden=(4,)),
        (bits(21, 6),),
    ),
    "hierarchical_vae": Case(
        lambda: HierarchicalVAE(data_dim=6, latent_dims=(3, 2), hidden=((7,), (5,))),
        (bits(21, 6),),
    ),
    "hierarchical_vae, ladder": Case(
        lambda: HierarchicalVAE(data_dim=6, latent_dims=(3, 2), hidden=((7,), (5,)), posterior="ladder"),
        (bits(21, 6),),
    ),
    "hmm": Case(lambda: HMM(features=3, num_states=2), (bits(21, 3, 3), 1 + torch.arange(21) % 3)),
    "mixture": Case(lambda: Mixture(data_dim=6, num_components=3), (normal(21, 6),)),
    "mixture_prior_vae": Case(
        lambda: MixturePriorVAE(data_dim=6, latent_dim=2, hidden=(7,), num_components=3),
        (bits(21, 6),),
    ),
    "normal": Case(lambda: Normal(data_dim=6), (normal(21, 6),)),
    "not_miwae": Case(
        lambda: NotMIWAE(data_dim=6, latent_dim=2, hidden=(7,)),
        (normal(21, 6), torch.arange(126).reshape(21, 6) % 4 > 0),
    ),
    "ppca": Case(lambda: PPCA(data_dim=6, latent_dim=2), (normal(21, 6),)),
    "resnet_vae": Case(
        lambda: ResNetVAE(
            image_shape=(8, 9),
            latent_dim=2,
            channels=2,
            num_blocks=1,
            hidden=(5,),
            prior="autoregressive",
            num_flows=1,
            flow_hidden=(4,),
        ),
        (bits(21, 72),),
    ),
    "semi_supervised_vae": Case(
        lambda: SemiSupervisedVAE(data_dim=6, num_classes=4, latent_dim=2, style_dim=2, hidden=(7,), class_hidden=(3,)),
        (bits(21, 6), torch.where(LABELS < 2, LABELS, -1)),
    ),
    "table_vae": Case(lambda: TableVAE(COLUMNS, latent_dim=2, hidden=(7,)), (mixed_rows(21),)),
    "table_vae, mixture": Case(
        lambda: TableVAE(COLUMNS, latent_dim=1, hidden=(7,), num_components=3, positive="gamma"),
        (mixed_rows(21, seed=1),),
    ),
    "top_down_vae": Case(lambda: TopDownVAE(data_dim=6, latent_dims=(2, 2), width=5), (bits(21, 6),)),
    "vae": Case(lambda: VAE(data_dim=6, latent_dim=2, hidden=(7,)), (bits(21, 6),)),
    "vamp_vae": Case(lambda: VampVAE(data_dim=6, latent_dim=2, hidden=(7,), num_pseudo=4), (bits(21, 6),)),
}

ALIKE = {
    "conv_hierarchical_vae",
    "factor_analysis",
    "full_covariance_vae",
    "hierarchical_vae",
    "mixture_prior_vae",
    "normal",
    "resnet_vae",
    "table_vae, mixture",
    "top_down_vae",
    "vamp_vae",
}
"""Models whose sites are of the same kinds as those of another one."""


def with_slow(cases: Iterable[str | tuple[Any, ...]], more: Collection[str] = ()) -> list[Any]:
    """Return the cases of a law that takes seconds for each model: models that are alike have theirs in ``make slow``.

    Args:
        cases: names of models, or tuples that begin with one.
        more: further models that are alike for this law.
    """
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=pytest.mark.slow if case[0] in {*ALIKE, *more} else ()) for case in values]
