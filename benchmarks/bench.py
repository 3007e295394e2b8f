"""Compare ppl_vae with its peers; write ``results.json``, ``measurements.json``, ``RESULTS.md`` and a chart.

    python benchmarks/bench.py [--works step,iwae] [--isa avx2] [--repetitions 9] [--data-root MNIST_FOLDER] [--quick]
                               [--resume] [--report]

README.md explains how the contestants are made comparable; works.py lists the comparisons.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import isa
import numpy as np
import report
import results
import works
from turns import Answer, Contestant, Worker, interleaved, running
from works import PARTS, WORKS, Work

FOLDER = Path(__file__).parent
NUM_DATA, DATA_DIM = 50_000, 784
WARM_UP = (1, 2)
"""Seeds of the turns before those that count; the second one shows whether the contestants agree."""
PROBE = """
import ppl_vae.cli.process, torch, json
from ppl_vae.cli.command import fast_products
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
with fast_products():
    precision = torch.get_float32_matmul_precision()
print(json.dumps({"threads": torch.get_num_threads(), "gpu": gpu, "matmul_precision": precision}))
"""
VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


class Run(NamedTuple):
    """The settings of a run of the benchmark."""

    peers: Path
    folder: Path
    """A temporary folder."""
    machine: dict[str, Any]
    repetitions: int | None
    quick: bool

    @property
    def data(self) -> str:
        """The file of the data."""
        return str(self.folder / "data.npy")

    def num_repetitions(self, default: int) -> int:
        """Return the number of repetitions."""
        return 2 if self.quick else self.repetitions or default

    def num_steps(self, default: int) -> int:
        """Return the number of steps per turn."""
        return -(-default // 10) if self.quick else default


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--works", help=f"some of {','.join(PARTS)} (default: all that this machine can run)")
    parser.add_argument("--repetitions", type=int, help="number of repetitions (default: a number for each task)")
    parser.add_argument("--data-root", help="folder with MNIST in torchvision's layout (default: use simulated bits)")
    parser.add_argument("--isa", choices=isa.ISAS, help="instruction set for all (default: the best of the processor)")
    parser.add_argument("--quick", action="store_true", help="make a short trial in build/benchmarks")
    parser.add_argument(
        "--resume", action="store_true", help="leave out the tasks that this machine has measured today"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing; only write RESULTS.md and the chart")
    parser.add_argument(
        "--peers", type=Path, default=FOLDER.parent / ".venv-peers/bin/python", help="Python of the peers' environment"
    )
    parser.add_argument("--output", type=Path, help="folder of the results (default: the folder of this script)")
    options = parser.parse_args()
    output = options.output or (FOLDER.parent / "build/benchmarks" if options.quick else FOLDER)
    output.mkdir(parents=True, exist_ok=True)
    if not options.report:
        measure(parser, options, output)
    report.publish(output)


def measure(parser: argparse.ArgumentParser, options: argparse.Namespace, output: Path) -> None:
    """Measure the chosen parts and write the files of numbers."""
    if not options.peers.exists():
        parser.error(f"{options.peers} does not exist: run make bench, which makes the environment of the peers")
    if options.isa:
        isa.limit_instructions(options.isa, options.peers)
    machine = describe(options.peers)
    choose_precision(machine["matmul_precision"])
    machine["isa"] = options.isa or isa.best_isa()
    machine["data"] = "MNIST's training images" if options.data_root else "bits of MNIST's size"
    able = [part for part in PARTS if machine["gpu"] or part not in WORKS or not WORKS[part].needs_gpu]
    parts = options.works.split(",") if options.works else able
    for part in parts:
        if part not in able:
            parser.error(f"--works {part}: expected some of {', '.join(able)}")
    with tempfile.TemporaryDirectory() as folder:
        run = Run(options.peers, Path(folder), machine, options.repetitions, options.quick)
        np.save(run.data, images(options.data_root))
        for part in parts:
            conditions = {"machine": machine, "date": f"{datetime.date.today()}", "is_trial": run.quick}
            old = results.read(output / "measurements.json", {}).get(machine["isa"], {}).get(part, {})
            if options.resume and conditions.items() <= old.items():
                continue
            print(f"{datetime.datetime.now():%H:%M:%S}  {part}", flush=True)
            started = time.perf_counter()
            rows, measured = OTHERS[part](run) if part in OTHERS else compare(run, WORKS[part])
            rows = [row | {"isa": machine["isa"]} for row in rows]
            results.keep(output / "results.json", rows, works.titles())
            conditions["took_seconds"] = round(time.perf_counter() - started)
            results.note(output / "measurements.json", machine["isa"], part, conditions | measured, PARTS)
            for row in rows:
                print(f"          {row['ratio']:.2f}  {row['work']}: {row['peer']}", flush=True)


def images(data_root: str | None) -> np.ndarray:
    """Return the training images of MNIST from a folder, or simulated bits of the same size with latent structure."""
    if data_root:
        from ppl_vae.data import load_dataset

        return load_dataset("mnist", data_root=data_root).train["x"].astype("float32")
    rng = np.random.default_rng(0)
    z = rng.normal(size=(NUM_DATA, 10)).astype("float32")
    logits = z @ rng.normal(size=(10, DATA_DIM)).astype("float32") - 2
    return (rng.random((NUM_DATA, DATA_DIM), dtype="float32") < 1 / (1 + np.exp(-logits))).astype("float32")


def describe(peers: Path) -> dict[str, Any]:
    """Return a description of the machine and the installed packages."""
    return {
        "processor": processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **ask(sys.executable, PROBE),
        "versions": {name: version(name) for name in ("torch", "pyro-ppl", "numpy")},
        "peers": ask(str(peers), VERSIONS, "numpyro", "jax", "pythae", "torch"),
    }


def ask(python: str, *arguments: str) -> dict[str, Any]:
    """Return what a short program prints, which is JSON."""
    return json.loads(subprocess.run([python, "-c", *arguments], check=True, capture_output=True, text=True).stdout)


def choose_precision(precision: str | None = None) -> None:
    """Give all contestants with PyTorch a precision of fp32 products, by default that of the commands of ppl_vae."""
    os.environ["MATMUL_PRECISION"] = precision or ask(sys.executable, PROBE)["matmul_precision"]


def machine_now() -> dict[str, Any]:
    """Return the processor, the cores that this process may use, the load, and the precision of fp32 products."""
    precision = os.environ["MATMUL_PRECISION"]
    return {"processor": processor(), "cores": cores(), "load": os.getloadavg()[0], "matmul_precision": precision}


def cores() -> int | None:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


Measured = tuple[list[results.Row], dict[str, Any]]


def compare(run: Run, work: Work) -> Measured:
    """Measure the comparisons of a task, and the seconds, the value and the peak memory of every contestant."""
    settings = {**work.settings, "data": run.data}
    if settings["kind"] != "step":
        settings["weights"] = trained(run)
    contestants, pairs = (
        work.contestants(),
        [(comparison.ours.name, comparison.peer.name) for comparison in work.comparisons],
    )
    measured: dict[str, Any] = {}
    if settings["kind"] == "iwae":
        settings["num_samples"] = run.num_steps(works.NUM_SAMPLES)
        measured["draws"] = settings["num_samples"] * settings["num_data"]
        contestants.append(works.PRODUCTS)
        pairs.append((works.OURS.name, works.PRODUCTS.name))
    steps, repetitions = run.num_steps(work.steps), run.num_repetitions(work.repetitions)
    divisor = steps if work.each_step else 1
    answers: dict[str, list[Answer]] = {contestant.name: [] for contestant in contestants}
    with running(contestants, settings, run.peers) as workers:
        values = {name: [worker.turn(seed, steps) for seed in WARM_UP][-1].value for name, worker in workers.items()}

        def take(name: str, repetition: int) -> float:
            answers[name].append(workers[name].turn(max(WARM_UP) + repetition, steps))
            return answers[name][-1].seconds / divisor

        seconds = interleaved(pairs, take, repetitions)
    rows = [
        results.row(work.name(comparison), comparison.peer.name, seconds[pair], comparison.at_most)
        for comparison, pair in zip(work.comparisons, pairs, strict=False)
    ]
    measured["contestants"] = {
        name: {
            "seconds": statistics.median(answer.seconds for answer in turns) / divisor,
            "value": values[name],
            "peak_mib": round(turns[-1].peak_mib),
        }
        for name, turns in answers.items()
    }
    return rows, {"repetitions": repetitions, "steps": steps, **measured}


def trained(run: Run) -> str:
    """Train for some steps and return the file of the parameters, for tasks that do not train."""
    path = run.folder / "weights.npz"
    if not path.exists():
        trainer = Contestant("training", "hand.py", {"fused": True, "save": str(path)})
        with running([trainer], {"kind": "step", "data": run.data}, run.peers) as workers:
            workers[trainer.name].turn(0, 400)
    return str(path)


def fit(run: Run) -> Measured:
    """Measure whole processes of the default fit."""
    epochs = {}

    def take(name: str, repetition: int) -> float:
        output = run.folder / "run"
        command = [sys.executable, "-m", "ppl_vae.fit", "--guide", "amortized", "--overwrite", "--output", str(output)]
        command += ["--max-epochs", "5"] if run.quick else []
        command += ["--compile", works.FIT_PEERS[name]] if name in works.FIT_PEERS else []
        start = time.perf_counter()
        process = subprocess.run(command, cwd=run.folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}:\n{process.stderr[-2000:]}")
        epochs[name] = json.loads((output / "summary.json").read_text())["epochs"]
        return seconds

    repetitions = run.num_repetitions(works.FIT_REPETITIONS)
    seconds = interleaved([("default", peer) for peer in works.FIT_PEERS], take, repetitions)
    rows = [results.row(works.FIT, peer, turns, works.FIT_AT_MOST) for (_, peer), turns in seconds.items()]
    return rows, {"repetitions": repetitions, "epochs": epochs}


def cold(run: Run) -> Measured:
    """Measure the import and the first step of processes that run alone."""
    settings = {**WORKS["step"].settings, "kind": "step", "data": run.data}
    rows = []

    def started(contestant: Contestant, cache: Path) -> dict[str, float]:
        worker = Worker(contestant, settings, run.peers, {"TORCHINDUCTOR_CACHE_DIR": str(cache)})
        try:
            return worker.ready()
        finally:
            worker.close()

    def note(contestant: Contestant, cache: str, times: list[dict[str, float]]) -> None:
        row: dict[str, Any] = {"contestant": contestant.name, "cache": cache}
        for key in ("import_seconds", "first_step_seconds"):
            row[key] = statistics.median(start[key] for start in times)
        rows.append(row)

    repetitions = run.num_repetitions(works.COLD_REPETITIONS)
    for contestant in works.COLD:
        caches = [Path(tempfile.mkdtemp(dir=run.folder)) for _ in range(repetitions)]
        compiles = contestant in works.COMPILING
        note(contestant, "empty" if compiles else "", [started(contestant, cache) for cache in caches])
        if compiles:
            note(contestant, "filled", [started(contestant, cache) for cache in caches])
    return [], {"repetitions": repetitions, "rows": rows}


OTHERS: dict[str, Callable[[Run], Measured]] = {"fit": fit, "cold": cold}


if __name__ == "__main__":
    main()
