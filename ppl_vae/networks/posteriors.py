"""Parts of posteriors and priors that are more than a diagonal Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.networks.perceptrons import Activation, mlp


def product_of_gaussians(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    r"""Return mean and standard deviation of the product of two Gaussian densities, renormalised.

    .. math::
        \sigma^{-2} = \sigma_1^{-2} + \sigma_2^{-2}, \qquad
        \mu = \sigma^2 \bigl(\sigma_1^{-2} \mu_1 + \sigma_2^{-2} \mu_2\bigr)

    Args:
        first: mean and standard deviation of one Gaussian, of shapes that broadcast.
        second: mean and standard deviation of the other.

    Example:
        >>> product_of_gaussians((torch.tensor(0.0), torch.tensor(1.0)), (torch.tensor(2.0), torch.tensor(1.0)))
        (tensor(1.), tensor(0.7071))
    """
    (loc_1, scale_1), (loc_2, scale_2) = first, second
    precision_1, precision_2 = scale_1**-2, scale_2**-2
    variance = 1 / (precision_1 + precision_2)
    return variance * (precision_1 * loc_1 + precision_2 * loc_2), variance**0.5


def cholesky_factor(raw: Tensor) -> Tensor:
    r"""Return a lower triangular matrix with a positive diagonal, the Cholesky factor of a covariance.

    .. math:: L_{ii} = \mathrm{softplus}(r_i) + 10^{-4}

    Args:
        raw: real numbers, ``(..., D (D + 1) / 2)``: the diagonal, then the entries below it, row by row.

    Returns:
        Tensor: ``(..., D, D)``.

    Example:
        >>> cholesky_factor(torch.tensor([0.0, 0.0, 5.0]))
        tensor([[0.6932, 0.0000],
                [5.0000, 0.6932]])
    """
    size = (math.isqrt(8 * raw.shape[-1] + 1) - 1) // 2
    rows, columns = torch.tril_indices(size, size, -1, device=raw.device)
    below = raw.new_zeros(*raw.shape[:-1], size, size)
    below[..., rows, columns] = raw[..., size:]
    return below + torch.diag_embed(functional.softplus(raw[..., :size]) + 1e-4)


class FullGaussianEncoder(nn.Module):
    r"""An MLP from a datum to the parameters of a Gaussian with a full covariance.

    .. math:: (\mu, r) = \mathrm{MLP}(x), \qquad \Sigma = L(r)\, L(r)^\top

    L is the ``cholesky_factor``.

    Args:
        data_dim: size of a datum.
        latent_dim: size of the latent.
        hidden: widths of the hidden layers.
        activation: the nonlinearity after each hidden layer.

    Example:
        >>> loc, scale_tril = FullGaussianEncoder(64, 10)(torch.zeros(3, 64))
        >>> loc.shape, scale_tril.shape
        (torch.Size([3, 10]), torch.Size([3, 10, 10]))
    """

    def __init__(
        self, data_dim: int, latent_dim: int, hidden: Sequence[int] = (256,), *, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        self.sizes = [latent_dim, latent_dim * (latent_dim + 1) // 2]
        self.net = mlp([data_dim, *hidden, sum(self.sizes)], activation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean ``(..., D)`` and factor ``(..., D, D)`` of the covariance of data ``(..., data_dim)``."""
        loc, raw = self.net(x).split(self.sizes, -1)
        return loc, cholesky_factor(raw)


def seen_log_prob(x: Tensor, seen: Tensor, loc: Tensor, factor: Tensor, variance: Tensor) -> Tensor:
    r"""Return the log density of the seen numbers under a Gaussian of low rank, ``(B,)``, nats.

    .. math:: \log \mathcal N(x; \mu, W W^\top + \Psi) \quad \text{with the rows of the missing numbers left out}

    In the place of a missing number stands one that is independent of the others and standard normal, at its mean.

    Args:
        x: the numbers, ``(B, D)``; a missing one may be any finite number.
        seen: True for the numbers that were seen, ``(B, D)``.
        loc: the mean, ``(D,)``.
        factor: W, ``(D, L)``.
        variance: the diagonal of Psi, ``(D,)`` or a single number.

    Example:
        >>> x, seen = torch.ones(1, 2), torch.tensor([[True, False]])
        >>> value = seen_log_prob(x, seen, torch.zeros(2), torch.ones(2, 1), torch.ones(2))
        >>> bool(torch.isclose(value, torch.distributions.Normal(0.0, 2**0.5).log_prob(torch.tensor(1.0))).all())
        True
    """
    share = seen.to(x.dtype)
    law = torch.distributions.LowRankMultivariateNormal(
        torch.zeros_like(x), share[..., None] * factor, torch.where(seen, variance, 1.0), validate_args=False
    )
    return law.log_prob(share * (x - loc)) + 0.5 * math.log(2 * math.pi) * (1 - share).sum(-1)
