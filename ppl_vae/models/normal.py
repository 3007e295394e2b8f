"""One Gaussian: the smallest generative model."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional


class Normal(nn.Module):
    r"""Independent Gaussian numbers, whose means and scales all data share; there are no latents.

    .. math::
        x_d \sim \mathcal N(\mu_d, \sigma_d^2), \qquad \sigma = \mathrm{softplus}(s) + \sigma_{\min}

    The maximum of the likelihood is known: the mean of the data, and their standard deviation (divided by N).
    Data with a mean of about 0 and a scale of about 1 are learned fastest.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 1.2.4, equations 1.55 and 1.56.

    Args:
        data_dim: size of a datum; a datum of any shape is flattened, and may be a single number.
        min_scale: smallest standard deviation; without it, the evidence of a constant number has no upper bound.

    Example:
        >>> heights = torch.tensor([-0.4, 0.0, 0.1])
        >>> Normal().log_evidence(heights).shape
        torch.Size([3])
    """

    def __init__(self, data_dim: int = 1, min_scale: float = 1e-2) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(data_dim))
        self.raw_scale = nn.Parameter(torch.zeros(data_dim))
        self.min_scale = min_scale

    def model(self, x: Tensor) -> None:
        pyro.module("normal", self)
        with pyro.plate("data", len(x)):
            pyro.sample("x", self.distribution(), obs=x.reshape(len(x), -1))

    def distribution(self) -> dist.TorchDistribution:
        """Return the distribution of a datum."""
        return dist.Normal(self.loc, functional.softplus(self.raw_scale) + self.min_scale).to_event(1)

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return the exact log p(x), ``(B,)``, in nats."""
        return self.distribution().log_prob(x.reshape(len(x), -1))
