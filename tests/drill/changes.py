"""The program, its helpers, its arguments and the data change between a fit and its use."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.drill.checks import CLEAR_ERROR, NOTHING_LOST, SILENT, Check, inside, judge_command, judge_read, run_forked
from tests.drill.work import Bench, run, score

PROGRAMS = {
    "the scale in the helper": ("helper.py", "0.5", "0.6"),
    "a helper's function": ("helper.py", "SCALE = 0.5", "SCALE = float(sum([0.25, 0.5]))"),
    "the prior's scale": ("mine.py", ", 1.0).to_event", ", 3.0).to_event"),
    "the prior's family": ("mine.py", "dist.Normal(torch.zeros", "dist.Laplace(torch.zeros"),
    "the likelihood": ("mine.py", "dist.Normal(self.decoder(z)", "dist.Laplace(self.decoder(z)"),
    "the decoder's output": ("mine.py", "self.decoder(z), SCALE", "self.decoder(z).tanh(), SCALE"),
    "the guide's scale": ("mine.py", "raw.exp()", "raw.exp() * 2"),
    "a new latent": (
        "mine.py",
        '            pyro.sample("seen"',
        '            pyro.sample("w", dist.Normal(torch.zeros(len(x)), 1.0))\n            pyro.sample("seen"',
    ),
    "a factor": (
        "mine.py",
        '            pyro.sample("seen"',
        '            pyro.factor("f", torch.ones(len(x)))\n            pyro.sample("seen"',
    ),
    "another width": ("mine.py", "width: int = 3", "width: int = 4"),
    "an argument": ("amortized/config.yaml", "width: 3", "width: 2"),
    "another scale": ("amortized/config.yaml", "scale: 0.5", "scale: 0.7"),
    "another seed": ("amortized/config.yaml", "seed: 0", "seed: 1"),
    "another way to make bits": ("amortized/config.yaml", "binarize: null", "binarize: none"),
    "another number of draws": ("amortized/config.yaml", "num_samples: 5", "num_samples: 6"),
    "a comment": ("mine.py", "class Mine", "# A comment.\nclass Mine"),
    "a docstring": ("mine.py", "    def model(self, x):\n", '    def model(self, x):\n        """Draw."""\n'),
}


def drill(bench: Bench, quick: bool) -> Iterator[Check]:
    """Yield the checks."""
    folder = bench.copy()
    with inside(folder):
        expected = score("amortized")
        for name, (file, old, new) in list(PROGRAMS.items())[:: 4 if quick else 1]:
            with _changed(Path(file), lambda text, old=old, new=new: text.replace(old, new)):
                yield judge_read("changed program", f"{name}: load", lambda: score("amortized"), expected.__eq__)
                if not quick:
                    yield from _resumed("changed program", name, ("a comment", "a docstring"))
        data = Path("my.npz")
        arrays = dict(np.load(data))
        changes: dict[str, Callable[[dict[str, np.ndarray]], None]] = {
            "a value of train": lambda a: a["x_train"].__setitem__((3, 2), 7.0),
            "a value of valid": lambda a: a["x_valid"].__setitem__((3, 2), 7.0),
            "a value of test": lambda a: a["x_test"].__setitem__((3, 2), 7.0),
            "the order of rows": lambda a: a.update(x_test=a["x_test"][::-1]),
            "the order of columns": lambda a: a.update(x_test=a["x_test"][:, ::-1]),
            "a row of test more": lambda a: a.update(x_test=a["x_train"][:11]),
            "a row of train less": lambda a: a.update(x_train=a["x_train"][:-1]),
            "train and test swapped": lambda a: a.update(x_train=a["x_test"], x_test=a["x_train"]),
            "another unit": lambda a: a.update({name: 100 * array for name, array in a.items()}),
            "a column less": lambda a: a.update({name: array[:, :4] for name, array in a.items()}),
            "all rows in one": lambda a: (a.update(x=np.concatenate(list(a.values()))), [a.pop(n) for n in arrays])[0],
        }
        for name, change in list(changes.items())[:: 10 if quick else 1]:
            changed = {key: array.copy() for key, array in arrays.items()}
            change(changed)
            np.savez(data, **changed)
            yield judge_read("changed data", f"{name}: load", lambda: score("amortized"), expected.__eq__)
            if name != "a column less":
                yield _reported(name, "evaluate")
                yield _reported(name, "reconstruct")
            yield from _resumed("changed data", name, ())
        np.savez(data, **arrays)
    shutil.rmtree(folder)


class _changed:
    """A file whose text is another one inside the block."""

    def __init__(self, path: Path, change: Callable[[str], str]) -> None:
        self.path, self.text = path, path.read_text()
        assert change(self.text) != self.text, path
        self.changed = change(self.text)

    def __enter__(self) -> None:
        self.path.write_text(self.changed)

    def __exit__(self, *_: object) -> None:
        self.path.write_text(self.text)


def _reported(name: str, verb: str) -> Check:
    ended = run_forked(lambda: run(verb, "amortized"))
    check = judge_command("changed data", f"{name}: {verb}", ended, True)
    is_silent = check.outcome == NOTHING_LOST and "warning: " not in ended.err
    outcome = SILENT if is_silent else CLEAR_ERROR if check.outcome == NOTHING_LOST else check.outcome
    return check._replace(outcome=outcome)


def _resumed(kind: str, name: str, harmless: tuple[str, ...]) -> Iterator[Check]:
    shutil.copytree("amortized", "resumed")
    ended = run_forked(lambda: run("fit", "--resume", "--output", "resumed", "--max-epochs", "6"))
    accepted = name in harmless or "draws" in name or "bits" in name
    yield judge_command(kind, f"{name}: resume", ended, ended.status == 2 or accepted)
    shutil.rmtree("resumed")
