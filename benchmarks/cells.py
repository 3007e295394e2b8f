"""Compare ``count_vae`` with scVI of scvi-tools, on counts that are drawn from a known model.

    python benchmarks/cells.py --peer .venv-cells/bin/python     # writes cells.json and docs/cells.md
    python benchmarks/cells.py --report                          # writes only the page, from the numbers

scVI is trained first. Then ``count_vae`` gets the parameters of that fit, and estimates the evidence of the test cells
with them; both use draws of their own. At last, ``count_vae`` is trained for the same number of epochs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import textwrap
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ppl_vae.cli.process  # noqa: F401  (first: it sets up OpenMP)

# isort: split
import numpy as np
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.evidence import iwae, weigh
from ppl_vae.models.count_vae import CountVAE
from ppl_vae.program import LatentSpace, Program, seeded

FOLDER = Path(__file__).parent
NUMBERS, PAGE = FOLDER / "cells.json", FOLDER.parent / "docs" / "cells.md"
LIKELIHOODS = ("negative-binomial", "zero-inflated-negative-binomial")
SETTINGS = {
    "epochs": 40,
    "warmup": 10,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "draws": 500,
    "given_draws": 20,
    "repetitions": 16,
    "threads": 2,
}
DRAWS_PER_PASS = 50


def simulate(num_cells: int = 3100, num_genes: int = 300, seed: int = 0) -> dict[str, np.ndarray]:
    """Return counts of a negative binomial factor model: six types of cells, eight factors, two batches.

    The shares of the genes are log-linear in the factors. Libraries have about 1000 counts.
    """
    rng = np.random.default_rng(seed)
    kind, batch = rng.integers(0, 6, num_cells), rng.integers(0, 2, num_cells)
    factors = 1.2 * rng.normal(size=(6, 8))[kind] + 0.5 * rng.normal(size=(num_cells, 8))
    loadings = rng.normal(size=(8, num_genes)) * (rng.random((8, num_genes)) < 0.3) * 0.7
    shift = 0.3 * rng.normal(size=(2, num_genes))
    share = np.exp(1.5 * rng.normal(size=num_genes) + factors @ loadings + shift[batch])
    mean = rng.lognormal(np.log(1000), 0.35, (num_cells, 1)) * share / share.sum(1, keepdims=True)
    shape = rng.lognormal(np.log(2), 0.7, num_genes)
    x = rng.poisson(rng.gamma(shape, mean / shape)).astype(np.float32)
    train = np.arange(num_cells) >= 100
    return {"x_train": x[train], "batch_train": batch[train], "x_test": x[~train], "batch_test": batch[~train]}


class PeerEncoder(nn.Module):
    """The encoder of scVI, which sees no batch, with its parameters."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.parts = parameters

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation."""
        genes = seen[..., : self.parts["encoder.weight"].shape[1]]
        h = nn.functional.linear(genes, self.parts["encoder.weight"], self.parts["encoder.bias"]).relu()
        loc, log_var = (
            nn.functional.linear(h, self.parts[f"{name}.weight"], self.parts[f"{name}.bias"])
            for name in ("mean", "variance")
        )
        return loc, (log_var.exp() + 1e-4).sqrt()


def with_parameters(arrays: Any, likelihood: str, num_genes: int) -> CountVAE:
    """Return the program with the parameters of a fit of scVI."""
    program = CountVAE(num_genes, num_batches=2, likelihood=likelihood)  # type: ignore[arg-type]
    given = {name: torch.from_numpy(arrays[name]) for name in arrays if "." in name}
    outputs = [name for name in ("share", "gate") if f"{name}.weight" in given]
    with torch.no_grad():
        for part in ("weight", "bias"):
            getattr(program.decoder[0], part).copy_(given[f"hidden.{part}"])
            getattr(program.decoder[2], part).copy_(torch.cat([given[f"{name}.{part}"] for name in outputs]))
        program.log_shape.copy_(torch.from_numpy(arrays["log_shape"]))
    program.encoder = PeerEncoder(given)
    return program.eval()


@torch.no_grad()
def differs_by(program: CountVAE, theirs: dict[str, np.ndarray], data: dict[str, np.ndarray]) -> float:
    """Return the largest difference of a log weight from scVI's at the same latent, nats."""
    batch = torch.from_numpy(data["x_test"]), torch.from_numpy(data["batch_test"])
    z = torch.from_numpy(theirs["z"])
    joint = LatentSpace(Program(program).bind(batch)).log_joint(batch, z)
    log_weight = joint - poutine.trace(program.guide).get_trace(*batch).nodes["z"]["fn"].log_prob(z)
    return float((log_weight - torch.from_numpy(theirs["log_weight"])).abs().max())


@torch.no_grad()
def estimate(program: nn.Module, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return importance-sampled estimates for each test cell, ``(repetitions, N)``: the value, its error, the ELBO."""
    x, batch = torch.from_numpy(data["x_test"]), torch.from_numpy(data["batch_test"])
    runs = []
    for repetition in range(SETTINGS["repetitions"]):
        parts = []
        with seeded(repetition):
            for arrays in zip(x.split(100), batch.split(100), strict=True):
                bound = Program(program).bind(arrays)
                weights = weigh(lambda k, b=bound, a=arrays: b.log_weights(a, k), SETTINGS["draws"], DRAWS_PER_PASS)
                parts.append(iwae(weights))
        runs.append(
            {
                "value": torch.cat([part.log_evidence for part in parts]).double().numpy(),
                "error": torch.cat([part.mcse for part in parts]).double().numpy(),
                "elbo": torch.cat([part.columns["elbo"] for part in parts]).double().numpy(),
            }
        )
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]}


def measure(peer: str, data: dict[str, np.ndarray], likelihood: str) -> dict[str, Any]:
    """Train both, and return the numbers of the table."""
    with tempfile.TemporaryDirectory() as folder:
        counts, settings, result = (Path(folder) / name for name in ("counts.npz", "settings.json", "result.npz"))
        np.savez(counts, **data)
        settings.write_text(json.dumps({**SETTINGS, "likelihood": likelihood}))
        subprocess.run([peer, FOLDER / "peers" / "scvi_model.py", counts, settings, result], check=True)
        theirs = dict(np.load(result))
    torch.set_num_threads(SETTINGS["threads"])
    num_genes = data["x_train"].shape[1]
    copied = with_parameters(theirs, likelihood, num_genes)
    same = estimate(copied, data)
    difference = same["value"].mean(0) - theirs["log_evidence"].mean(0)  # by cell
    of_cell = same["error"].mean(0) * np.sqrt(2 / SETTINGS["repetitions"])
    means = [runs.mean(1) for runs in (same["value"], theirs["log_evidence"])]
    of_mean = np.sqrt(sum(mean.var(ddof=1) for mean in means) / SETTINGS["repetitions"])
    with seeded(0):
        program = CountVAE(num_genes, num_batches=2, likelihood=likelihood)  # type: ignore[arg-type]
    options = {name: SETTINGS[name] for name in ("batch_size", "learning_rate")}
    vi = VariationalInference(
        program, max_epochs=SETTINGS["epochs"], kl_warmup_epochs=SETTINGS["warmup"], validation_fraction=0, **options
    )
    started = time.perf_counter()
    vi.fit({"x": data["x_train"], "batch": data["batch_train"]})
    seconds = time.perf_counter() - started
    ours = estimate(program.eval(), data)
    return {
        "likelihood": likelihood,
        "version": str(theirs["version"]),
        "theirs": means[1].mean(),
        "same": means[0].mean(),
        "at_same_latents": differs_by(copied, theirs, data),
        "difference": difference.mean(),
        "error": of_mean,
        "share_within_3": float((np.abs(difference) < 3 * of_cell).mean()),
        "their_elbo": float(theirs["elbo"]),
        "same_elbo": same["elbo"].mean(),
        "our_elbo": ours["elbo"].mean(),
        "ours": ours["value"].mean(),
        "their_seconds": float(theirs["seconds"]),
        "our_seconds": seconds,
    }


def page(numbers: dict[str, Any]) -> str:
    """Return the page of the tables."""
    settings, rows = numbers["settings"], numbers["rows"]
    equal, trained = [], []
    for row in rows:
        name, gain = row["likelihood"], 100 * (row["ours"] - row["theirs"]) / abs(row["theirs"])
        within = f"{100 * row['share_within_3']:.1f} %"
        difference = f"{row['difference']:+.4f} ± {row['error']:.4f}"
        evidence = f"{row['theirs']:.3f} | {row['same']:.3f} | {difference} | {within}"
        equal.append(f"| {name} | {row['at_same_latents']:.0e} | {evidence} |")
        values = [row["their_elbo"], row["our_elbo"], row["theirs"], row["ours"]]
        cells = " | ".join(f"{value:.2f}" for value in values)
        trained.append(f"| {name} | {cells} | {gain:+.2f} % | {row['their_seconds']:.0f} | {row['our_seconds']:.0f} |")
    heads = "ELBO, scVI | ELBO, count_vae | IWAE, scVI | IWAE, count_vae | higher by | seconds, scVI | count_vae"
    text = f"""# Counts of genes in cells: count_vae and scVI

`make cells` writes this page. The data are {numbers["data"]}. scVI is that of scvi-tools {rows[0]["version"]} with its
defaults: 128 hidden units, 10 latents, batch normalisation, dropout 0.1; `count_vae` has the same sizes and neither of
the two. Both see {settings["epochs"]} epochs in batches of {settings["batch_size"]} with the learning rate
{settings["learning_rate"]}, and the weight of the divergence rises over the first {settings["warmup"]}. All numbers are
nats per test cell. The exposure of a cell is the sum of its counts.

## The evidence of one model, by both

`count_vae` has the parameters of the fit of scVI, whose batch normalisation is a part of the linear maps in evaluation.
Both compute log p(x, z) - log q(z | x) at the same {settings["given_draws"]} latents of each cell; the first number is
the largest difference of the two in single precision. Then each estimates the log evidence
{settings["repetitions"]} times with {settings["draws"]} importance samples of its own. The error is the standard error
of the difference between the two means. The last column is the share of cells whose two estimates differ by less than
three standard errors.

| likelihood | at the same latents | scVI | count_vae | difference | cells within 3 errors |
|---|---|---|---|---|---|
{chr(10).join(equal)}

## The same number of epochs

| likelihood | {heads} |
|---|---|---|---|---|---|---|---|
{chr(10).join(trained)}

The times are those of a machine that did other work at the same time. PyTorch {numbers["torch"]}.
"""
    parts = text.strip().split("\n\n")
    return "\n\n".join(part if part[0] in "#|" else textwrap.fill(part, 120) for part in parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=str(FOLDER.parent / ".venv-cells/bin/python"), help="Python with scvi-tools")
    parser.add_argument("--report", action="store_true", help="write only the page, from the numbers")
    options = parser.parse_args()
    if not options.report:
        data = simulate()
        zeros = 100 * float((data["x_train"] == 0).mean())
        drawn = (
            f"{len(data['x_train'])} cells to train and {len(data['x_test'])} to test, with {data['x_train'].shape[1]} "
            f"genes, drawn from a negative binomial factor model with two batches; {zeros:.0f} % of the counts are zero"
        )
        rows = [measure(options.peer, data, likelihood) for likelihood in LIKELIHOODS]
        numbers = {"data": drawn, "settings": SETTINGS, "torch": version("torch"), "rows": rows}
        NUMBERS.write_text(json.dumps(numbers, indent=1) + "\n")
    PAGE.write_text(page(json.loads(NUMBERS.read_text())))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
