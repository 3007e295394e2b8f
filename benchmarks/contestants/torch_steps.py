"""The code that the contestants with PyTorch share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from protocol import Layer, Turn, Work, order
from torch import Tensor, nn

torch.set_float32_matmul_precision(os.environ["MATMUL_PRECISION"])  # see bench.choose_precision


def clock(device: str) -> float:
    """Return the time in seconds after the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def training(work: Work, x: np.ndarray, run: Callable[[Iterator[Tensor]], Sequence[Any]]) -> Turn:
    """Return the function of a turn of training steps, whose value is the mean loss.

    Args:
        work: the task.
        x: all data.
        run: a function that trains on batches and returns the loss of each in nats per datum.
    """
    data = torch.from_numpy(x).to(work.device)

    def batches(seed: int, steps: int) -> Iterator[Tensor]:
        rows = torch.from_numpy(order(seed, len(data), work.batch_size, steps)).to(work.device)
        for batch in rows:
            yield data.index_select(0, batch)

    def turn(seed: int, steps: int) -> tuple[float, float]:
        start = clock(work.device)
        losses = run(batches(seed, steps))
        seconds = clock(work.device) - start
        return seconds, sum(map(float, losses)) / steps

    return turn


def mlp(layers: Sequence[Layer]) -> nn.Sequential:
    """Return linear layers with ReLUs between them."""
    modules: list[nn.Module] = []
    for weight, _ in layers:
        modules += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
    return fill(nn.Sequential(*modules[:-1]), layers)


@torch.no_grad()
def fill(network: nn.Sequential, layers: Sequence[Layer]) -> nn.Sequential:
    """Copy weights into the linear layers of a network."""
    linear = [module for module in network if isinstance(module, nn.Linear)]
    for module, (weight, bias) in zip(linear, layers, strict=True):
        module.weight.copy_(torch.from_numpy(weight))
        module.bias.copy_(torch.from_numpy(bias))
    return network


def start(vae: Any, work: Work) -> Any:
    """Copy the initial parameters into a ``ppl_vae.models.vae.VAE`` and move it to the device."""
    encoder, decoder = work.layers()
    fill(vae.encoder.net, encoder)
    fill(vae.decoder, decoder)
    return vae.to(work.device)


def save(path: str, parameters: Sequence[Tensor]) -> None:
    """Write weights and biases to the file for ``Work.weights``."""
    np.savez(path, *(parameter.detach().cpu().numpy() for parameter in parameters))


@torch.no_grad()
def mean_elbo(decoder: nn.Module, x: Tensor, lam: Tensor, num_samples: int = 10) -> float:
    """Return the ELBO of Gaussians with mean and log standard deviation ``lam``, with the same noise at each call."""
    loc, log_scale = lam.chunk(2, -1)
    noise = torch.randn(num_samples, *loc.shape, generator=torch.Generator().manual_seed(0)).to(loc)
    z = loc + log_scale.exp() * noise
    log_prior_ratio = 0.5 * (noise.square() - z.square()).sum(-1) + log_scale.sum(-1)
    total = sum(float((log_likelihood(decoder(draw), x)).mean()) for draw in z)
    return total / num_samples + float(log_prior_ratio.mean())


def log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """Return the log likelihood of bits."""
    return (x * logits - nn.functional.softplus(logits)).sum(-1)


def passes(total: int, at_once: int) -> list[int]:
    """Split a number of draws into parts of at most ``at_once`` draws."""
    edges = [*range(0, total, at_once), total]
    return [b - a for a, b in pairwise(edges)]
