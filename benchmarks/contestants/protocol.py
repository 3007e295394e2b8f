"""The code that all contestants share, in both environments: the task, the order of the data, and the protocol.

A contestant is a process. It is started with its task as JSON, writes a line to standard output when it is ready, and
then answers every line on standard input with one line. Between turns it sleeps in a read.
"""

from __future__ import annotations

from started import STARTED

# isort: split
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Work:
    """A task for a VAE of bits whose encoder and decoder are MLPs with ReLUs."""

    kind: str
    """"step": training steps; "lambda": steps in lambda; "iwae": log evidence."""
    data: str
    """A .npy file of bits ``(N, D)``."""
    weights: str | None = None
    """A .npz file of the parameters to start with."""
    hidden: tuple[int, ...] = (400,)
    latent_dim: int = 20
    batch_size: int = 128
    num_particles: int = 1
    num_data: int = 100
    """The number of data, for "lambda" and "iwae"."""
    num_samples: int = 5000
    """The number of draws per datum, for "iwae"."""
    learning_rate: float = 1e-3
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the contestant."""

    @classmethod
    def read(cls, text: str) -> Work:
        """Read a task from JSON."""
        fields = json.loads(text)
        return cls(**fields | {"hidden": tuple(fields.get("hidden", (400,)))})

    def load(self) -> np.ndarray:
        """Return the data of the task, float32."""
        x = np.load(self.data)
        return x if self.kind == "step" else np.ascontiguousarray(x[: self.num_data])

    def layers(self) -> tuple[list[Layer], list[Layer]]:
        """Return weights ``(out, in)`` and biases of encoder and decoder, the same for every contestant."""
        data_dim = np.load(self.data, mmap_mode="r").shape[1]
        sizes = (
            [data_dim, *self.hidden, 2 * self.latent_dim],
            [self.latent_dim, *reversed(self.hidden), data_dim],
        )
        depth = len(self.hidden) + 1
        if self.weights is not None:
            with np.load(self.weights) as file:
                arrays = [file[name] for name in file.files]
            layers = list(zip(arrays[::2], arrays[1::2], strict=True))
        else:
            rng = np.random.default_rng(0)
            layers = [_linear(rng, *shape) for part in sizes for shape in pairwise(part)]
        return layers[:depth], layers[depth:]


Layer = tuple[np.ndarray, np.ndarray]
Turn = Callable[[int, int], tuple[float, float]]
"""A function of a seed and a number of steps that returns the seconds and a value in nats per datum."""


def _linear(rng: np.random.Generator, n_in: int, n_out: int) -> Layer:
    """Draw the parameters of a linear layer from PyTorch's initial distribution."""
    bound = n_in**-0.5
    weight, bias = rng.uniform(-bound, bound, (n_out, n_in)), rng.uniform(-bound, bound, n_out)
    return weight.astype("float32"), bias.astype("float32")


def order(seed: int, num_data: int, batch_size: int, steps: int) -> np.ndarray:
    """Return the rows of each batch, ``(steps, batch_size)``: whole batches of shuffled epochs."""
    rng, per_epoch = np.random.default_rng(seed), num_data // batch_size
    epochs = [rng.permutation(num_data)[: per_epoch * batch_size] for _ in range(-(-steps // per_epoch))]
    return np.concatenate(epochs).reshape(-1, batch_size)[:steps]


def draws_at_once(work: Work) -> list[int]:
    """Return the numbers of draws at once to try, for "iwae"."""
    return [k for k in (1, 2, 5, 10, 20, 50, 100) if k * work.num_data <= 200_000]


def fastest(run: Callable[[int], Any], sizes: Sequence[int]) -> int:
    """Return the size whose second call takes the least time."""
    seconds = {}
    for size in sizes:
        run(size)
        start = time.perf_counter()
        run(size)
        seconds[size] = time.perf_counter() - start
    return min(seconds, key=lambda size: seconds[size])


def peak_mib() -> float:
    """Return the peak memory of this process, on Linux without that of its parent."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (20 if sys.platform == "darwin" else 10)


def serve(make: Callable[[Work, np.ndarray], Turn]) -> None:
    """Serve turns until standard input ends; call this function after all imports.

    Args:
        make: a function of the task and its data that returns the function of a turn.
    """
    imported = time.perf_counter()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # the output of libraries is not an answer
    work = Work.read(sys.argv[1])
    x = work.load()
    start = time.perf_counter()
    turn = make(work, x)
    turn(0, 1)
    first = time.perf_counter() - start
    ready = {"ready": True, "import_seconds": imported - STARTED, "first_step_seconds": first}
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        seconds, value = turn(**json.loads(line))
        print(json.dumps({"seconds": seconds, "value": value, "peak_mib": peak_mib()}), file=answers)
