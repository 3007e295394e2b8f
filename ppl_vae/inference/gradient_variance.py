"""The variance of estimators of the ELBO's gradient, for one program at one lambda, from the same draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.inference.families import Diagonal, Family
from ppl_vae.inference.objectives import DecayingAverage, leave_one_out
from ppl_vae.program import Batch, BoundProgram, DerivedGuide, LatentSpace

ROWS = 20_000
"""Number of draws that are decoded at once."""
REPETITIONS = 100
"""The smallest number of repetitions from which a variance is reported."""


class GradientVariance(NamedTuple):
    """The variance of one estimator."""

    estimator: str
    num_particles: int
    variance: float
    """Sum of the variances of the gradient's numbers, mean over the data: nats squared, per unit of lambda squared."""
    standard_error: float
    """The standard error of the variance."""


def gradient_variance(
    program: BoundProgram,
    batch: Batch,
    num_particles: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    *,
    lam: Tensor | None = None,
    family: Family | None = None,
    num_draws: int = 8192,
) -> list[GradientVariance]:
    r"""Return the variance of each estimator of :math:`\nabla_\lambda \mathcal L(x; \lambda)`, by number of particles.

    Of K particles with :math:`\log w_k = \log p(x, u_k) - \log q_\lambda(u_k)`, :math:`u_k = T(\epsilon_k; \lambda)`:

    .. math::
        \text{total derivative} &\quad \frac1K \sum_k \nabla_\lambda \bigl[\log p(x, T(\epsilon_k; \lambda))
            - \log q_\lambda(T(\epsilon_k; \lambda))\bigr] \\
        \text{path derivative} &\quad \frac1K \sum_k \nabla_\lambda \bigl[\log p(x, T(\epsilon_k; \lambda))
            - \log q_{\bar\lambda}(T(\epsilon_k; \lambda))\bigr] \\
        \text{score function} &\quad \frac1K \sum_k (\log w_k - b_k)\, \nabla_\lambda \log q_\lambda(u_k)

    with a bar over what is held constant, and the baseline b zero, leave-one-out, or the decaying average of the
    datum's log weights over the repetitions before. All are unbiased, and all are computed from the same draws, which
    make ``num_draws // K`` repetitions. The modules are in evaluation mode; draws come from torch's generator.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), section 2.4; Roeder, Wu and Duvenaud, Sticking
    the Landing (2017), equation 8; Ranganath, Gerrish and Blei, Black Box Variational Inference (2014), equation 3.

    Args:
        program: the program; discrete latents are summed out.
        batch: a batch of ``B`` data.
        num_particles: the numbers of particles ``K``. Leave-one-out has no row for one particle.
        lam: lambda, ``(B, P)``; by default the Gaussian with the moments of the guide, or of the prior.
        family: the variational family of lambda; by default a Gaussian with a diagonal covariance.
        num_draws: number of draws for each datum.

    Returns:
        A row for every number of particles and every estimator.

    Raises:
        InputError: too few draws, no particles, or a guide whose moments are not known.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> _ = torch.manual_seed(0)
        >>> from ppl_vae.program import Program
        >>> x = torch.randn(10, 4)
        >>> program = Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,))
        >>> rows = {row.estimator: row for row in gradient_variance(program, (x,), [4], num_draws=1000)}
        >>> rows["total derivative"].variance < rows["score function"].variance
        True
    """
    few = min(num_particles, default=0)
    if few < 1:
        raise InputError(f"num_particles is {list(num_particles)}: expected one number or more, from 1")
    if num_draws < REPETITIONS * max(num_particles):
        raise InputError(
            f"num_draws is {num_draws}: expected {REPETITIONS} times the {max(num_particles)} particles, or more"
        )
    space = LatentSpace(program)
    family = family or Diagonal(space.size)
    with program.running(training=False):
        lam = _of_guide(program, space, family, batch) if lam is None else lam.detach()
        signal, path, score = _draws(space, family, batch, lam, num_draws)
    rows = []
    for k in num_particles:
        shaped = [tensor[: num_draws // k * k].unflatten(0, (-1, k)) for tensor in (signal, path, score)]
        for name, gradients in _estimates(*shaped):
            rows.append(GradientVariance(name, k, *_variance(gradients.double())))
    return rows


@torch.no_grad()
def _of_guide(program: BoundProgram, space: LatentSpace, family: Family, batch: Batch) -> Tensor:
    try:
        if isinstance(program.guide, DerivedGuide):
            q = program.guide.points(*batch)
            return family.start(q.mean, q.variance.sqrt())
        return family.start(*space.start(batch, program.guide))
    except NotImplementedError:
        raise InputError(f"the moments of the guide of {program.name} are not known: give lam") from None


def _draws(
    space: LatentSpace, family: Family, batch: Batch, lam: Tensor, num_draws: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return each draw's log weight ``(N, B)``, its path derivative and the score of log q, each ``(N, B, P)``."""
    num_data, parts = len(lam), []
    for some in torch.arange(num_draws).split(max(1, ROWS // num_data)):
        repeated = lam.repeat(len(some), 1).requires_grad_()  # a row for every draw, so that each has a gradient
        u, log_q = family.draw(repeated, torch.randn(1, len(repeated), family.size).to(lam))
        log_p = space.log_joint(batch, u.reshape(len(some), num_data, -1))
        (path,) = torch.autograd.grad((log_p - log_q.reshape_as(log_p)).sum(), repeated)
        log_q = family.distribution(repeated).log_prob(u[0].detach())
        (score,) = torch.autograd.grad(log_q.sum(), repeated)
        signal = (log_p - log_q.reshape_as(log_p)).detach()
        parts.append((signal, *(gradient.reshape(*signal.shape, -1) for gradient in (path, score))))
    signal, path, score = (torch.cat(part) for part in zip(*parts, strict=True))
    return signal, path, score


def _estimates(signal: Tensor, path: Tensor, score: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield each estimator's gradients ``(R, B, P)`` from R repetitions of ``(R, K, B)`` and ``(R, K, B, P)``."""
    yield "path derivative", path.mean(1)
    yield "total derivative", (path - score).mean(1)
    if signal.shape[1] > 1:
        baseline = leave_one_out(signal.movedim(1, 0)).movedim(0, 1)
        yield "score function, leave-one-out", ((signal - baseline)[..., None] * score).mean(1)
    baseline = _averages(signal.mean(1))[:, None]
    yield "score function, decaying average", ((signal - baseline)[..., None] * score).mean(1)
    yield "score function", (signal[..., None] * score).mean(1)


def _averages(signal: Tensor) -> Tensor:
    """Return the decaying average before each of the repetitions ``(R, B)``, in a second round over all of them."""
    average, values = DecayingAverage(signal.mean(0)), []
    for again in (False, True):
        for step in signal:
            if again:
                values.append(average.value)
            average.update(step)
    return torch.stack(values)


def _variance(gradients: Tensor) -> tuple[float, float]:
    """Return the variance of gradients ``(R, B, P)``, and its standard error."""
    count = len(gradients)
    squares = (gradients - gradients.mean(0)).square().sum(-1).mean(-1) * count / (count - 1)
    return squares.mean().item(), (squares.std() / count**0.5).item()
