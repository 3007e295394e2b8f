"""A rank that trains a VAE when it is told to: by the package, or by a plain loop of ``DistributedDataParallel``.

    python rank_steps.py WAY NUM_DATA BATCH_SIZE HIDDEN

It reads a line for each epoch that it is to train, and prints its seconds.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from contextlib import closing
from functools import partial

import ppl_vae.cli.process  # noqa: F401  (first: it sets up OpenMP)

import numpy as np  # isort: skip
import torch  # isort: skip
from torch import Tensor, nn  # isort: skip
from torch.nn import functional  # isort: skip

from ppl_vae import VariationalInference  # isort: skip
from ppl_vae.models.vae import VAE  # isort: skip
from ppl_vae.parallel import joined, portion_of, present  # isort: skip

PIXELS, LATENT = 784, 20


def bits(num_data: int) -> np.ndarray:
    return (np.random.default_rng(0).random((num_data, PIXELS), np.float32) < 0.3).astype(np.float32)


def package(x: np.ndarray, batch_size: int, hidden: int) -> Generator[object, None, None]:
    program = partial(VAE, data_dim=PIXELS, latent_dim=LATENT, hidden=(hidden,))
    vi = VariationalInference(program, batch_size=batch_size, max_epochs=10**6, compile="on", schedule="constant")
    vi.prepare({"x": x})
    yield from vi.epochs()


class Net(nn.Module):
    """The encoder and the decoder of the VAE, and minus its ELBO."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, hidden), nn.ReLU(), nn.Linear(hidden, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, hidden), nn.ReLU(), nn.Linear(hidden, PIXELS))

    def forward(self, x: Tensor) -> Tensor:
        loc, log_scale = self.encoder(x).chunk(2, -1)
        scale = log_scale.exp()
        logits = self.decoder(loc + scale * torch.randn_like(loc))
        missed = functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        divergence = (0.5 * (loc.square() + scale.square() - 1) - log_scale).sum(-1)
        return (missed + divergence).mean()


def plain(x: np.ndarray, batch_size: int, hidden: int) -> Generator[object, None, None]:
    ranks = present()
    torch.manual_seed(0)
    net: nn.Module = Net(hidden)
    if ranks.size > 1:
        net = nn.parallel.DistributedDataParallel(net)
    adam = torch.optim.Adam(net.parameters(), lr=2e-3)
    portion = portion_of(len(x), batch_size, ranks.rank, ranks.size)
    own = torch.from_numpy(x[portion.rows])
    while True:
        for rows in torch.randperm(len(own)).split(portion.batch_size):
            adam.zero_grad()
            net(own[rows]).backward()
            adam.step()
        yield None


def main() -> None:
    way, num_data, batch_size, hidden = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with joined(), closing({"package": package, "ddp": plain}[way](bits(num_data), batch_size, hidden)) as epochs:
        for _ in range(3):
            next(epochs)
        print("ready", flush=True)
        for _ in sys.stdin:
            started = time.perf_counter()
            next(epochs)
            print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
