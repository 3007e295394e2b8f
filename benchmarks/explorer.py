"""The time that the explorer of a latent space takes to answer.

    python benchmarks/explorer.py

The script fits the default VAE to scikit-learn's digits, the program of tables to 20 of their pixels, and the deep
Markov model to sequences of 100 steps, for one epoch each. For each it serves the page of at most 500 data, and sends
100 requests to decode a point and 20 for a datum, one after the other, over HTTP. It prints the median and the largest
time of an answer, as whoever asks measures it, the median time that the processor worked on it, and the seconds that
the page took to be made, on the clock and of the processor.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import uvicorn

from ppl_vae import VariationalInference
from ppl_vae.data import Dataset, load_dataset
from ppl_vae.explore import ExploredSpace, Explorer, Views
from ppl_vae.explore.server import make_app
from ppl_vae.models.deep_markov_model import DeepMarkovModel
from ppl_vae.models.table_vae import TableVAE
from ppl_vae.models.vae import VAE

TOKEN = "token"
POINTS, DATA = 100, 20


def cases() -> Iterator[tuple[str, Any, Dataset]]:
    """Yield the name, the program and the data of each case."""
    digits, random = load_dataset("digits"), np.random.default_rng(0)
    yield "vae, digits of 64 pixels", VAE(), digits
    few = {part: {"x": digits.part(part)["x"][:, :20]} for part in ("train", "valid", "test")}
    columns = [{"name": f"column {at}", "kind": "binary"} for at in range(20)]
    yield "table_vae, 20 columns", TableVAE(columns, data_dim=20), Dataset("columns", **few)
    rolls = (random.random((600, 100, 88)) < 0.1).astype(np.float32)
    arrays = {"x": rolls, "lengths": random.integers(50, 101, 600)}
    yield "deep_markov_model, 100 steps", DeepMarkovModel(), Dataset("rolls", arrays, arrays, arrays)


@contextmanager
def served(explorer: Explorer) -> Iterator[str]:
    """Serve a page in a thread, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(make_app(explorer, TOKEN), port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def ask(address: str, content: Mapping[str, Any] | None = None) -> tuple[float, float]:
    """Return the milliseconds until the answer to a request has been read, and those that the processor worked."""
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, body, {"X-Token": TOKEN})
    started, worked = time.perf_counter(), time.process_time()
    with urllib.request.urlopen(request) as answer:
        json.load(answer)
    return 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - worked)


def describe(times: list[tuple[float, float]]) -> str:
    """Return the median and the largest time until an answer, and the median time that the processor worked."""
    waited, worked = np.transpose(times)
    return f"{np.median(waited):.0f} ms (at most {waited.max():.0f}; processor {np.median(worked):.0f})"


def main() -> int:
    """Print all measurements; return the exit status."""
    random = np.random.default_rng(0)
    for name, program, data in cases():
        torch.manual_seed(0)
        vi = VariationalInference(program, max_epochs=1, compile="off").fit(data.train, verbose=False)
        started, worked = time.perf_counter(), time.process_time()
        arrays = {key: array[:500] for key, array in data.test.items()}
        space = ExploredSpace(vi, arrays)
        rows = [f"row {row}" for row in range(len(space.places))]
        explorer = Explorer(space, Views(space, data), name, rows, "test")
        made = f"{time.perf_counter() - started:.1f} s (processor {time.process_time() - worked:.1f} s)"
        first = space.names[0]
        with served(explorer) as address:
            points = [{"row": 0, "point": {first: value}} for value in random.normal(size=POINTS)]
            decoded = [ask(f"{address}/decode", point) for point in points]
            chosen = [ask(f"{address}/datum/{row}") for row in range(DATA)]
        times = (describe(part) for part in (decoded, chosen))
        point, datum = times
        print(f"{name}: a point {point}, a datum {datum}, the page {made} for {len(rows)} data")
    return 0


if __name__ == "__main__":
    sys.exit(main())
