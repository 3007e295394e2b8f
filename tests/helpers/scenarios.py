"""Programs that tests share: some with a closed form, some shaped as people write them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

from ppl_vae.program import seeded


class Conjugate(nn.Module):
    """z ~ N(0, 1), x | z ~ N(z, 1/2), with an inexact guide: log p(x) = log N(x; 0, 3/2)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, 2)
        with torch.no_grad():
            self.encoder.weight.copy_(torch.tensor([[0.6], [0.0]]))
            self.encoder.bias.copy_(torch.tensor([0.1, -0.3]))

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 0.5**0.5), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x[..., None]).unbind(-1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()))

    def log_evidence(self, x: Tensor) -> Tensor:
        return dist.Normal(x.new_zeros(()), 1.5**0.5).log_prob(x)


class PyroExampleVAE(nn.Module):
    """A VAE as in the examples of Pyro: it flattens images, and its sites are "latent" and "obs"."""

    def __init__(self, z_dim: int = 5, hidden_dim: int = 16, pixels: int = 64) -> None:
        super().__init__()
        self.z_dim, self.pixels = z_dim, pixels
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden_dim), nn.Softplus(), nn.Linear(hidden_dim, 2 * z_dim))
        self.decoder = nn.Sequential(nn.Linear(z_dim, hidden_dim), nn.Softplus(), nn.Linear(hidden_dim, pixels))

    def model(self, x: Tensor) -> Tensor:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z_loc = torch.zeros(x.shape[0], self.z_dim, dtype=x.dtype, device=x.device)
            z_scale = torch.ones(x.shape[0], self.z_dim, dtype=x.dtype, device=x.device)
            z = pyro.sample("latent", dist.Normal(z_loc, z_scale).to_event(1))
            loc = torch.sigmoid(self.decoder(z))
            obs = x.reshape(-1, self.pixels)
            pyro.sample("obs", dist.Bernoulli(loc, validate_args=False).to_event(1), obs=obs)
            return loc

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x.reshape(-1, self.pixels)).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))


class TwoLatents(PyroModule):
    """A PyroModule with a constrained parameter, a vector a, and a positive scalar s given a."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = PyroParam(torch.tensor(0.7), constraint=dist.constraints.positive)
        self.encoder = PyroModule[nn.Linear](4, 8)

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("items", len(x)):
            a = pyro.sample("a", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            s = pyro.sample("s", dist.LogNormal(a.sum(-1), 0.3))
            mean = torch.cat([a, s[..., None]], -1)
            pyro.sample("x", dist.Normal(mean, self.noise).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        out = self.encoder(x)
        with pyro.plate("items", len(x)):
            a = pyro.sample("a", dist.Normal(out[..., :3], out[..., 3:6].exp()).to_event(1))
            pyro.sample("s", dist.LogNormal(out[..., 6] + a.mean(-1), out[..., 7].exp()))


class InnerPlate(nn.Module):
    """A program whose datum is a set of values, each with its own latent, in a plate inside the data plate."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            level = pyro.sample("level", dist.Normal(x.new_zeros(()), 1.0))
            with pyro.plate("values", 4, dim=-1):
                z = pyro.sample("z", dist.Normal(level, 0.5))
                pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("level", dist.Normal(x.mean(-1, keepdim=True), 0.5))
            with pyro.plate("values", 4, dim=-1):
                pyro.sample("z", dist.Normal(self.encoder(x), 0.5))


class Sequences(nn.Module):
    """A random walk with observation noise and variable length; entries past the end are masked."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(5, 5)

    def model(self, x: Tensor, lengths: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = x.new_zeros(())
            for t in pyro.markov(range(5)):
                with pyro.poutine.mask(mask=t < lengths):
                    z = pyro.sample(f"z_{t}", dist.Normal(z, 1.0))
                    pyro.sample(f"x_{t}", dist.Normal(z, 0.5), obs=x[:, t])

    def guide(self, x: Tensor, lengths: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc = self.encoder(x)
            for t in range(5):
                with pyro.poutine.mask(mask=t < lengths):
                    pyro.sample(f"z_{t}", dist.Normal(loc[:, t], 0.8))


class SoftmaxDecoder(nn.Module):
    """A decoder that normalises over a fixed dimension: right for ``(B, 3)``, wrong for ``(K, B, 3)``."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=1))
        self.encoder = nn.Linear(3, 2)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.3).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.7).to_event(1))


class ZeroSoftmaxDecoder(SoftmaxDecoder):
    """The same decoder with zero weights: at first, every axis of normalisation gives one third."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.decoder[0].weight)
        nn.init.zeros_(self.decoder[0].bias)


class BatchNormDecoder(SoftmaxDecoder):
    """Batch statistics of width 3, the number of rows in the trial run, which hides their axis at first."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


class Images(nn.Module):
    """Convolutions, which accept exactly four dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Unflatten(1, (2, 2, 2)), nn.ConvTranspose2d(2, 1, 3))

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(3), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.6).to_event(1))


class Subsampled(Conjugate):
    """A program with a subsample of 1000 data and a scaled latent; neither scale is part of a density."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", 1000, subsample_size=len(x)):
            with pyro.poutine.scale(scale=0.1):
                z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 0.5**0.5), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", 1000, subsample_size=len(x)):
            loc, log_scale = self.encoder(x[..., None]).unbind(-1)
            with pyro.poutine.scale(scale=0.1):
                pyro.sample("z", dist.Normal(loc, log_scale.exp()))


class Switch(nn.Module):
    """A discrete latent that the guide samples and a continuous one; gradients use the score function."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([-1.0, 2.0]))
        self.encoder = nn.Linear(1, 3)

    def model(self, x: Tensor) -> None:
        pyro.module("means", nn.ParameterList([self.means]))
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Bernoulli(x.new_tensor(0.4)))
            z = pyro.sample("z", dist.Normal(self.means[c.long()], 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        logit, loc, log_scale = self.encoder(x[..., None]).unbind(-1)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Bernoulli(logits=logit))
            pyro.sample("z", dist.Normal(loc + c, log_scale.exp()))


class SummedSwitch(Switch):
    """The same, with a guide that leaves the discrete latent out: p(x) is a mixture of two Gaussians."""

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        _, loc, log_scale = self.encoder(x[..., None]).unbind(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()))


class Mixture(nn.Module):
    """A Gaussian mixture of three components in the plane, without a guide."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([[-2.0, 0.0], [1.0, 1.0], [0.5, -1.5]]))
        self.register_buffer("weights", torch.tensor([0.5, 0.3, 0.2]))
        self.register_buffer("scales", torch.tensor([0.6, 1.1, 0.8]))

    def model(self, x: Tensor) -> None:
        pyro.module("mixture", self)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(self.weights))
            pyro.sample("x", dist.Normal(self.means[c], self.scales[c][..., None]).to_event(1), obs=x)

    def closed_form(self, x: Tensor) -> Tensor:
        components = dist.Normal(self.means, self.scales[:, None]).to_event(1)
        return (components.log_prob(x[:, None]) + (self.weights / self.weights.sum()).log()).logsumexp(-1)


class HMM(nn.Module):
    """Three hidden states, Gaussian emissions, sequences of up to six steps; no guide."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([-1.5, 0.0, 2.0]))
        self.register_buffer("first", torch.tensor([0.6, 0.3, 0.1]))
        self.register_buffer("step", torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]]))

    def model(self, x: Tensor, lengths: Tensor) -> None:
        pyro.module("hmm", self)
        with pyro.plate("data", len(x)):
            state = None
            for t in pyro.markov(range(x.shape[1])):
                with pyro.poutine.mask(mask=t < lengths):
                    weights = self.first if state is None else self.step[state]
                    state = pyro.sample(f"state_{t}", dist.Categorical(weights))
                    pyro.sample(f"x_{t}", dist.Normal(self.means[state], 0.7), obs=x[:, t])

    def closed_form(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the evidence by the forward algorithm, one sequence at a time."""
        first, step = self.first / self.first.sum(), self.step / self.step.sum(-1, keepdim=True)
        answers = []
        for sequence, length in zip(x, lengths, strict=True):
            alpha = first.log() + dist.Normal(self.means, 0.7).log_prob(sequence[0])
            for value in sequence[1 : int(length)]:
                alpha = (alpha[:, None] + step.log()).logsumexp(0)
                alpha = alpha + dist.Normal(self.means, 0.7).log_prob(value)
            answers.append(alpha.logsumexp(0))
        return torch.stack(answers)


class PPCA(nn.Module):
    """Probabilistic PCA with two latents and five variables; the guide has the posterior means and scales only."""

    def __init__(self) -> None:
        super().__init__()
        loading = torch.tensor([[1.0, 0.2], [0.5, -0.8], [-0.3, 0.9], [0.1, 0.4], [0.7, 0.0]])
        self.loading, self.noise = nn.Parameter(loading), 0.6

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.loading.T, self.noise).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        precision = torch.eye(2).to(x) + self.loading.T @ self.loading / self.noise**2
        covariance = torch.linalg.inv(precision)
        loc = x @ self.loading @ covariance / self.noise**2
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, covariance.diagonal().sqrt()).to_event(1))

    def log_evidence(self, x: Tensor) -> Tensor:
        return dist.LowRankMultivariateNormal(x.new_zeros(5), self.loading, x.new_full((5,), self.noise**2)).log_prob(x)


class Counts(nn.Module):
    """Poisson counts whose log rates are a nonlinear function of one or two Gaussian latents."""

    def __init__(self, latent_dim: int = 1) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.loading = nn.Parameter(torch.tensor([[0.9, -0.4], [-0.5, 0.7], [0.3, 0.8]])[:, :latent_dim])
        self.encoder = nn.Linear(3, latent_dim)
        with torch.no_grad():
            self.encoder.weight.copy_(0.25 * self.loading.T)
            self.encoder.bias.fill_(-0.2)

    def rate(self, z: Tensor) -> Tensor:
        return (torch.tanh(z @ self.loading.T) + 0.5).exp()

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            pyro.sample("x", dist.Poisson(self.rate(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.85).to_event(1))

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return the evidence by Gauss-Hermite quadrature with 80 nodes per latent."""
        nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(80))
        grid = torch.cartesian_prod(*[nodes] * self.latent_dim).reshape(-1, self.latent_dim)
        log_weights = torch.cartesian_prod(*[weights.log()] * self.latent_dim).reshape(-1, self.latent_dim).sum(-1)
        log_weights = log_weights - 0.5 * self.latent_dim * math.log(2 * math.pi)
        log_likelihood = dist.Poisson(self.rate(grid)).to_event(1).log_prob(x[:, None])
        return (log_likelihood + log_weights).logsumexp(-1)


class Proportions(nn.Module):
    """Constrained latents: Dirichlet proportions of a multinomial, a Gamma rate of a Poisson; both conjugate."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("prior", torch.tensor([1.5, 2.0, 3.0]))
        self.widen = nn.Parameter(torch.tensor(1.2))

    def model(self, x: Tensor, n: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            p = pyro.sample("p", dist.Dirichlet(self.prior))
            rate = pyro.sample("rate", dist.Gamma(x.new_tensor(2.0), x.new_tensor(0.5)))
            pyro.sample("x", dist.Multinomial(total_count=8, probs=p, validate_args=False), obs=x)
            pyro.sample("n", dist.Poisson(rate), obs=n)

    def guide(self, x: Tensor, n: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("p", dist.Dirichlet((self.prior + x) / self.widen))
            pyro.sample("rate", dist.Gamma((2.0 + n) / self.widen, 1.5 / self.widen))

    def log_evidence(self, x: Tensor, n: Tensor) -> Tensor:
        counts = dist.DirichletMultinomial(self.prior, total_count=8, validate_args=False).log_prob(x)
        return counts + dist.NegativeBinomial(2.0, probs=x.new_tensor(1 / 1.5)).log_prob(n)


def switch_evidence(program: Switch, x: Tensor) -> Tensor:
    """Return log p(x) of the two switches."""
    weights = torch.tensor([0.6, 0.4]).to(x)
    return (dist.Normal(program.means, 1.25**0.5).log_prob(x[:, None]) + weights.log()).logsumexp(-1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return standard Gaussian data in double precision."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def holes(*shape: int, seed: int = 5) -> Tensor:
    """Return a mask of seen numbers: some rows complete, the last one empty, the others partly seen."""
    seen = normal(*shape, seed=seed) > -0.3
    seen[0], seen[-1] = True, False
    return seen


def make_double(make: Any) -> Any:
    """Return a module in double precision and evaluation mode, with initial parameters from one seed."""
    with seeded(1):
        return make().double().eval()


def bits(*shape: int, seed: int = 0) -> Tensor:
    """Return fair bits in double precision."""
    return (normal(*shape, seed=seed) > 0).double()


def two_latents_evidence(program: TwoLatents, x: Tensor) -> Tensor:
    """Return log p(x) as an integral over two numbers: given x, s depends on a only through its Gaussian sum."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(100))
    log_weights = weights.log() - 0.5 * math.log(2 * math.pi)
    noise, shrunk = program.noise, 1 / (1 + program.noise**2)
    total = shrunk * x[:, :3].sum(-1, keepdim=True) + (3 * noise**2 * shrunk).sqrt() * nodes
    s = (total[..., None] + 0.3 * nodes).exp()
    log_s = (dist.Normal(s, noise).log_prob(x[:, 3, None, None]) + log_weights).logsumexp(-1)
    log_a = dist.Normal(0.0, (1 + noise**2).sqrt()).log_prob(x[:, :3]).sum(-1)
    return log_a + (log_s + log_weights).logsumexp(-1)


class Rates(nn.Module):
    """Counts with a separate LogNormal rate each, without a guide."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.2))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.LogNormal(self.level, 0.8))
            pyro.sample("x", dist.Poisson(rate), obs=x)

    def closed_form(self, x: Tensor) -> Tensor:
        """Return the evidence by Gauss-Hermite quadrature with 80 nodes."""
        nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(80))
        log_likelihood = dist.Poisson((self.level + 0.8 * nodes).exp()).log_prob(x[:, None])
        return (log_likelihood + weights.log() - 0.5 * math.log(2 * math.pi)).logsumexp(-1)


class Shares(nn.Module):
    """Dirichlet shares of eight counts with a learned prior, without a guide."""

    def __init__(self) -> None:
        super().__init__()
        self.log_prior = nn.Parameter(torch.tensor([0.0, 1.0, 0.5]))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            p = pyro.sample("p", dist.Dirichlet(self.log_prior.exp()))
            pyro.sample("x", dist.Multinomial(total_count=8, probs=p, validate_args=False), obs=x)

    def closed_form(self, x: Tensor) -> Tensor:
        return dist.DirichletMultinomial(self.log_prior.exp(), total_count=8, validate_args=False).log_prob(x)


class Walks(nn.Module):
    """A random walk of variable length, as ``Sequences``, with a learned step size and without a guide."""

    def __init__(self) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.tensor(-1.0))

    def model(self, x: Tensor, lengths: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = x.new_zeros(())
            for t in pyro.markov(range(4)):
                with pyro.poutine.mask(mask=t < lengths):
                    z = pyro.sample(f"z_{t}", dist.Normal(z, self.log_step.exp()))
                    pyro.sample(f"x_{t}", dist.Normal(z, 0.5), obs=x[:, t])

    def closed_form(self, x: Tensor, lengths: Tensor) -> Tensor:
        time = torch.arange(1.0, 5.0).to(x)
        covariance = (2 * self.log_step).exp() * torch.minimum(time, time[:, None]) + 0.25 * torch.eye(4).to(x)
        rows = zip(x, lengths.tolist(), strict=True)
        return torch.stack([_centred(row[:n], covariance[:n, :n]) for row, n in rows])


class Sets(nn.Module):
    """A set of values per datum, each with its own latent about the level of the datum, without a guide."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(-1.0))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x), dim=-2):
            level = pyro.sample("level", dist.Normal(self.mean, 1.0))
            with pyro.plate("values", 3, dim=-1):
                z = pyro.sample("z", dist.Normal(level, 0.5))
                pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def closed_form(self, x: Tensor) -> Tensor:
        return _centred(x - self.mean, torch.ones(3, 3).to(x) + 0.5 * torch.eye(3).to(x))


class Pictures(nn.Module):
    """Images that are large enough for convolutions, and a decoder for exactly four dimensions, without a guide."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Linear(2, 64), nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 1, 3, padding=1))
        self.decoder = nn.Sequential(*layers)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.7).to_event(3), obs=x)

    def closed_form(self, x: Tensor) -> Tensor:
        """Return the exact evidence; the decoder is linear."""
        mean, *columns = self.decoder(torch.cat([x.new_zeros(1, 2), torch.eye(2).to(x)])).flatten(1)
        loading = torch.stack([column - mean for column in columns], -1)
        return _centred(x.flatten(1) - mean, loading @ loading.T + 0.49 * torch.eye(64).to(x))


class SharedMean(nn.Module):
    """w ~ N(0, 3^2) is shared by all data: z ~ N(w, 1), x | z ~ N(z, 0.7^2); no guide.

    Args:
        local: without, there is no z, and x ~ N(w, 1.49).
    """

    def __init__(self, local: bool = True) -> None:
        super().__init__()
        self.local = local

    def model(self, x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(x.new_zeros(()), 3.0))
        with pyro.plate("data", len(x)):
            mean, scale = w, 1.49**0.5
            if self.local:
                mean, scale = pyro.sample("z", dist.Normal(w, 1.0)), 0.7
            pyro.sample("x", dist.Normal(mean, scale), obs=x)


def bare(module: nn.Module) -> nn.Module:
    """Return a program without its guide and without the encoder that only the guide uses."""
    module.guide = None  # type: ignore[assignment]
    if hasattr(module, "encoder"):
        del module.encoder
    return module


def _centred(x: Tensor, covariance: Tensor) -> Tensor:
    return dist.MultivariateNormal(torch.zeros_like(x), covariance).log_prob(x)


class Unusual(nn.Module):
    """A program with site names that are not identifiers, an inner plate, two observed sites and a positive latent."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -1.0, 2.0, 0.1]))
        self.encoder = nn.Linear(12, 4)

    def model(self, grid: Tensor, count: Tensor) -> None:
        pyro.param("weight", self.weight)
        with pyro.plate("rows", len(grid), dim=-2):
            a = pyro.sample("first latent", dist.Normal(grid.new_zeros(2), 1.0).to_event(1))
            with pyro.plate("parts", 3, dim=-1):
                s = pyro.sample("s/ö", dist.LogNormal(0.5 * a.mean(-1), 0.5))
                pyro.sample("obs.grid", dist.Normal(s[..., None] * self.weight, 0.5).to_event(1), obs=grid)
            pyro.sample("n", dist.Poisson(a[..., 0].exp()), obs=count[:, None])

    def guide(self, grid: Tensor, count: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("rows", len(grid), dim=-2):
            out = self.encoder(grid.flatten(1))[:, None]
            pyro.sample("first latent", dist.Normal(out[..., :2], out[..., 2:].exp()).to_event(1))
            with pyro.plate("parts", 3, dim=-1):
                pyro.sample("s/ö", dist.LogNormal(0.1 * grid.mean(-1), 0.6))


class Shared(nn.Module):
    """A latent that all data share and one latent per datum, without a guide."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(3))

    def model(self, x: Tensor) -> None:
        pyro.module("shared", self)
        slope = pyro.sample("slope", dist.Normal(x.new_zeros(3), 2.0).to_event(1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(self.loc + z[..., None] * slope, 0.5).to_event(1), obs=x)


class Survey(nn.Module):
    """Answers of a few people, of which each is one of three classes; a group of people, summed out, has its shares."""

    def __init__(self, groups: int = 2, answers: int = 2) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(5)
        self.logits = nn.Parameter(2 * torch.randn(groups, answers, 3, generator=random, dtype=torch.float64))

    def model(self, x: Tensor) -> None:
        pyro.module("survey", self)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(logits=self.logits.new_zeros(len(self.logits))))
            pyro.sample("x", dist.Categorical(logits=self.logits[c]).to_event(1), obs=x)
