"""Measure training steps of the deep Markov model beside NumPyro's as sequences get longer: time and memory.

    python benchmarks/sequences.py [--isa avx2] [--lengths 160,320,640,1280] [--repetitions 5] [--peers PYTHON]

The numbers go to ``sequences.json``, and the page is written anew.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import tempfile
from pathlib import Path
from typing import Any

import bench
import isa
import numpy as np
import report
import results
from turns import Answer, interleaved, running
from works import NUMPYRO_CHAIN, OURS_CHAIN

FOLDER = Path(__file__).parent
NUM_DATA = 20
WARM_UP = 16
"""Number of training steps before those that count: the 1st, 2nd, 3rd, 4th, 8th and 16th step of ours run a second
time in Python, which compares a graph with its function."""
STEPS = 640
"""Number of time steps of a turn: a turn of sequences of 160 steps has four training steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="160,320,640,1280", help="numbers of steps of a sequence")
    parser.add_argument("--repetitions", type=int, default=5, help="number of repetitions")
    parser.add_argument("--isa", choices=isa.ISAS, help="instruction set for all (default: the best of the processor)")
    parser.add_argument(
        "--peers", type=Path, default=FOLDER.parent / ".venv-peers/bin/python", help="Python of the peers' environment"
    )
    options = parser.parse_args()
    if options.isa:
        isa.limit_instructions(options.isa, options.peers)
    bench.choose_precision()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/none.npy", np.zeros((1, 1), dtype="float32"))
        for length in map(int, options.lengths.split(",")):
            rows.append(compare(length, options.repetitions, options.peers, f"{folder}/none.npy"))
            print(rows[-1], flush=True)
            measured = {"machine": bench.machine_now(), "date": f"{datetime.date.today()}", "rows": rows}
            results.note(FOLDER / "sequences.json", options.isa or isa.best_isa(), "sequences", measured, ())
    report.publish(FOLDER)


def compare(length: int, repetitions: int, peers: Path, data: str) -> dict[str, Any]:
    """Measure steps on sequences of one length: median seconds, the median ratio, and peak memory, by contestant."""
    settings = {"kind": "step", "data": data, "batch_size": NUM_DATA, "num_samples": length, "learning_rate": 1e-3}
    steps = max(1, STEPS // length)
    pair = (OURS_CHAIN.name, NUMPYRO_CHAIN.name)
    taken: dict[str, list[Answer]] = {name: [] for name in pair}
    with running([OURS_CHAIN, NUMPYRO_CHAIN], settings, peers) as workers:
        for worker in workers.values():
            for seed in range(-(-WARM_UP // steps)):
                worker.turn(seed, steps)

        def take(name: str, repetition: int) -> float:
            taken[name].append(workers[name].turn(repetition, steps))
            return taken[name][-1].seconds / steps

        turns = interleaved([pair], take, repetitions)[pair]
    return {
        "length": length,
        "seconds": {name: statistics.median(turn.seconds for turn in of) / steps for name, of in taken.items()},
        "ratio": statistics.median(ours / theirs for ours, theirs in turns),
        "peak_mib": {name: round(of[-1].peak_mib) for name, of in taken.items()},
    }


if __name__ == "__main__":
    main()
