"""NumPyro and JAX: a whole turn of steps is one jitted scan."""

from __future__ import annotations

import protocol

# isort: split
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.infer import SVI, Trace_ELBO
from protocol import Layer, Turn, Work, draws_at_once, fastest, order


def make(work: Work, x: np.ndarray) -> Turn:
    encoder, decoder = (as_arrays(layers) for layers in work.layers())
    return {"step": steps, "iwae": evidence}[work.kind](work, encoder, decoder, jnp.asarray(x))


def as_arrays(layers: Sequence[Layer]) -> list[tuple[Array, Array]]:
    return [(jnp.asarray(weight.T.copy()), jnp.asarray(bias)) for weight, bias in layers]


def mlp(layers: Sequence[tuple[Array, Array]], h: Array) -> Array:
    for weight, bias in layers[:-1]:
        h = jax.nn.relu(h @ weight + bias)
    weight, bias = layers[-1]
    return h @ weight + bias


def posterior(encoder: Any, x: Array) -> tuple[Array, Array]:
    loc, raw = jnp.split(mlp(encoder, x), 2, -1)
    return loc, jax.nn.softplus(raw) + 1e-4


def steps(work: Work, encoder: Any, decoder: Any, x: Array) -> Turn:
    def model(x: Array) -> None:
        theta = numpyro.param("decoder", decoder)
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(work.latent_dim), 1).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=mlp(theta, z)).to_event(1), obs=x)

    def guide(x: Array) -> None:
        phi = numpyro.param("encoder", encoder)
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", dist.Normal(*posterior(phi, x)).to_event(1))

    svi = SVI(model, guide, numpyro.optim.Adam(work.learning_rate), Trace_ELBO(work.num_particles))
    state = svi.init(jax.random.PRNGKey(0), x[: work.batch_size])

    @partial(jax.jit, donate_argnums=0)
    def epoch(state: Any, x: Array, rows: Array) -> tuple[Any, Array]:
        return jax.lax.scan(lambda state, batch: svi.update(state, x[batch]), state, rows)

    def turn(seed: int, steps: int) -> tuple[float, float]:
        nonlocal state
        start = time.perf_counter()
        state, losses = epoch(state, x, jnp.asarray(order(seed, len(x), work.batch_size, steps)))
        losses.block_until_ready()
        return time.perf_counter() - start, float(losses.mean()) / work.batch_size

    return turn


def evidence(work: Work, encoder: Any, decoder: Any, x: Array) -> Turn:
    """Estimate the evidence by importance sampling, with the fastest number of draws at once."""

    @partial(jax.jit, static_argnums=(3, 4))
    def estimate(parameters: Any, x: Array, key: Array, num_samples: int, at_once: int) -> Array:
        encoder, decoder = parameters
        loc, scale = posterior(encoder, x)

        def log_weights(key: Array) -> Array:
            noise = jax.random.normal(key, (at_once, *loc.shape))
            z = loc + scale * noise
            log_joint = dist.Bernoulli(logits=mlp(decoder, z)).to_event(1).log_prob(x)
            return log_joint + 0.5 * (noise**2 - z**2).sum(-1) + jnp.log(scale).sum(-1)

        weights = jax.lax.map(log_weights, jax.random.split(key, num_samples // at_once))
        return (jax.nn.logsumexp(weights, (0, 1)) - math.log(num_samples)).mean()

    run = partial(estimate, (encoder, decoder), x)
    trial, sizes = max(100, work.num_samples // 20), draws_at_once(work)
    best = fastest(lambda at_once: float(run(jax.random.PRNGKey(0), trial, at_once)), sizes)

    def turn(seed: int, steps: int) -> tuple[float, float]:
        start = time.perf_counter()
        value = float(run(jax.random.PRNGKey(seed), work.num_samples, best))
        return time.perf_counter() - start, value

    return turn


if __name__ == "__main__":
    protocol.serve(make)
