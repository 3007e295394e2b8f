"""Likelihoods: small modules that turn the outputs of a decoder into the distribution of a datum's numbers."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.errors import InputError, nearest
from ppl_vae.networks.rounded import RoundedLogNormal


class Likelihood(nn.Module):
    """The distribution of the numbers of a datum, given the outputs of a decoder.

    A likelihood takes ``(..., outputs * D)`` numbers: the first output for each of the ``D`` numbers of a datum, then
    the second output for each, and so on. It returns a distribution of batch shape ``(..., D)``, for which a program
    calls ``.to_event(1)``.

    Attributes:
        outputs: number of outputs of the decoder for each number of a datum.

    Example:
        >>> likelihood = make_likelihood("gaussian:decoded")
        >>> likelihood(torch.zeros(5, 3, likelihood.outputs * 4)).batch_shape
        torch.Size([5, 3, 4])
    """

    outputs: int = 1

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        """Return the distribution of ``(..., D)`` independent numbers, given outputs ``(..., outputs * D)``."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    r"""Bits: :math:`x \sim \mathrm{Bernoulli}(\mathrm{sigmoid}(o))`."""

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        """See ``Likelihood``."""
        return dist.Bernoulli(logits=out)


class Gaussian(Likelihood):
    r"""Real numbers: :math:`x \sim \mathcal N(o_1, \sigma^2)`.

    Args:
        scale: :math:`\sigma`: a number, which stays fixed; ``"learned"``, one parameter for all numbers of all data;
            or ``"decoded"``, :math:`\mathrm{softplus}(o_2)` for each number of each datum.
        min_scale: number that is added to a scale that is not fixed; without it, the evidence of a number that is
            predicted exactly would have no upper bound.
    """

    def __init__(self, scale: float | str = "learned", min_scale: float = 1e-2) -> None:
        super().__init__()
        if isinstance(scale, str):
            if scale not in ("learned", "decoded"):
                raise InputError(f"scale={scale!r} of a Gaussian is unknown: a number, learned or decoded")
        elif not 0 < scale < math.inf:
            raise InputError(f"scale={scale} of a Gaussian is no standard deviation: give one above 0")
        self.scale, self.min_scale = scale, min_scale
        self.outputs = 2 if scale == "decoded" else 1
        if scale == "learned":
            self.raw_scale = nn.Parameter(torch.zeros(()))

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        """See ``Likelihood``."""
        if self.scale == "decoded":
            loc, raw = out.chunk(2, -1)
            return dist.Normal(loc, functional.softplus(raw) + self.min_scale)
        if isinstance(self.scale, str):
            return dist.Normal(out, functional.softplus(self.raw_scale) + self.min_scale)
        return dist.Normal(out, self.scale)


class Categorical(Likelihood):
    r"""One of C classes, numbered from 0: :math:`x \sim \mathrm{Categorical}(\mathrm{softmax}(o_1, \dots, o_C))`.

    Args:
        classes: C, the number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise InputError(f"classes={classes} of a Categorical: expected a number of two or more")
        self.outputs = classes

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        """See ``Likelihood``."""
        return dist.Categorical(logits=out.unflatten(-1, (self.outputs, -1)).transpose(-1, -2))


class Poisson(Likelihood):
    r"""Counts: :math:`x \sim \mathrm{Poisson}(e^{o})`."""

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        """See ``Likelihood``."""
        return dist.Poisson(out.exp())


class NegativeBinomial(Likelihood):
    r"""Counts with a larger variance than a Poisson: a Poisson whose rate is a Gamma of shape r.

    .. math:: \mathbb E[x] = e^{o_1}, \qquad \mathrm{Var}[x] = e^{o_1} + e^{2 o_1} / r, \qquad r = e^{o_2}
    """

    outputs = 2

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        """See ``Likelihood``."""
        log_mean, log_shape = out.chunk(2, -1)
        return dist.NegativeBinomial(log_shape.exp(), logits=log_mean - log_shape)


class Rounded(Likelihood):
    r"""Counts whose variance may be below their mean or far above: a log-normal number without its decimals.

    .. math:: x = \lfloor e^{o_1 + \sigma \epsilon} \rfloor, \; \sigma = 2 \tanh(\mathrm{softplus}(o_2) / 2) + 10^{-3}
    """

    outputs = 2

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        """See ``Likelihood``."""
        loc, raw = out.chunk(2, -1)
        return RoundedLogNormal(loc, bounded(functional.softplus(raw)) + 1e-3)


class ZeroInflated(Likelihood):
    r"""Counts with additional zeros: :math:`p(x) = \pi\, [x = 0] + (1 - \pi)\, p_0(x)`.

    The last output is the logit of :math:`\pi`. Source: Lambert, Zero-Inflated Poisson Regression (1992).

    Args:
        base: the likelihood :math:`p_0` of counts.
    """

    def __init__(self, base: Likelihood) -> None:
        super().__init__()
        self.base, self.outputs = base, base.outputs + 1

    def forward(self, out: Tensor) -> dist.TorchDistribution:
        """See ``Likelihood``."""
        size = out.shape[-1] // self.outputs
        inner, gate_logits = out.split([size * self.base.outputs, size], -1)
        return dist.ZeroInflatedDistribution(self.base(inner), gate_logits=gate_logits)


def bounded(deviation: Tensor) -> Tensor:
    """Return standard deviations of a logarithm that stay below two, so that means of numbers are no astronomical ones.

    Example:
        >>> bounded(torch.tensor([0.1, 1.0, 10.0]))
        tensor([0.0999, 0.9242, 1.9998])
    """
    return 2 * torch.tanh(deviation / 2)


_COUNTS: dict[str, type[Likelihood]] = {
    "poisson": Poisson,
    "negative-binomial": NegativeBinomial,
    "rounded-log-normal": Rounded,
}
_SIMPLE: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli, **_COUNTS}
_INFLATED = [f"zero-inflated-{name}" for name in _COUNTS]
_KINDS = ["gaussian, gaussian:0.5 or gaussian:decoded", "categorical:10", *_SIMPLE, *_INFLATED]


def make_likelihood(kind: str | Likelihood) -> Likelihood:
    """Return the likelihood of a name.

    | name | data | outputs |
    |---|---|---|
    | ``bernoulli`` | bits | 1 |
    | ``gaussian``, ``gaussian:learned`` | real numbers, one learned standard deviation | 1 |
    | ``gaussian:0.5`` | real numbers, a fixed standard deviation | 1 |
    | ``gaussian:decoded`` | real numbers, a standard deviation for each | 2 |
    | ``categorical:C`` | classes 0, ..., C - 1 | C |
    | ``poisson`` | counts | 1 |
    | ``negative-binomial`` | counts with a larger variance | 2 |
    | ``rounded-log-normal`` | counts with any variance | 2 |
    | ``zero-inflated-poisson``, ``zero-inflated-negative-binomial`` | counts with additional zeros | 2, 3 |
    | ``zero-inflated-rounded-log-normal`` | counts with any variance and additional zeros | 3 |

    Args:
        kind: name, or a likelihood, which is returned as it is.

    Raises:
        InputError: if the name, or the part after its colon, is unknown.

    Example:
        >>> make_likelihood("zero-inflated-negative-binomial").outputs
        3
    """
    if isinstance(kind, Likelihood):
        return kind
    name, _, detail = kind.partition(":")
    if name == "gaussian":
        return Gaussian(detail or "learned" if _number(detail) is None else float(detail))
    if name == "categorical":
        if (classes := _number(detail)) is None or classes % 1:
            raise InputError(f"likelihood={kind!r}: how many classes? categorical:10")
        return Categorical(int(classes))
    if kind in _SIMPLE:
        return _SIMPLE[kind]()
    if kind in _INFLATED:
        return ZeroInflated(_SIMPLE[kind.removeprefix("zero-inflated-")]())
    raise InputError(f"likelihood={kind!r} is unknown; {nearest(name, _KINDS)}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
