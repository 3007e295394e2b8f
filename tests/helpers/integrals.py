"""Programs with small latents, and their evidence by quadrature or in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.program import Batch, LatentSpace, Program, seeded
from tests.helpers import scenarios
from tests.helpers.scenarios import bits, normal, switch_evidence


def gaussian(x: Tensor, covariance: Tensor) -> Tensor:
    return dist.MultivariateNormal(x.new_zeros(x.shape[-1]), covariance).log_prob(x)


def hermite(num: int) -> tuple[Tensor, Tensor]:
    """Return nodes and log weights of an average over a standard Gaussian."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(num))
    return nodes, weights.log() - 0.5 * math.log(2 * math.pi)


class MixturePrior(nn.Module):
    """A program with a continuous mixture as prior, for whose support torch has no transform."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([[-1.0, 0.5], [2.0, 0.0]]))

    def prior(self) -> Any:
        weights = dist.Categorical(self.means.new_tensor([0.3, 0.7]))
        return dist.MixtureSameFamily(weights, dist.Normal(self.means, 0.5).to_event(1))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.9).to_event(1))

    def log_evidence(self, x: Tensor) -> Tensor:
        parts = dist.Normal(self.means, 0.89**0.5).to_event(1).log_prob(x[:, None])
        return (parts + x.new_tensor([0.3, 0.7]).log()).logsumexp(-1)


class MovingSupport(nn.Module):
    """A program with a latent on an interval that another latent moves, and two on the unit interval."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.9))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            low = pyro.sample("low", dist.Normal(x.new_zeros(()), self.scale))
            z = pyro.sample("z", dist.Uniform(low, low + 2.0))
            p = pyro.sample("p", dist.Beta(x.new_tensor([2.0, 0.8]), x.new_tensor([1.5, 3.0])).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x[:, 0])
            pyro.sample("bits", dist.Bernoulli(p).to_event(1), obs=(x[:, 1:] > 0).to(x))

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            low = pyro.sample("low", dist.Normal(x[:, 0] / 2 - 0.5, 1.0))
            pyro.sample("z", dist.Uniform(low, low + 2.0))
            pyro.sample("p", dist.Beta(x.new_tensor([2.0, 1.2]), x.new_tensor([1.5, 2.0])).to_event(1))

    def log_evidence(self, x: Tensor) -> Tensor:
        nodes, log_weights = hermite(80)
        low, unit = self.scale * nodes, dist.Normal(x.new_zeros(()), 1.0)
        inside = unit.cdf((low + 2.0 - x[:, :1]) / 0.5) - unit.cdf((low - x[:, :1]) / 0.5)
        one = x.new_tensor([2.0 / 3.5, 0.8 / 3.8])
        bits = dist.Bernoulli(one).to_event(1).log_prob((x[:, 1:] > 0).to(x))
        return ((inside / 2).log() + log_weights).logsumexp(-1) + bits


def two_latents(program: scenarios.TwoLatents, x: Tensor) -> Tensor:
    """Return the evidence as an integral over two numbers: given x, s depends on a only through its Gaussian sum."""
    noise, (nodes, log_weights) = program.noise, hermite(100)
    log_p = dist.Normal(0.0, (1 + noise**2).sqrt()).log_prob(x[:, :3]).sum(-1)
    shrunk = 1 / (1 + noise**2)
    total = shrunk * x[:, :3].sum(-1, keepdim=True) + (3 * noise**2 * shrunk).sqrt() * nodes
    s = (total[..., None] + 0.3 * nodes).exp()
    log_s = dist.Normal(s, noise).log_prob(x[:, 3, None, None]) + log_weights
    return log_p + (log_s.logsumexp(-1) + log_weights).logsumexp(-1)


def random_walk(_: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    steps = torch.arange(1.0, 6.0, dtype=x.dtype)
    covariance = torch.minimum(steps, steps[:, None]) + 0.25 * torch.eye(5, dtype=x.dtype)
    return torch.stack([gaussian(row[:n], covariance[:n, :n]) for row, n in zip(x, lengths.tolist(), strict=True)])


def affine_images(program: scenarios.Images, x: Tensor) -> Tensor:
    """Return the exact evidence; the decoder is linear."""
    program.decoder(x.new_zeros(1, 2))
    mean, *columns = program.decoder(torch.cat([x.new_zeros(1, 2), torch.eye(2).to(x)])).flatten(1)
    loading = torch.stack([column - mean for column in columns], -1)
    return gaussian(x.flatten(1) - mean, loading @ loading.T + 0.25 * torch.eye(16).to(x))


def softmax(program: scenarios.SoftmaxDecoder, x: Tensor) -> Tensor:
    nodes, log_weights = hermite(60)
    grid, weight = torch.cartesian_prod(nodes, nodes), torch.cartesian_prod(log_weights, log_weights).sum(-1)
    log_likelihood = dist.Normal(program.decoder(grid), 0.3).to_event(1).log_prob(x[:, None])
    return (log_likelihood + weight).logsumexp(-1)


def inner_plate(_: nn.Module, x: Tensor) -> Tensor:
    return gaussian(x, torch.ones(4, 4).to(x) + 0.5 * torch.eye(4).to(x))


def own(program: Any, *batch: Tensor) -> Tensor:
    return program.log_evidence(*batch)


COUNTS = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [1.0, 1.0, 4.0]], dtype=torch.double)


SHARES = torch.tensor([[3.0, 4.0, 1.0], [1.0, 6.0, 1.0], [2.0, 2.0, 4.0]], dtype=torch.double)


# The program, its data, log p(x) by other means, and how many numbers the latents of a datum are.
PROGRAMS: dict[str, tuple[Callable[[], Any], Batch, Callable[..., Tensor], int]] = {
    "ppca": (scenarios.PPCA, (normal(3, 5),), own, 2),
    "counts": (lambda: scenarios.Counts(1), (COUNTS,), own, 1),
    "counts of two": (lambda: scenarios.Counts(2), (COUNTS,), own, 2),
    "proportions": (scenarios.Proportions, (SHARES, torch.tensor([3.0, 0.0, 8.0]).double()), own, 3),
    "two_latents": (scenarios.TwoLatents, (normal(3, 4).abs(),), two_latents, 4),
    "inner_plate": (scenarios.InnerPlate, (normal(3, 4),), inner_plate, 5),
    "sequences": (scenarios.Sequences, (normal(3, 5), torch.tensor([5, 5, 5])), random_walk, 5),
    "images": (scenarios.Images, (normal(3, 1, 4, 4),), affine_images, 2),
    "softmax": (scenarios.SoftmaxDecoder, (normal(3, 3) / 2,), softmax, 2),
    "switch": (scenarios.Switch, (normal(3),), switch_evidence, 1),
    "summed switch": (scenarios.SummedSwitch, (normal(3),), switch_evidence, 1),
    "subsampled": (scenarios.Subsampled, (normal(3),), lambda p, x: dist.Normal(0.0, 1.5**0.5).log_prob(x), 1),
    "mixture prior": (MixturePrior, (normal(3, 2),), own, 2),
    "moving support": (MovingSupport, (normal(3, 3),), own, 4),
}


def close(log_values: Tensor, expected: Tensor | float, most: float = 0.08) -> bool:
    """Return whether the log of a mean over the first dimension agrees within its error, which is at most ``most``."""
    estimate = log_values.logsumexp(0) - math.log(len(log_values))
    error = (log_values - estimate).exp().std(0) / len(log_values) ** 0.5
    assert (error < most).all(), f"no test: standard errors {error.tolist()}"
    # 14 programs of 3 data, two starts, four averages: 4.5 standard errors hold for all with probability 0.998
    return bool(((estimate - expected).abs() < 4.5 * error + 1e-9).all())


def fitted(u: Tensor, scale: float, df: float) -> dist.MultivariateStudentT:
    """Return a Student-t per datum with the mean of ``u`` and ``scale`` times its covariance."""
    centred = u - u.mean(0)
    covariance = scale * torch.einsum("kbi,kbj->bij", centred, centred) / len(u)
    return dist.MultivariateStudentT(u.new_full(u.shape[1:2], df), u.mean(0), torch.linalg.cholesky(covariance))


class MaskedInside(nn.Module):
    """A program whose distributions mask constrained latents, some of the three of a datum or all."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole, self.loc = whole, nn.Parameter(torch.tensor(0.2))

    def prior(self, loc: Tensor, there: Tensor) -> Any:
        fn = dist.LogNormal(loc.expand(3), 0.5)
        return fn.to_event(1).mask(there[:, 0]) if self.whole else fn.mask(there).to_event(1)

    def model(self, x: Tensor, there: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x.new_zeros(()), there))
            pyro.sample("x", dist.Normal((z * there).sum(-1), 1.0), obs=x)

    def guide(self, x: Tensor, there: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.prior(self.loc, there))


LENGTHS = torch.tensor([5, 1, 3])


class MaskedRates(nn.Module):
    """A program with masked constrained latents in a loop: each of up to three counts has its own rate."""

    def model(self, x: Tensor, lengths: Tensor) -> None:
        with pyro.plate("data", len(x)):
            for t in range(3):
                with poutine.mask(mask=t < lengths):
                    rate = pyro.sample(f"rate_{t}", dist.Gamma(x.new_tensor(2.0), 0.5))
                    pyro.sample(f"x_{t}", dist.Poisson(rate), obs=x[:, t])

    def log_evidence(self, x: Tensor, lengths: Tensor) -> Tensor:
        there = torch.arange(3) < lengths[:, None]
        return (dist.NegativeBinomial(2.0, probs=x.new_tensor(1 / 1.5)).log_prob(x) * there).sum(-1)


def one_latent_vae(program: scenarios.PyroExampleVAE, x: Tensor) -> Tensor:
    nodes, log_weights = hermite(80)
    logits = program.decoder(nodes[:, None])
    return (dist.Bernoulli(logits=logits).to_event(1).log_prob(x.reshape(3, 1, 6)) + log_weights).logsumexp(-1)


def masked_inside(_: nn.Module, x: Tensor, there: Tensor) -> Tensor:
    """Return the evidence of x, a Gaussian about a sum of LogNormals; there are at most two of them."""
    nodes, log_weights = hermite(60)
    pairs, weights = torch.cartesian_prod(nodes, nodes), torch.cartesian_prod(log_weights, log_weights).sum(-1)
    z = (0.5 * pairs).exp()
    means = torch.stack([(z * (torch.arange(2) < n)).sum(-1) for n in there.sum(-1)])
    return (dist.Normal(means, 1.0).log_prob(x[:, None]) + weights).logsumexp(-1)


Case = tuple[Callable[[], Any], Batch, Callable[..., Tensor], int]


MORE: dict[str, Case] = {
    "conjugate": (scenarios.Conjugate, (normal(3),), lambda p, x: p.log_evidence(x), 1),
    "pyro example": (lambda: scenarios.PyroExampleVAE(1, 8, 6), (bits(3, 2, 3),), one_latent_vae, 1),
    "ragged sequences": (scenarios.Sequences, (normal(3, 5), LENGTHS), random_walk, 5),
    "masked rates": (
        MaskedRates,
        (torch.tensor([[3.0, 0, 5], [1, 2, 2], [9, 4, 4]]).double(), torch.tensor([3, 1, 2])),
        lambda p, *batch: p.log_evidence(*batch),
        3,
    ),
    "masked inside": (
        lambda: MaskedInside(False),
        (normal(3), torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]]).bool()),
        masked_inside,
        3,
    ),
}


CASES = PROGRAMS | MORE


def make_space(name: str) -> tuple[Any, LatentSpace, Batch, Tensor]:
    """Return a module, the latent space of its model, data, and the exact evidence."""
    make, batch, log_evidence, _ = CASES[name]
    with seeded(1):
        module = make().double().eval()
    with torch.no_grad():
        evidence = log_evidence(module, *batch)
        return module, LatentSpace(Program(module).bind(batch, guided=False)), batch, evidence
