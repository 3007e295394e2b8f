"""Variational autoencoder of tables, whose columns have different kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.networks import Activation, GaussianEncoder, MixedLikelihood, SkipMLP, TableFeatures


class TableVAE(nn.Module):
    r"""A Gaussian latent that an MLP decodes into a row of a table, in which every column has a family of its kind.

    .. math::
        z \sim \sum_{k=1}^K \pi_k\, \mathcal N\bigl(\mu_k, \mathrm{diag}\,\sigma_k^2\bigr), \qquad
        x_d \mid z \sim p_d\bigl(\cdot\,; [A z + \mathrm{MLP}_\theta(z)]_d\bigr), \qquad
        q_\phi(z \mid x) = \mathcal N\bigl(\mu_\phi(x), \mathrm{diag}\,\sigma_\phi^2(x)\bigr)

    The prior is a standard Gaussian if it has one component. The families are those of ``MixedLikelihood``: Gaussian,
    log-normal or gamma, counts, Bernoulli, categorical and ordered logit. If numbers are missing in a row, the guide
    also sees which. Encoder and decoder are linear maps beside an MLP that starts at zero, see ``SkipMLP``: otherwise
    weak relations, such as that of two columns among many, are lost to the strong ones.

    Source: Nazabal, Olmos, Ghahramani and Valera, Handling Incomplete Heterogeneous Data using VAEs (2020); there each
    column has a representation of its own between the latent and its family, and the component is drawn by the guide.

    Args:
        columns: for each column its name, kind and categories; filled in from the data.
        data_dim: number of columns, all of which are real, if no columns are given; filled in from the data.
        latent_dim: size of the latent z.
        hidden: widths of the hidden layers from x to z; the decoder has them in reverse.
        activation: the nonlinearity after each hidden layer.
        num_components: K, the number of components of the prior.
        positive: family of positive numbers, log-normal or gamma.
        count: likelihood of counts: poisson, negative-binomial, rounded-log-normal, or one of these that is
            zero-inflated, such as zero-inflated-poisson.

    Example:
        >>> from ppl_vae.program import Program
        >>> x = torch.tensor([[0.5, 2.0], [-1.0, 0.0]])
        >>> columns = [{"kind": "real"}, {"kind": "categorical", "categories": ["red", "green", "blue"]}]
        >>> Program(TableVAE(columns)).bind((x,)).log_weights((x,), num_samples=3).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        columns: Sequence[Mapping[str, Any]] = (),
        data_dim: int = 64,
        latent_dim: int = 10,
        hidden: Sequence[int] = (128, 128),
        activation: Activation = "relu",
        num_components: int = 1,
        positive: str = "log-normal",
        count: str = "negative-binomial",
    ) -> None:
        super().__init__()
        self.latent_dim, self.num_components = latent_dim, num_components
        self.features = TableFeatures(columns, data_dim)
        self.encoder = GaussianEncoder(self.features.width, latent_dim, hidden, activation=activation, skip=True)
        self.likelihood = MixedLikelihood(columns, data_dim, positive, count)
        self.decoder = SkipMLP([latent_dim, *reversed(hidden), self.likelihood.width], activation)
        sizes = (num_components, latent_dim)  # with these values, mean and variance are near those of one component
        prior = {"logits": torch.zeros(sizes[0]), "loc": 0.72 * torch.randn(sizes), "raw_scale": torch.zeros(sizes)}
        self.prior = nn.ParameterDict(prior if num_components > 1 else {})

    def model(self, x: Tensor) -> None:
        for name in ("prior", "decoder", "likelihood"):
            pyro.module(name, getattr(self, name))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior_of(x))
            pyro.sample("x", self.likelihood(self.decoder(z)).to_event(1), obs=x.flatten(1))

    def prior_of(self, x: Tensor) -> dist.TorchDistribution:
        """Return the distribution of z, of the type of x."""
        if self.num_components == 1:
            return dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1)
        scale = functional.softplus(self.prior["raw_scale"]) + 1e-2
        weights = dist.Categorical(logits=self.prior["logits"])
        return dist.MixtureSameFamily(weights, dist.Normal(self.prior["loc"], scale).to_event(1))

    def guide(self, x: Tensor, x_mask: Tensor | None = None) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            mask = None if x_mask is None else x_mask.flatten(1)
            loc, scale = self.encoder(self.features(x.flatten(1), mask))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))
