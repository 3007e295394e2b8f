"""Time and peak memory of the importance-weighted evidence: 10,000 data, 5000 draws each, a 784-200-200-50 VAE.

python benchmarks/evidence.py [--num-data 10000] [--num-samples 5000]
"""

from __future__ import annotations

import ppl_vae.process  # noqa: F401

# isort: split
import argparse
import json
import platform
import resource
import time
from pathlib import Path

import numpy as np
import torch

from ppl_vae import VariationalInference
from ppl_vae.models.vae import VAE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-data", type=int, default=10_000)
    parser.add_argument("--num-samples", type=int, default=5000)
    parser.add_argument("--output", type=Path, help="write the numbers here, too")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("medium")  # as the commands do
    x = (np.random.default_rng(0).random((args.num_data, 784), dtype="float32") < 0.13).astype("float32")
    model = VAE(data_dim=784, latent_dim=50, hidden=(200, 200), activation="tanh")
    vi = VariationalInference(model, max_epochs=1, validation_fraction=0, patience=None).fit(x[:1000])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = time.perf_counter()
    row = vi.evaluate(x, estimators=("iwae",), num_samples=args.num_samples).rows["iwae"]
    seconds = time.perf_counter() - started
    numbers = {
        "num_data": args.num_data,
        "num_samples": args.num_samples,
        "seconds": round(seconds, 1),
        "decodes_per_second": round(args.num_data * args.num_samples / seconds),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "peak_gib_before": round(before, 3),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "log_evidence": row.log_evidence,
    }
    print(json.dumps(numbers, indent=2))
    if args.output:
        args.output.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
