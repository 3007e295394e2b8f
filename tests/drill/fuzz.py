"""Data files of random content, and random command lines."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.cli import list_verbs
from ppl_vae.data import load_dataset
from tests.drill.checks import Check, inside, judge_command, judge_read, run_forked, run_here
from tests.drill.work import Bench, options_of, run

WORDS = [
    *("run", "amortized", "per-sample", "none", "my.npz", "mine.py", "mine.py:Mine", "vae", "", "-", "--", "=", "\n"),
    *(
        "0",
        "1",
        "-1",
        "3",
        "1e400",
        "nan",
        "inf",
        "0.5",
        "[1,2]",
        "[",
        "{}",
        "null",
        "true",
        "None",
        "digits",
        "'",
        "é",
    ),
    *("$HOME", "../..", "/", "/dev/null", "x" * 500, "\x00", "\ud800", "--model", "--y", "-3", "test", "train", "iwae"),
]
OPTIONS = [
    *("--num-samples", "--num-data", "--part", "--seed", "--output", "--format", "--estimators", "--rows", "--columns"),
    *("--accelerator", "--compile", "--image-shape", "--model.width", "--model.hidden", "--guide", "--max-epochs"),
    *("--batch-size", "--learning-rate", "--data", "--binarize", "--config", "--resume", "--overwrite", "--trust"),
    *("--precision", "--family", "--kl-weight", "--bound", "--what", "--num-steps", "--help", "--foo", "--y", "--x"),
    *("--proposal", "--num-temperatures", "--start", "--dims", "--accept-changes", "--data-plate", "--patience"),
]


def drill(bench: Bench, quick: bool) -> Iterator[Check]:
    """Yield the checks."""
    folder = bench.copy()
    with inside(folder):
        chance = random.Random(0)
        for number in range(40 if quick else 1000):
            yield _read_broken(chance, number)
        for number in range(10 if quick else 300):
            yield _run_random(chance, number)
    shutil.rmtree(folder)


def _files(chance: random.Random) -> dict[str, bytes]:
    """Return files of each format, which are whole."""
    rng = np.random.default_rng(chance.randrange(2**32))
    x = rng.normal(size=(20, 3)).round(3)
    np.savez("f.npz", x=x, y=rng.integers(0, 3, size=20))
    np.savez_compressed("c.npz", x_train=x[:12], x_valid=x[12:16], x_test=x[16:])
    np.save("f.npy", x)
    table = "a,b,label\n" + "".join(f"{row[0]},{row[1]},{i % 3}\n" for i, row in enumerate(x))
    quoted = '"a, b";"c"\r\n' + "".join(f'"{row[0]}";{row[1]}\r\n' for row in x)
    texts = {"f.csv": table.encode(), "q.csv": quoted.encode(), "u.csv": table.encode("utf-16")}
    return {**{name: Path(name).read_bytes() for name in ("f.npz", "c.npz", "f.npy")}, **texts}


def _read_broken(chance: random.Random, number: int) -> Check:
    files = _files(chance)
    name = list(files)[number % len(files)]
    content = bytearray(files[name])
    mutations: dict[str, Callable[[bytearray], Any]] = {
        "bits": lambda c: [c.__setitem__(i, c[i] ^ 1 << chance.randrange(8)) for i in _some(chance, c)],
        "bytes": lambda c: [c.__setitem__(i, chance.randrange(256)) for i in _some(chance, c)],
        "header": lambda c: c.__setitem__(chance.randrange(min(128, len(c))), chance.randrange(256)),
        "cut": lambda c: c.__delitem__(slice(chance.randrange(len(c)), None)),
        "hole": lambda c: c.__delitem__(slice(*sorted(chance.sample(range(len(c)), 2)))),
        "twice": lambda c: c.extend(c[chance.randrange(len(c)) :]),
        "words": lambda c: c.extend(chance.choice(WORDS).encode(errors="replace")),
        "inserted": lambda c: c.insert(chance.randrange(len(c)), chance.choice(b'\0,;"\n\xff')),
        "suffix": lambda c: None,
    }
    kind = chance.choice(list(mutations))
    mutations[kind](content)
    path = Path(f"broken{chance.choice(['.npz', '.npy', '.csv']) if kind == 'suffix' else Path(name).suffix}")
    path.write_bytes(content)

    def is_whole(data: Any) -> bool:
        """Return True if there are rows, every number is finite or missing, and it is reported if some are missing."""
        arrays = [array for part in (data.train, data.valid, data.test) for array in part.values()]
        holes = any(np.isnan(array).any() for array in arrays)
        return not any(np.isinf(array).any() or not len(array) for array in arrays) and (
            not holes or "missing" in data.describe()
        )

    check = judge_read("fuzzed data", f"{name}, {kind} {number}", lambda: load_dataset(path), is_whole)
    path.unlink()
    return check


def _some(chance: random.Random, content: bytearray) -> list[int]:
    return [chance.randrange(len(content)) for _ in range(chance.randrange(1, 6))]


def _run_random(chance: random.Random, number: int) -> Check:
    verb = chance.choice(list_verbs())
    first = [*options_of("amortized", 1), "--output", "new", "--overwrite"] if verb == "fit" else ["amortized"]
    args = list(first) if chance.random() < 0.8 else ["--max-epochs", "1"] if verb == "fit" else []
    for _ in range(chance.randrange(1, 4)):
        args += [chance.choice(OPTIONS), chance.choice(WORDS)] if chance.random() < 0.8 else [chance.choice(WORDS)]
    fits = verb == "fit"  # training in this process would keep later ones from it
    ended = run_forked(lambda: run(verb, *args)) if fits else run_here(lambda: run(verb, *args))
    shutil.rmtree("new", ignore_errors=True)
    return judge_command("command lines", f"{number}: {verb} {ascii(' '.join(args))[:120]}", ended, True)
