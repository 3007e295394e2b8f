"""Evidence in 1, 2 and 7 shards beside one process: the numbers, bit for bit, and the cost of sharing the work out.

The cost is in seconds of a core, which other work on the machine hardly changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray
from scaling.protocol import Row, Trial, measure_command

NUM_DATA = 4000
FIT = "--model vae --max-epochs 2 --model.hidden [200] --model.latent-dim 10 --patience null --num-samples 100"
EVALUATE = "--estimators iwae,ais --num-samples 500 --num-temperatures 20 --num-chains 4"


def shards(trial: Trial) -> Iterator[Row]:
    num_data, run = int(NUM_DATA * trial.share), trial.folder / "run"
    bits = np.random.default_rng(0).random((num_data + 1200, 200)) < 0.3
    parts = {"x_test": bits[:num_data], "x_valid": bits[num_data:][:200], "x_train": bits[num_data + 200 :]}
    np.savez(trial.folder / "bits.npz", **{name: part.astype(np.uint8) for name, part in parts.items()})
    python("fit", "--data", trial.folder / "bits.npz", "--output", run, *FIT.split())
    whole, one = python("evaluate", run, *EVALUATE.split()), read_evidence(run)
    for count in (1, 2, 7):
        seconds = [
            python("evaluate", run, *EVALUATE.split(), "--shard", f"{shard + 1}/{count}") for shard in range(count)
        ]
        merged = python("merge", run)
        same = same_evidence(one, read_evidence(run))
        words = "shard" if count == 1 else "shards"
        yield Row(
            f"{num_data} data in {count} {words}: the numbers of each datum",
            "equal" if same else "others",
            "equal bit for bit",
            same,
        )
        yield Row(
            f"... seconds of a core for the longest shard, and for the merge; one process takes {whole:.1f}",
            f"{max(seconds):.1f} + {merged:.1f}",
        )
    two = python("evaluate", run, *EVALUATE.split(), "--processes", "2")
    same = same_evidence(one, read_evidence(run))
    yield Row(
        "two processes that torchrun's launcher starts: the numbers",
        "equal" if same else "others",
        "equal bit for bit",
        same,
    )
    yield Row("... seconds of a core of both and the launcher, beside one process", f"{two:.1f} beside {whole:.1f}")


def python(verb: str, *options: object) -> float:
    """Run a verb in processes of one thread, and return the seconds of a core that they take."""
    return measure_command(["-m", "ppl_vae", verb, *map(str, options)], threads=1).work_seconds


def read_evidence(run: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for group in ("log_likelihood", "sample_stats"):
        with xarray.open_dataset(run / "evidence.nc", group=group, engine="h5netcdf") as data:
            arrays |= {f"{group} {name}": values.to_numpy().copy() for name, values in data.variables.items()}
    rows = json.loads((run / "evidence.json").read_text())["estimators"]
    return arrays | {name: np.array([row["log_evidence"], row["mcse"]]) for name, row in rows.items()}


def same_evidence(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(
        np.array_equal(left[name], right[name], equal_nan=left[name].dtype.kind == "f") for name in left
    )
