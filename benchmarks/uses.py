"""Quality of the uses of a fitted program: missing pixels, conditional draws, neighbours in the embedding.

    python benchmarks/uses.py

The script fits the default VAE and the conditional one to scikit-learn's digits, which takes less than a minute each,
and prints

- the log loss of a random half of the test pixels, filled in by the program, by the mean of the pixel, and by
  scikit-learn's KNNImputer with 5 neighbours, whose averages are clipped away from 0 and 1 by the best amount;
- the share of the draws of ``generate(y=...)`` to which a classifier of real digits assigns the requested label;
- the share of the two nearest neighbours of a test digit, among the embedded training digits, that have its label.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.impute import KNNImputer
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

from ppl_vae import VariationalInference
from ppl_vae.data import Dataset, load_dataset
from ppl_vae.models.cvae import CVAE
from ppl_vae.models.vae import VAE
from ppl_vae.uses import embed, generate, impute, score_missing

DRAWS_OF_A_LABEL = 100


class Missing(NamedTuple):
    """Log loss of missing pixels, in nats per pixel, by method."""

    program: float
    pixel_mean: float
    neighbours: float


def fitted(make: Callable[[], object], data: Dataset) -> VariationalInference:
    """Fit a program in the same way as the command does."""
    torch.manual_seed(0)
    return VariationalInference(make()).fit(data.train, validation=data.valid)


def missing_pixels(vi: VariationalInference, data: Dataset, method: str = "per-sample") -> Missing:
    """Return the log loss of a random half of the test pixels; every method has the training data."""
    x, train = data.test["x"], data.train["x"]
    hole = np.random.default_rng(0).random(x.shape) < 0.5
    gaps = np.where(hole, np.nan, x)
    means = {
        "program": impute(vi, gaps, method=method).mean["x"],
        "pixel_mean": np.broadcast_to(train.mean(0), x.shape),
        "neighbours": KNNImputer(n_neighbors=5).fit(train).transform(gaps),
    }
    losses = {name: score_missing(x, mean, hole)["log loss"] for name, mean in means.items()}
    ends = (1e-3, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1)
    clipped = [score_missing(x, means["neighbours"].clip(end, 1 - end), hole)["log loss"] for end in ends]
    return Missing(**{**losses, "neighbours": min(clipped)})


def agreement(vi: VariationalInference, data: Dataset) -> tuple[float, float]:
    """Return the share of conditional draws that a classifier gives the requested label, and its test accuracy."""
    classifier = SVC(gamma="scale", C=10).fit(data.train["x"], data.train["y"])
    right = [
        (classifier.predict(generate(vi, DRAWS_OF_A_LABEL, y=label).draws["x"]) == label).mean() for label in range(10)
    ]
    return float(np.mean(right)), float(classifier.score(data.test["x"], data.test["y"]))


def neighbours(vi: VariationalInference, data: Dataset) -> tuple[float, float]:
    """Return the share of the two nearest training digits, by posterior mean, that have the label of a test digit.

    The first share uses plain distances. The second one divides each dimension by the root mean square of its posterior
    standard deviation.
    """
    train, test = (embed(vi, part["x"]) for part in (data.train, data.test))
    shares = []
    for unit in (1.0, np.sqrt(np.square(train.sd).mean(0))):
        _, nearest = NearestNeighbors(n_neighbors=2).fit(train.mean / unit).kneighbors(test.mean / unit)
        shares.append(float((data.train["y"][nearest] == data.test["y"][:, None]).mean()))
    return shares[0], shares[1]


def main() -> int:
    """Print all measurements; return the exit status."""
    data, started = load_dataset("digits"), time.perf_counter()
    vae = fitted(VAE, data)
    print(f"vae fitted, {time.perf_counter() - started:.0f} s")
    for method in ("per-sample", "importance"):
        losses = missing_pixels(vae, data, method)
        print(
            f"missing pixels, {method}: log loss {losses.program:.4f} nats, mean of the pixel {losses.pixel_mean:.4f}, "
            f"KNNImputer(5) {losses.neighbours:.4f}"
        )
    plain, scaled = neighbours(vae, data)
    print(f"two nearest neighbours share the label: {plain:.1%}; in units of the posterior sd {scaled:.1%}")
    started = time.perf_counter()
    conditional = fitted(CVAE, data)
    print(f"cvae fitted, {time.perf_counter() - started:.0f} s")
    share, accuracy = agreement(conditional, data)
    print(f"draws classified as the requested label: {share:.1%} (accuracy on real test digits: {accuracy:.1%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
