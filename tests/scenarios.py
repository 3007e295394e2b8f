"""Programs that tests share: some with a closed form, some shaped as people write them."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn


class Conjugate(nn.Module):
    """z ~ N(0, 1), x | z ~ N(z, 1/2), with a guide that is off: log p(x) = log N(x; 0, 3/2)."""

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
    """Of the shape of the VAE in Pyro's own examples: images in, flattened inside, sites "latent" and "obs"."""

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
    """A vector a, and given it a positive scalar s; a PyroModule with a constrained parameter."""

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
    """A datum is a set of values, each with a latent of its own, in a plate within the data's."""

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
    """A random walk observed with noise, of variable length: entries past the end are masked."""

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
    """Normalises over a fixed dimension: right for ``(B, 3)``, another number for ``(K, B, 3)``."""

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
    """The same from zero weights: at first, every axis that it might normalise over gives one third."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.decoder[0].weight)
        nn.init.zeros_(self.decoder[0].bias)


class BatchNormDecoder(SoftmaxDecoder):
    """Running statistics of width 3, as many as the rows of the trial, hide at first which axis they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


class Images(nn.Module):
    """Convolutions, which take four dimensions and no fifth."""

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
    """The batch is a subsample of 1000 data, and the latent's term is scaled: neither is part of a density."""

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
    """A discrete latent that the guide samples, beside a continuous one: gradients by the score function."""

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


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard Gaussian data in double precision."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def bits(*shape: int, seed: int = 0) -> Tensor:
    """Fair bits in double precision."""
    return (normal(*shape, seed=seed) > 0).double()
