"""Configurations, checkpoints and program files of strangers, and numbers that are not finite."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from ppl_vae.report import content, render
from ppl_vae.runs import Run, read_checkpoint, write_checkpoint
from tests.drill.checks import Check, inside, judge_command, judge_read, run_forked
from tests.drill.work import PROGRAM, Bench, options_of, run, score

VALUES: list[Any] = [None, True, -1, 0, 1.5, "", "zero", [], [1], {}, {"a": 1}, 10**30, float("nan"), "x" * 10_000]

TEXTS = {
    "aliases without end": "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "brackets without end": "a: " + "[" * 20_000,
    "braces without end": "{" * 20_000,
    "a Python object": "a: !!python/object/apply:os.system ['touch pwned']",
    "a Python name": "a: !!python/name:os.system",
    "a tag": "a: !something 3",
    "two documents": "a: 1\n---\nb: 2\n",
    "a number as a key": "1: 2\n",
    "a list as a key": "? [1, 2]\n: 3\n",
    "a date that is none": "a: 2001-99-99\n",
    "a time": "seed: 12:30:45\n",
    "a merge of nothing": "<<: 3\n",
    "an anchor that is not there": "a: *b\n",
    "tabs": "a:\n\t- 1\n",
    "nothing": "",
    "null": "null\n",
    "a text": "hello\n",
    "binary": "\x00\x01\x02",
    "a huge number": "seed: " + "9" * 5000 + "\n",
    "a long line": "a: " + "x" * 2_000_000 + "\n",
    "many lines": "".join(f"a{i}: {i}\n" for i in range(30_000)),
}


def drill(bench: Bench, quick: bool) -> Iterator[Check]:
    """Yield the checks."""
    folder = bench.copy()
    with inside(folder):
        expected = score("amortized")
        config = Path("amortized/config.yaml")
        text = config.read_text()
        for name, hostile in list(TEXTS.items())[:: 11 if quick else 1]:
            for what in (hostile, text + hostile):
                config.write_text(what)
                yield judge_read("hostile YAML", f"{name}: load", lambda: score("amortized"), expected.__eq__)
                Path("hostile.yaml").write_text(what)
                ended = run_forked(lambda: run("fit", "--config", "hostile.yaml", "--help"))
                yield judge_command("hostile YAML", f"{name}: --help", ended, not Path("pwned").exists())
                if not quick:
                    ended = run_forked(lambda: run("fit", "--config", "hostile.yaml", *options_of("amortized", 1)))
                    yield judge_command("hostile YAML", f"{name}: fit", ended, not Path("pwned").exists())
                    shutil.rmtree("runs", ignore_errors=True)
        options = yaml.safe_load(text)
        for name in list(options)[:: 24 if quick else 1]:
            for value in VALUES[::6] if quick else VALUES:
                config.write_text(yaml.safe_dump({**options, name: value}))
                yield judge_read(
                    "hostile options", f"{name}: {str(value)[:20]}", lambda: score("amortized"), expected.__eq__
                )
            config.write_text(yaml.safe_dump({key: item for key, item in options.items() if key != name}))
            yield judge_read("hostile options", f"no {name}", lambda: score("amortized"), expected.__eq__)
        config.write_text(text)
        yield from _checkpoints(quick, expected)
        yield from _results(quick)
        yield from _nan(quick)
    shutil.rmtree(folder)


def _checkpoints(quick: bool, expected: float) -> Iterator[Check]:
    """Checkpoints with a right digest, whose tensors or numbers cannot be."""
    path = Run("amortized").checkpoint
    whole = path.read_bytes()
    tensors, numbers = read_checkpoint(path)
    for name in list(numbers) + [f"row.{key}" for key in numbers["row"]]:
        for value in VALUES[1::8] if quick else VALUES:
            changed = json.loads(json.dumps(numbers))
            owner = changed["row"] if name.startswith("row.") else changed
            owner[name.removeprefix("row.")] = value
            write_checkpoint(path, tensors, changed)
            # What only resume uses is checked there.
            yield judge_read(
                "hostile checkpoints", f"{name}: {str(value)[:20]}", lambda: score("amortized"), expected.__eq__
            )

    def is_the_same(value: float) -> bool:
        """Compare to rounding: if the template is not finite, the same products are computed for repeated rows."""
        return math.isclose(value, expected, rel_tol=torch.finfo(torch.float32).eps)

    names = [name for name in tensors if name.startswith(("best.", "template."))]
    for name in names[:: 6 if quick else 1]:
        tensor = tensors[name]
        others = {
            "missing": None,
            "of another shape": tensor.reshape(-1)[:-1].clone(),
            "of another dimension": tensor[None].clone(),
            "of no values": tensor.reshape(-1)[:0].clone(),
            "not a number": torch.full_like(tensor, float("nan")),
            "infinite": torch.full_like(tensor, float("inf")),
            "whole numbers": torch.ones(tensor.shape, dtype=torch.int64),
        }
        for what, other in others.items():
            changed = {key: item for key, item in tensors.items() if key != name}
            write_checkpoint(path, changed | ({} if other is None else {name: other}), numbers)
            yield judge_read("hostile checkpoints", f"{name} {what}", lambda: score("amortized"), is_the_same)
    path.write_bytes(whole)


def _results(quick: bool) -> Iterator[Check]:
    """Results without a digest that are not what a verb writes, as a report reads them."""
    Path("amortized/fingerprints.json").rename("kept")  # runs of earlier versions have neither
    content.__dict__["_program"] = lambda *_: (None, "")  # it is another file's matter, and takes most of the time
    for name in ("summary.json", "evidence.json", "gap.json"):
        path = Path("amortized", name)
        text = path.read_text()
        written = json.loads(text)
        written.pop("digest")
        for key in list(written)[:: 9 if quick else 1]:
            for value in VALUES[:12:6] if quick else VALUES[:12]:
                path.write_text(json.dumps({**written, key: value}))
                what = f"{key} of {name}: {str(value)[:20]}"
                yield judge_read("hostile results", what, lambda: render(Run("amortized")), lambda _: True)
        path.write_text(text)
    Path("kept").rename("amortized/fingerprints.json")


def _nan(quick: bool) -> Iterator[Check]:
    """A loss, a gradient or a parameter that is not finite at a step."""
    for value in ("nan",) if quick else ("nan", "inf", "-inf"):
        for step in (9,) if quick else (1, 2, 5, 9, 13, 17):
            for where in ("loc", "self.decoder(z)")[: 1 if quick else 2]:
                program = PROGRAM.replace(
                    "    def model(self, x):\n",
                    f"    taken = 0\n\n    def bad(self, t):\n        self.taken += self.training\n"
                    f"        return t * float('{value}') if self.training and self.taken > {step} else t\n\n"
                    f"    def model(self, x):\n",
                ).replace(f"Normal({where},", f"Normal(self.bad({where}),")
                Path("bad.py").write_text(program)
                args = [*options_of("amortized"), "--model", "bad.py", "--output", "bad", "--overwrite"]
                ended = run_forked(lambda args=args: run("fit", *args))
                saved = read_checkpoint(Path("bad/checkpoint.safetensors"))[0] if Path("bad").exists() else {}
                finite = all(bool(torch.isfinite(tensor).all()) for tensor in saved.values())
                yield judge_command(
                    "not finite", f"{value} of {where} at step {step}", ended, ended.status == 2 and finite
                )
                shutil.rmtree("bad", ignore_errors=True)
