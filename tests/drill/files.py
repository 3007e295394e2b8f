"""Every file of a run is cut short, and single bits of it are flipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_vae.runs import Run, read_checkpoint, read_tables
from tests.drill.checks import Check, inside, judge_read
from tests.drill.work import Bench, score


def drill(bench: Bench, quick: bool) -> Iterator[Check]:
    """Yield the checks."""
    rng = np.random.default_rng(0)
    folder = bench.copy()
    with inside(folder):
        run, per_sample = Run("amortized"), Run("per-sample")
        tensors, numbers = read_checkpoint(run.checkpoint)
        local = read_checkpoint(per_sample.checkpoint)[1]
        epoch, digests = local["row"]["epoch"], local["tables"]

        def read_table() -> np.ndarray:
            return np.array(read_tables(per_sample.checkpoint, epoch, ["train"], digests)["train"])

        def same_parameters(read: Any) -> bool:
            return read[1] == numbers and all(torch.equal(read[0][name], tensors[name]) for name in tensors)

        readers: dict[str, tuple[Callable[[], Any], int]] = {
            "amortized/checkpoint.safetensors": (lambda: read_checkpoint(run.checkpoint), 400),
            "amortized/metrics.jsonl": (run.metrics, 300),
            "amortized/summary.json": (lambda: run.read_json("summary.json"), 250),
            "amortized/evidence.json": (lambda: run.read_json("evidence.json"), 250),
            "amortized/gap.json": (lambda: run.read_json("gap.json"), 250),
            "amortized/fingerprints.json": (run.fingerprints, 250),
            f"per-sample/checkpoint.lambda-train-{epoch}.npy": (read_table, 250),
            "amortized/config.yaml": (lambda: score("amortized"), 120),
            "helper.py": (lambda: score("amortized"), 20),
            "mine.py": (lambda: score("amortized"), 60),
            "my.npz": (lambda: score("amortized"), 60),
        }
        for name, (read, count) in readers.items():
            path, expected = Path(name), read()
            content, number = path.read_bytes(), count // 50 + 1 if quick else count

            def same(value: Any, name: str = name, expected: Any = expected) -> bool:
                if name.endswith("safetensors"):
                    return same_parameters(value)
                return np.array_equal(value, expected) if isinstance(expected, np.ndarray) else value == expected

            for place in rng.integers(0, 8 * len(content), size=number):
                flipped = bytearray(content)
                flipped[place // 8] ^= 1 << place % 8
                path.write_bytes(flipped)
                yield judge_read("bit flips", f"bit {place} of {name}", read, same)
            for size in {0, 1, len(content) - 1, *rng.integers(0, len(content), size=number // 8).tolist()}:
                path.write_bytes(content[:size])
                yield judge_read("truncation", f"{name} cut to {size} bytes", read, same)
            path.unlink()
            missing = (lambda value: True) if name.endswith(".json") else same  # results that have not been made
            yield judge_read("truncation", f"no {name}", read, missing)
            path.write_bytes(content)
    shutil.rmtree(folder)
