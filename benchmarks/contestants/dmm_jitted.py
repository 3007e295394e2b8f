"""NumPyro: training steps of the deep Markov model, with ``scan`` in model and guide."""

from __future__ import annotations

import protocol

# isort: split
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from dmm_data import EMISSION, KEYS, LATENT, RNN, TRANSITION, chorales
from jax import Array
from numpyro.contrib.control_flow import scan
from numpyro.infer import SVI, Trace_ELBO
from protocol import Turn, Work

SHAPES = {
    "model": {
        "e1": (LATENT, EMISSION), "e2": (EMISSION, EMISSION), "e3": (EMISSION, KEYS),
        "g1": (LATENT, TRANSITION), "g2": (TRANSITION, LATENT), "p1": (LATENT, TRANSITION), "p2": (TRANSITION, LATENT),
        "linear": (LATENT, LATENT), "scale": (LATENT, LATENT),
    },
    "guide": {
        "of_x": (KEYS, 3 * RNN), "of_h": (RNN, 3 * RNN), "combined": (LATENT, RNN), "gaussian": (RNN, 2 * LATENT),
    },
}  # fmt: skip


def layers(part: str) -> dict[str, tuple[Array, Array]]:
    rng = np.random.default_rng(0)
    made = {}
    for name, (n_in, n_out) in SHAPES[part].items():
        bound = n_in**-0.5
        draw = [rng.uniform(-bound, bound, shape).astype("float32") for shape in ((n_in, n_out), (n_out,))]
        made[name] = (jnp.asarray(draw[0]), jnp.asarray(draw[1]))
    return made


def dense(layer: tuple[Array, Array], h: Array) -> Array:
    return h @ layer[0] + layer[1]


def model(x: Array) -> None:
    theta = numpyro.param("model", layers("model"))
    start = numpyro.param("start", jnp.zeros(LATENT))

    def step(z: Array, x: Array) -> tuple[Array, None]:
        gate = jax.nn.sigmoid(dense(theta["g2"], jax.nn.relu(dense(theta["g1"], z))))
        proposed = dense(theta["p2"], jax.nn.relu(dense(theta["p1"], z)))
        loc = (1 - gate) * dense(theta["linear"], z) + gate * proposed
        scale = jax.nn.softplus(dense(theta["scale"], jax.nn.relu(proposed))) + 1e-3
        with numpyro.plate("data", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(loc, scale).to_event(1))
            hidden = jax.nn.relu(dense(theta["e2"], jax.nn.relu(dense(theta["e1"], z))))
            numpyro.sample("x", dist.Bernoulli(logits=dense(theta["e3"], hidden)).to_event(1), obs=x)
        return z, None

    scan(step, jnp.broadcast_to(start, (x.shape[1], LATENT)), x)


def guide(x: Array) -> None:
    phi = numpyro.param("guide", layers("guide"))
    start = numpyro.param("guide_start", jnp.zeros(LATENT))

    def cell(h: Array, of_x: Array) -> tuple[Array, Array]:
        of_h = dense(phi["of_h"], h)
        gates = jax.nn.sigmoid(of_x[:, : 2 * RNN] + of_h[:, : 2 * RNN])
        new = jnp.tanh(of_x[:, 2 * RNN :] + gates[:, :RNN] * of_h[:, 2 * RNN :])
        h = (1 - gates[:, RNN:]) * new + gates[:, RNN:] * h
        return h, h

    _, states = jax.lax.scan(cell, jnp.zeros((x.shape[1], RNN)), dense(phi["of_x"], x), reverse=True)

    def step(z: Array, h: Array) -> tuple[Array, None]:
        raw = dense(phi["gaussian"], (jnp.tanh(dense(phi["combined"], z)) + h) / 2)
        scale = jax.nn.softplus(raw[:, LATENT:]) + 1e-3
        with numpyro.plate("data", h.shape[0]):
            return numpyro.sample("z", dist.Normal(raw[:, :LATENT], scale).to_event(1)), None

    scan(step, jnp.broadcast_to(start, (x.shape[1], LATENT)), states)


def make(work: Work, _: np.ndarray) -> Turn:
    x = jnp.asarray(chorales(work.batch_size, work.num_samples)[0].swapaxes(0, 1))
    svi = SVI(model, guide, numpyro.optim.Adam(work.learning_rate), Trace_ELBO())
    state = svi.init(jax.random.PRNGKey(0), x)
    update = jax.jit(lambda state, x: svi.update(state, x), donate_argnums=0)

    def turn(seed: int, steps: int) -> tuple[float, float]:
        nonlocal state
        began = time.perf_counter()
        losses: list[Any] = []
        for _ in range(steps):
            state, loss = update(state, x)
            losses.append(loss)
        jax.block_until_ready(losses)
        return time.perf_counter() - began, float(np.mean(losses)) / (work.batch_size * work.num_samples)

    return turn


if __name__ == "__main__":
    protocol.serve(make)
