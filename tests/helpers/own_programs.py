"""Program files as users write them, and short options to fit them."""

MODEL_ONLY = """\
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(2, 5)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x)
"""

QUICK_MODEL_ONLY = ["--data", "my.npz", "--model", "mine.py", "--num-samples", "10", "--inference-steps", "20"]

PER_SAMPLE = [*QUICK_MODEL_ONLY, "--guide", "per-sample", "--local-steps", "3", "--warm-start", "true"]

QUICK = ["--max-epochs", "2", "--num-samples", "10", "--model.hidden", "[8]", "--model.latent_dim", "2"]

# A program of one's own, in twenty lines, for data that are no images.
OWN_PROGRAM = """\
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Mine(nn.Module):
    def __init__(self, width: int = 3, scale: float = 0.5):
        super().__init__()
        self.encoder, self.decoder, self.scale = nn.Linear(5, 2 * width), nn.Linear(width, 5), scale

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("code", dist.Normal(torch.zeros(self.decoder.in_features), 1.0).to_event(1))
            pyro.sample("seen", dist.Normal(self.decoder(z), self.scale).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("rows", len(x)):
            loc, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("code", dist.Normal(loc, raw.exp()).to_event(1))
"""

# Without latents there is no guide, no posterior, and nothing to embed.
PLAIN = """\
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self, data_dim: int = 5):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(data_dim))

    def model(self, x):
        pyro.module("plain", self)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.mean, 1.0).to_event(1), obs=x)
"""
