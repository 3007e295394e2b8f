"""Hand-written PyTorch, without a probabilistic programming language."""

from __future__ import annotations

import protocol

# isort: split
import ppl_vae.cli.process  # noqa: F401

# isort: split
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from protocol import Turn, Work, draws_at_once, fastest
from torch import Tensor, nn
from torch.nn import functional
from torch_steps import clock, log_likelihood, mlp, passes, save, training


def make(work: Work, x: np.ndarray) -> Turn:
    encoder, decoder = (mlp(layers).to(work.device) for layers in work.layers())
    if work.options.get("products"):
        return products(work, decoder)
    return {"step": steps, "iwae": evidence}[work.kind](work, encoder, decoder, x)


def posterior(encoder: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    loc, raw = encoder(x).chunk(2, -1)
    return loc, functional.softplus(raw) + 1e-4


def steps(work: Work, encoder: nn.Module, decoder: nn.Module, x: np.ndarray) -> Turn:
    parameters = [*encoder.parameters(), *decoder.parameters()]

    def loss(x: Tensor) -> Tensor:
        loc, scale = posterior(encoder, x)
        noise = torch.randn((work.num_particles, *loc.shape), device=loc.device)
        z = loc + scale * noise
        logits = decoder(z)
        nll = functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="sum")
        kl = 0.5 * (z * z - noise * noise).sum() - work.num_particles * scale.log().sum()
        return (nll + kl) / (work.num_particles * len(x))

    if work.options.get("graph"):
        adam = torch.optim.Adam(parameters, lr=work.learning_rate, fused=True, capturable=True)
        step = captured(loss, adam, torch.from_numpy(x[: work.batch_size]).to(work.device))
    else:
        adam = torch.optim.Adam(parameters, lr=work.learning_rate, fused=work.options.get("fused", False))
        step = ascending(torch.compile(loss) if work.options.get("compile") else loss, adam)

    def run(batches: Iterator[Tensor]) -> list[Tensor]:
        losses = [step(x) for x in batches]
        if "save" in work.options:
            save(work.options["save"], parameters)
        return losses

    return training(work, x, run)


def ascending(loss: Callable[[Tensor], Tensor], adam: torch.optim.Optimizer) -> Callable[[Tensor], Tensor]:
    def step(x: Tensor) -> Tensor:
        value = loss(x)
        adam.zero_grad()
        value.backward()
        adam.step()
        return value.detach()

    return step


def captured(
    loss: Callable[[Tensor], Tensor], adam: torch.optim.Optimizer, example: Tensor
) -> Callable[[Tensor], Tensor]:
    """Capture a step in a CUDA graph, after some steps on a side stream, as in PyTorch's notes on CUDA."""
    static, plain = example.clone(), ascending(loss, adam)
    side_stream = torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(3):
            plain(static)
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    adam.zero_grad()
    with torch.cuda.graph(graph):
        value = plain(static)

    def step(x: Tensor) -> Tensor:
        static.copy_(x)
        graph.replay()
        return value.clone()

    return step


def evidence(work: Work, encoder: nn.Module, decoder: nn.Module, x: np.ndarray) -> Turn:
    """Estimate the evidence by importance sampling, with the given or the fastest number of draws at once.

    The likelihood is PyTorch's own function of bits and logits, or a form that takes fewer passes over memory.
    """
    likelihood = log_likelihood if work.options.get("softplus") else by_cross_entropy
    data = torch.from_numpy(x).to(work.device)

    @torch.no_grad()
    def estimate(num_samples: int, at_once: int) -> float:
        loc, scale = posterior(encoder, data)
        log_scale, log_weights = scale.log().sum(-1), []
        for k in passes(num_samples, at_once):
            noise = torch.randn((k, *loc.shape), device=loc.device)
            z = loc + scale * noise
            log_weights.append(likelihood(decoder(z), data) + 0.5 * (noise * noise - z * z).sum(-1) + log_scale)
        return float((torch.cat(log_weights).logsumexp(0) - math.log(num_samples)).mean())

    best = work.options.get("at_once") or fastest(
        lambda at_once: estimate(work.num_samples // 20, at_once), draws_at_once(work)
    )

    def turn(seed: int, steps: int) -> tuple[float, float]:
        torch.manual_seed(seed)
        start = clock(work.device)
        value = estimate(work.num_samples, best)
        return clock(work.device) - start, value

    return turn


def by_cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    return -functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


def products(work: Work, decoder: nn.Sequential) -> Turn:
    """Run only the matrix products of the decoder; the value of a turn is the number of operations per draw."""
    weights = [module.weight.t() for module in decoder if isinstance(module, nn.Linear)]

    @torch.no_grad()
    def multiply(num_samples: int, at_once: int) -> None:
        rows = at_once * work.num_data
        inputs = [torch.randn(rows, len(weight), device=work.device) for weight in weights]
        outputs = [torch.empty(rows, weight.shape[1], device=work.device) for weight in weights]
        for _ in passes(num_samples, at_once):
            for left, right, out in zip(inputs, weights, outputs, strict=True):
                torch.mm(left, right, out=out)

    best = fastest(lambda at_once: multiply(work.num_samples // 20, at_once), draws_at_once(work))
    operations = 2.0 * sum(weight.numel() for weight in weights)

    def turn(seed: int, steps: int) -> tuple[float, float]:
        start = clock(work.device)
        multiply(work.num_samples, best)
        return clock(work.device) - start, operations

    return turn


if __name__ == "__main__":
    protocol.serve(make)
