"""Diagnostics of latent dimensions: which of them carry data, and the distance of their aggregate from the prior."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_vae.errors import InputError

ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if the variance of its posterior mean over the data is larger."""

MOST_BINS = 50
"""Largest number of bins of ``marginal_divergence``."""


def active_units(posterior_means: Tensor) -> Tensor:
    r"""Find the latent dimensions that distinguish the data.

    .. math::
        A_d = \operatorname{Var}_x\bigl(\operatorname{E}_{q(z \mid x)}[z_d]\bigr) > 0.01

    The statistic and the threshold are those of Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders
    (2016). They suit a prior of unit scale: rescale the means if the prior has another scale.

    Args:
        posterior_means: posterior means, ``(N, ...)``, one row per datum, N at least 2.

    Returns:
        Boolean, ``(...)``.

    Raises:
        InputError: if there are fewer than two data, or a mean is not finite.

    Example:
        >>> active_units(torch.tensor([[0.0, 1.0], [2.0, 1.1], [4.0, 1.1]]))
        tensor([ True, False])
    """
    means = _draws(posterior_means, "posterior_means")
    if len(means) < 2:
        raise InputError("posterior_means: expected at least 2 data, got 1: one datum has no variance; give more")
    return means.var(0) > ACTIVE_VARIANCE


def marginal_divergence(draws: Tensor, prior_draws: Tensor) -> Tensor:
    r"""Estimate KL(aggregated posterior || prior) for each latent dimension, in nats.

    The aggregated posterior is the average of q(z | x) over the data. If the divergence of a dimension is large, the
    decoder was seldom trained on draws like those from the prior. With ``n_b`` and ``m_b`` of the draws in bin b:

    .. math::
        \widehat{\mathrm{KL}} = \sum_b \frac{n_b}{N} \log \frac{n_b}{N} - \frac{B^+ - 1}{2N}
            - \sum_b \frac{n_b}{N} \log \frac{m_b + 1/2}{M + 1/2}

    The bins hold equal shares of the prior's draws, about :math:`2 N^{1/3}` of them and at most 50. Values that
    repeat (a discrete latent) are never split; if there are no more values than bins, each value is a bin.
    :math:`B^+` bins hold any of the ``draws``: Miller (1955), Note on the bias of information estimates, Madow's
    correction of the plug-in entropy. On the prior's side, the same expansion gives
    :math:`\operatorname{E}[\log(m_b / M)] \approx \log \pi_b - (1 - \pi_b) / (2 M \pi_b)`, which the two halves
    cancel; they also keep the estimate finite if the prior has no draw in a bin. The rest of the bias is small if the
    important bins have a few draws of each.

    The estimate is not clipped at zero: if the divergence is about zero, half of the estimates are negative. The
    estimate compares binned distributions, so it is too low if they differ within a bin, such as in the tails of the
    prior; B bins can show about :math:`\log B` nats at most.

    Args:
        draws: draws from the aggregated posterior, ``(N, ...)``, one per datum. Several draws of one datum depend on
            each other, and the correction would be too small.
        prior_draws: independent draws from the prior, ``(M, ...)``.

    Returns:
        ``(...)``, nats, in double precision.

    Raises:
        InputError: if the shapes do not agree, or a draw is not finite.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> prior_draws = torch.randn(4000, 2, generator=generator)
        >>> draws = torch.randn(4000, 2, generator=generator) + torch.tensor([0.0, 1.0])  # KL 0 and 0.5
        >>> marginal_divergence(draws, prior_draws).round(decimals=1).abs()
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    return _of_each_dimension(_divergence, draws, prior_draws)


def marginal_divergence_error(draws: Tensor, prior_draws: Tensor) -> Tensor:
    r"""Estimate the standard error of ``marginal_divergence`` over other draws, in nats.

    With the shares :math:`p_b = n_b / N` and :math:`\pi_b = m_b / M` of the bins, and
    :math:`v = (B^+ - 1) (1 / N + 1 / M)^2`, the squared error is

    .. math::
        \max\Bigl\{0,\ \frac1N \operatorname{Var}_{b \sim p} \log\frac{p_b}{\pi_b}
            + \frac1M \Bigl(\sum_b \frac{p_b^2}{\pi_b} - 1\Bigr) - v\Bigr\} + \frac v2

    The first two terms are those of the first order. If the aggregated posterior is the prior, they are nothing but the
    noise of the shares, ``v`` on average, and the estimate is a :math:`\chi^2` statistic, whose variance is the last
    term.

    Args:
        draws: as in ``marginal_divergence``.
        prior_draws: as in ``marginal_divergence``.

    Returns:
        ``(...)``, nats, in double precision.

    Raises:
        InputError: if the shapes do not agree, or a draw is not finite.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> draws, prior_draws = torch.randn(2, 4000, generator=generator)
        >>> marginal_divergence_error(draws, prior_draws).round(decimals=3)
        tensor(0.0020, dtype=torch.float64)
    """
    return _of_each_dimension(_divergence_error, draws, prior_draws)


def prior_scales(prior_draws: Tensor, within: float) -> Tensor:
    """Return the standard deviations of draws from the prior; one for those that are zero, or one up to their error.

    Args:
        prior_draws: draws from the prior, ``(M, D)``.
        within: largest distance from one at which a standard deviation counts as one; its error is one over the root
            of 2 M.

    Example:
        >>> prior_scales(torch.tensor([[0.9, 10.0, 2.0], [-1.1, -10.0, 2.0], [1.0, 0.0, 2.0]]), within=0.2)
        tensor([ 1., 10.,  1.])
    """
    scales = prior_draws.std(0)
    return scales.masked_fill(((scales - 1).abs() < within) | (scales == 0), 1.0)


def gaussian_divergence(draws: Tensor, prior_draws: Tensor) -> Tensor:
    r"""Estimate the KL of each datum's posterior from the prior by their moments, in nats for each latent dimension.

    .. math::
        \frac1N \sum_i \log\frac{\sigma_0}{\sigma_i}
        + \frac{\sigma_i^2 + (\mu_i - \mu_0)^2}{2 \sigma_0^2} - \frac12

    This is the KL of Gaussians with the moments of the draws. For Gaussians it is right up to an error and a bias of
    order :math:`1 / K`; for others it shows which dimensions carry data.

    Args:
        draws: draws from the posterior of each datum, ``(K, N, D)``, K at least 2.
        prior_draws: draws from the prior, ``(M, D)``.

    Returns:
        ``(D,)``, nats per datum, in double precision.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> draws = torch.randn(1000, 50, 1, generator=generator) * 0.5 + 1
        >>> prior_draws = torch.randn(100000, 1, generator=generator)
        >>> gaussian_divergence(draws, prior_draws).round(decimals=1)  # log 2 + (0.25 + 1) / 2 - 0.5
        tensor([0.8000], dtype=torch.float64)
    """
    z, prior = draws.double(), prior_draws.double()
    if not z.shape[-1]:
        return z.new_zeros(0)
    tiny = torch.finfo(torch.double).tiny ** 0.5
    scale, base = z.std(0).clamp(min=tiny), prior.std(0).clamp(min=tiny)
    squares = scale.square() + (z.mean(0) - prior.mean(0)).square()
    return (base.log() - scale.log() + squares / (2 * base.square()) - 0.5).mean(0)


def _of_each_dimension(estimate: Callable[[Tensor, Tensor], Tensor], draws: Tensor, prior_draws: Tensor) -> Tensor:
    """Return what a function estimates from the draws ``(N,)`` and ``(M,)`` of each dimension, ``(...)``."""
    z, prior = _draws(draws, "draws"), _draws(prior_draws, "prior_draws")
    if z.shape[1:] != prior.shape[1:]:
        raise InputError(
            f"prior_draws: expected (M, ...) of the latent shape {tuple(z.shape[1:])} that draws have, "
            f"got {tuple(prior.shape)}"
        )
    columns = zip(z.flatten(1).T, prior.flatten(1).T, strict=True) if z.dim() > 1 else [(z, prior)]
    estimates = [estimate(one.contiguous(), other.contiguous()) for one, other in columns]
    return torch.stack(estimates).reshape(z.shape[1:]) if estimates else z.new_zeros(z.shape[1:])


def _divergence(draws: Tensor, prior_draws: Tensor) -> Tensor:
    """Return the estimate for one dimension, from draws ``(N,)`` and ``(M,)``."""
    share, prior_share = _shares(draws, prior_draws)
    occupied = (share > 0).sum()
    return torch.xlogy(share, share).sum() - (share * prior_share.log()).sum() - (occupied - 1) / (2 * len(draws))


def _divergence_error(draws: Tensor, prior_draws: Tensor) -> Tensor:
    """Return the error of ``_divergence``."""
    share, prior_share = _shares(draws, prior_draws)
    size, prior_size = len(draws), len(prior_draws)
    log_ratio = torch.where(share > 0, share / prior_share, 1).log()
    of_draws = (share * log_ratio.square()).sum() - (share * log_ratio).sum().square()
    of_prior = (share.square() / prior_share).sum() - 1
    occupied = (share > 0).sum()
    noise = (occupied - 1) * (1 / size + 1 / prior_size) ** 2
    return ((of_draws / size + of_prior / prior_size - noise).clamp(min=0) + noise / 2).sqrt()


def _shares(draws: Tensor, prior_draws: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shares of the draws and of the prior's draws in each bin, ``(B,)``; the latter are never zero."""
    size, prior_size = len(draws), len(prior_draws)
    edges = _upper_ends(draws, prior_draws, min(MOST_BINS, max(2, round(2 * size ** (1 / 3)))))
    count = torch.bincount(torch.searchsorted(edges, draws), minlength=len(edges) + 1)
    prior_count = torch.bincount(torch.searchsorted(edges, prior_draws), minlength=len(edges) + 1)
    return count.double() / size, (prior_count.double() + 0.5) / (prior_size + 0.5)


def _upper_ends(draws: Tensor, prior_draws: Tensor, bins: int) -> Tensor:
    """Return the largest value of every bin but the last; a value at an end belongs to the bin below it.

    Example:
        >>> _upper_ends(torch.tensor([1.0, 2.0]), torch.arange(12.0), bins=4)
        tensor([2., 5., 8.])
        >>> _upper_ends(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0, 2.0, 2.0]), bins=4)
        tensor([0., 1.])
    """
    values = torch.cat([draws, prior_draws]).unique()
    if len(values) <= bins:
        return values[:-1]
    ordered = prior_draws.sort().values
    last_of_bin = torch.arange(1, bins, device=draws.device) * len(ordered) // bins - 1
    return ordered[last_of_bin.clamp(min=0)].unique()


def _draws(values: Tensor, name: str) -> Tensor:
    """Return values ``(N, ...)`` in double precision, and refuse those that are not finite."""
    if values.dim() == 0 or len(values) == 0:
        raise InputError(f"{name}: expected (N, ...) of at least one row, got shape {tuple(values.shape)}")
    bad = ~values.isfinite()
    if bad.any():
        row = int(bad.reshape(len(values), -1).any(1).nonzero()[0])
        raise InputError(f"{name}: row {row} is not finite ({values[bad][0].item()}); did the fit diverge?")
    return values.detach().double()
