"""``python -m ppl_vae.impute``: fill in what is missing in data."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ppl_vae import uses
from ppl_vae.cli.opened import Done, Opened, flattened, named_row, use_command
from ppl_vae.data import Part, read_file
from ppl_vae.errors import InputError

SHOWN, DRAWS, FEW = 8, 4, 10


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(impute, args)


def impute(
    it: Opened,
    data: str | None = None,
    mask: str | None = None,
    hide: float | None = None,
    part: Part = "test",
    num_data: int | None = None,
    method: uses.ImputeBy = "per-sample",
    num_samples: int = 1000,
    num_draws: int = 8,
) -> Done:
    """Fill in missing numbers: several draws, a mean and an uncertainty for each.

    Args:
        it: the run.
        data: a file .npz, .npy or .csv with holes, NaN or empty fields; by default a part of the run's data.
        mask: a file .npz or .npy of Booleans of the shape of the data, true where a number is missing.
        hide: hide so large a share of the numbers, drawn at random, to see how well they are found.
        part: the part of the run's data.
        num_data: so many of these, drawn at random with the run's seed; all by default.
        method: per-sample optimises lambda for what was seen of each datum; importance draws from the guide.
        num_samples: draws of the latents per datum.
        num_draws: completed data that are written for each datum.

    Returns:
        Done: ``ppl_vae.uses.Imputation``.
    """
    if data is None and mask is None and hide is None:
        raise InputError("nothing is missing: give --data FILE with holes, --mask FILE, or --hide 0.5 for a trial")
    if hide is not None and not 0 < hide < 1:
        raise InputError(f"--hide {hide}: expected a share between 0 and 1")
    arrays = it.arrays(part, num_data) if data is None else read_file(Path(data).expanduser(), holes=True)
    arrays.setdefault("_row", np.arange(len(next(iter(arrays.values())))))
    free = set(it.vi.template) - set(it.vi.conditions)
    names = [name for name in it.vi.template if name in free & set(arrays) and it.vi.template[name].dtype.kind == "f"]
    missing = {}
    if mask is not None:
        masks = read_file(Path(mask).expanduser())
        missing = {name: array.astype(bool) for name, array in masks.items() if name in arrays}
        if not missing:
            raise InputError(f"--mask {mask} has {', '.join(masks)}: expected an array called {names[0]!r}")
    if hide is not None:
        random = np.random.default_rng(it.vi.seed)
        missing = {name: random.random(arrays[name].shape) < hide for name in names}
    found = uses.impute(it.vi, arrays, missing=missing, num_samples=num_samples, num_draws=num_draws, method=method)
    truth = it.vi.observed(arrays) if hide is not None else {}
    figure = _figure(found, truth, it, arrays)
    fields = flattened(**found._asdict(), rows=arrays["_row"])
    return Done(found, _lines(found, truth), it.write("impute", fields, {"impute": figure}))


def _figure(found: uses.Imputation, truth: dict[str, np.ndarray], it: Opened, arrays: dict[str, np.ndarray]) -> Figure:
    few, cells = min(SHOWN, len(arrays["_row"])), {}
    for name, mean in found.mean.items():
        seen = np.where(found.missing[name], np.nan, mean)
        columns = [seen, *found.draws[name][:DRAWS], mean, found.sd[name], *([truth[name]] if truth else [])]
        cells[name] = np.stack([column[:few] for column in columns], 1)
    draws = min(DRAWS, len(next(iter(found.draws.values()))))
    labels = ["seen", *(f"draw {draw + 1}" for draw in range(draws)), "mean", "sd", *(["truth"] if truth else [])]
    return it.figure(
        cells,
        "What was seen, and what may be missing",
        lengths=it.lengths({name: array[:few] for name, array in arrays.items()}, (few, len(labels))),
        rows=[named_row(arrays, index) for index in range(few)],
        columns=labels,
        own_scale=[labels.index("sd")],
    )


def _lines(found: uses.Imputation, truth: dict[str, np.ndarray]) -> list[str]:
    """What there is to say of each site; where the numbers were only hidden, how well they were found."""
    alike: dict[str, list[str]] = {}  # x_0, x_1, ... of a sequence
    for name in found.missing:
        alike.setdefault(name.rstrip("0123456789"), []).append(name)
    lines = []
    for names in alike.values():

        def joined(arrays: dict[str, np.ndarray], names: list[str] = names) -> np.ndarray:
            return np.concatenate([arrays[name].reshape(len(arrays[name]), -1) for name in names], 1)

        title = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        hole = joined(found.missing)
        lines += [f"{title}: {hole.sum()} of {hole.size} numbers missing in {len(hole)} data"]
        if truth and hole.any():
            x, usual = joined(truth), uses.column_means(joined(truth), hole)
            of_program, of_column = (uses.score_missing(x, mean, hole) for mean in (joined(found.mean), usual))
            pairs = of_program.items()
            lines += [f"  {score}: {value:.4f}; the column's mean {of_column[score]:.4f}" for score, value in pairs]
            if "log loss" not in of_program:
                inside = (x >= joined(found.lower)) & (x <= joined(found.upper))
                lines += [f"  90 % intervals hold {inside[hole].mean():.1%}"]
    poor, usual = (found.effective < FEW).mean(), np.median(found.effective)
    return [*lines, f"effective draws of the median datum {usual:.0f}; fewer than {FEW} of {poor:.1%} of the data"]


if __name__ == "__main__":
    sys.exit(main())
