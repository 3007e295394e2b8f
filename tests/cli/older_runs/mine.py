import pyro
import pyro.distributions as dist
from torch import nn


class Mine(nn.Module):
    """A model of one latent weight that all data share, one latent for each datum, and no guide."""

    def __init__(self, data_dim: int = 5):
        super().__init__()
        self.decoder = nn.Linear(2, data_dim)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        shift = pyro.sample("shift", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z) + shift, 0.5).to_event(1), obs=x)
