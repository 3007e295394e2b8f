"""Measure the variance of the estimators of the gradient of the ELBO in lambda, for a ``vae`` of the digits.

All estimators use the same program, the same lambda and the same draws. The script prints a Markdown table with lambda
at the output of the encoder and one with lambda at the prior, where per-sample inference starts. It plots the first.

    python benchmarks/gradient_variance.py [--run RUN_FOLDER] [--num-data 100] [--num-draws 8192]

RUN_FOLDER must be the run of a fit with a guide. Without it, the ``vae`` is first trained for 30 epochs.
"""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import argparse
import math
from pathlib import Path

import torch

from ppl_vae import VariationalInference
from ppl_vae.cli.command import medium_is_exact
from ppl_vae.data import load_dataset
from ppl_vae.estimator import load, load_data
from ppl_vae.inference.families import Diagonal
from ppl_vae.inference.gradient_variance import GradientVariance, gradient_variance
from ppl_vae.models.vae import VAE
from ppl_vae.plots import variance_over_particles
from ppl_vae.program import LatentSpace


def fitted(run: str | None, seed: int) -> tuple[VariationalInference, dict]:
    """Return a fitted object and its test data."""
    if run is not None:
        return load(run), load_data(run).test
    data = load_dataset("digits")
    torch.manual_seed(seed)
    vi = VariationalInference(VAE(), max_epochs=30, seed=seed, validation_fraction=0)
    return vi.fit(data.train), data.test


def cell(row: GradientVariance) -> str:
    """Return the variance and its standard error with the same number of decimals."""
    decimals = max(0, -math.floor(math.log10(row.standard_error)))
    return f"{row.variance:,.{decimals}f} ± {row.standard_error:,.{decimals}f}"


def table(rows: list[GradientVariance], names: list[str]) -> str:
    """Return a Markdown table, with a line per number of particles and a column per estimator."""
    lines = ["| particles | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for k in dict.fromkeys(row.num_particles for row in rows):
        cells = {row.estimator: cell(row) for row in rows if row.num_particles == k}
        lines.append(f"| {k} | " + " | ".join(cells.get(name, "") for name in names) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="run folder of a fit with a guide (default: train a vae of the digits)")
    parser.add_argument("--num-data", type=int, default=100, help="number of test data (default: 100)")
    parser.add_argument("--num-draws", type=int, default=8192, help="number of draws per datum (default: 8192)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers (default: 0)")
    default = Path(__file__).parent.parent / "docs" / "pictures" / "gradient_variance.png"
    parser.add_argument("--output", type=Path, default=default, help="file of the figure (default: that in docs)")
    options = parser.parse_args()
    if medium_is_exact():  # as the commands do
        torch.set_float32_matmul_precision("medium")
    vi, data = fitted(options.run, options.seed)
    if vi.program_.guide is None:
        parser.error(f"{options.run} has no encoder, because it was fitted with --guide per-sample: choose another run")
    batch = tuple(
        torch.as_tensor(data[name][: options.num_data]).to(vi.fitted.device, vi.fitted.dtype) for name in vi.arguments_
    )
    torch.manual_seed(options.seed)
    space = LatentSpace(vi.program_)
    with torch.no_grad():
        prior = Diagonal(space.size).start(*space.start(batch))
    rows = gradient_variance(vi.program_, batch, num_draws=options.num_draws)
    names = [row.estimator for row in rows if row.num_particles == rows[-1].num_particles]
    print(f"lambda at the encoder's output, {len(batch[0])} test data\n\n{table(rows, names)}\n")
    at_prior = gradient_variance(vi.program_, batch, lam=prior, num_draws=options.num_draws)
    print(f"lambda at the prior\n\n{table(at_prior, names)}")
    curves = {name: {row.num_particles: row.variance for row in rows if row.estimator == name} for name in names}
    figure = variance_over_particles(curves)
    options.output.parent.mkdir(exist_ok=True)
    figure.savefig(options.output, dpi=150)


if __name__ == "__main__":
    main()
