"""Measure training steps of the deep Markov model beside NumPyro's, and as sequences get longer; write sequences.json.

python benchmarks/sequences.py [--lengths 160,320,640,1280] [--repetitions 5] [--peers PYTHON]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from bench import machine_now
from turns import Contestant, interleaved, running

FOLDER = Path(__file__).parent
NUM_DATA = 20
EAGER = Contestant("ours, eager", "dmm_ours.py", {"compile": "off"})
COMPILED = Contestant("ours, compiled", "dmm_ours.py", {"compile": "on"})
NUMPYRO = Contestant("NumPyro, jit and scan", "dmm_jitted.py", is_peer=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="160,320,640,1280", help="numbers of steps of a sequence")
    parser.add_argument("--repetitions", type=int, default=5, help="number of repetitions")
    parser.add_argument(
        "--peers", type=Path, default=FOLDER.parent / ".venv-peers/bin/python", help="Python of the peers' environment"
    )
    parser.add_argument("--output", type=Path, default=FOLDER / "sequences.json", help="file of the results")
    options = parser.parse_args()
    lengths, rows = [int(length) for length in options.lengths.split(",")], []
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/none.npy", np.zeros((1, 1), dtype="float32"))
        for length in lengths:
            rows.append(
                compare(length, options.repetitions, options.peers, f"{folder}/none.npy", max(1, 640 // length))
            )
            print(json.dumps(rows[-1]), flush=True)
    options.output.write_text(
        json.dumps({"machine": machine_now(), "num_data": NUM_DATA, "rows": rows}, indent=1) + "\n"
    )


def compare(length: int, repetitions: int, peers: Path, data: str, steps: int) -> dict[str, object]:
    """Measure steps on sequences of one length: the median seconds, the medians of ratios, and the losses."""
    settings = {"kind": "step", "data": data, "batch_size": NUM_DATA, "num_samples": length, "learning_rate": 1e-3}
    contestants = [EAGER, COMPILED, NUMPYRO]
    pairs = [(EAGER.name, NUMPYRO.name), (COMPILED.name, NUMPYRO.name)]
    taken: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    with running(contestants, settings, peers) as workers:
        losses = {name: worker.turn(1, steps).value for name, worker in workers.items()}

        def take(name: str, repetition: int) -> float:
            taken[name].append(workers[name].turn(1 + repetition, steps).seconds / steps)
            return taken[name][-1]

        seconds = interleaved(pairs, take, repetitions)
    ratios = {ours: statistics.median(a / b for a, b in turns) for (ours, _), turns in seconds.items()}
    return {
        "length": length,
        "seconds": {name: statistics.median(times) for name, times in taken.items()},
        "ratio_to_numpyro": ratios,
        "loss_per_step": losses,
    }


if __name__ == "__main__":
    main()
