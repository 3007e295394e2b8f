"""Gaussian mixture: clusters of data without labels."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional


class Mixture(nn.Module):
    r"""A mixture of Gaussians, each with its own mean and full covariance.

    .. math::
        c \sim \mathrm{Categorical}(\pi), \qquad x \mid c \sim \mathcal N(\mu_c, L_c L_c^\top), \qquad
        p(x) = \sum_c \pi_c\, \mathcal N(x; \mu_c, L_c L_c^\top)

    The component is summed out, so that there is no guide and the evidence is exact. :math:`L_c` is lower triangular.
    The means begin as draws from a standard Gaussian: data should be standardised, or of about that size. If there are
    few data, use a larger ``learning_rate`` such as 0.02. As with EM, a fit may end in a local optimum with two
    components in one cluster: fit with several seeds, and keep the fit with the highest evidence.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 9.2, equations 9.7 to 9.13.

    Args:
        data_dim: numbers of a datum; a datum of any shape is flattened, and may be a single number.
        num_components: number of clusters.
        min_scale: smallest diagonal entry of :math:`L_c`; without it, the evidence of a component that holds a single
            datum has no upper bound.

    Example:
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(5, 2)
        >>> Program(Mixture(data_dim=2, num_components=3)).bind((x,)).log_evidence((x,)).shape
        torch.Size([5])
    """

    def __init__(self, data_dim: int = 2, num_components: int = 3, min_scale: float = 1e-2) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(torch.randn(num_components, data_dim))
        self.raw_tril = nn.Parameter(torch.zeros(num_components, data_dim, data_dim))
        self.min_scale = min_scale

    def model(self, x: Tensor) -> None:
        pyro.module("mixture", self)
        scale = functional.softplus(self.raw_tril.diagonal(dim1=-2, dim2=-1)) + self.min_scale
        scale_tril = self.raw_tril.tril(-1) + scale.diag_embed()
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(logits=self.logits))
            component = dist.MultivariateNormal(self.loc[c], scale_tril=scale_tril[c])
            pyro.sample("x", component, obs=x.reshape(len(x), -1))
