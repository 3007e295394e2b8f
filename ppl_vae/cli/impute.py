"""The verb ``impute``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ppl_vae import uses
from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.data import load_arrays, read_file, with_numbers
from ppl_vae.errors import InputError

ROWS, DRAWS = 8, 4
"""The most data, and the most draws of each, in the figure."""
FEW = 10
"""Effective draws below which an answer should not be believed."""


def impute(
    run: OpenRun,
    data: str | None = None,
    mask: str | None = None,
    hide: float | None = None,
    selection: Selection = Selection(),
    method: uses.ImputeBy = "per-sample",
    num_samples: int = 1000,
    num_draws: int = 8,
) -> Outcome:
    """Write several draws, the mean and an interval for each.

    Args:
        run: the run.
        data: file of arrays or of a table with holes, which are NaN or empty fields; by default the run's data.
        mask: file .npz or .npy of Booleans of the shape of the data, true where a number is missing.
        hide: share of the numbers to hide at random, between 0 and 1, in order to see how well they are filled in.
        selection: the data, unless a file is given.
        method: per-sample optimises lambda for what was seen of each datum; importance draws from the guide.
        num_samples: number of draws of the latents per datum.
        num_draws: number of completed data that are written for each datum.

    Returns:
        Outcome: with ``ppl_vae.uses.Imputation``.
    """
    if data is None and mask is None and hide is None:
        raise InputError("nothing is missing: give --data FILE with holes, --mask FILE, or --hide 0.5 for a trial")
    if hide is not None and not 0 < hide < 1:
        raise InputError(f"--hide {hide}: expected a share between 0 and 1")
    arrays = run.select(selection) if data is None else load_arrays(Path(data).expanduser(), run.data)
    if "_row" not in arrays:
        arrays = with_numbers(arrays, "_row")
    free = set(run.vi.template) - set(run.vi.conditions)
    names = [name for name in run.vi.template if name in free & set(arrays) and run.vi.template[name].dtype.kind == "f"]
    missing = {}
    if mask is not None:
        masks = read_file(Path(mask).expanduser())
        missing = {name: array.astype(bool) for name, array in masks.items() if name in arrays}
        if not missing:
            raise InputError(f"--mask {mask} has {', '.join(masks)}: expected an array called {names[0]!r}")
    if hide is not None:
        random = np.random.default_rng(run.vi.seed)
        missing = {name: random.random(arrays[name].shape) < hide for name in names}
    imputation = uses.impute(
        run.vi, arrays, missing=missing, num_samples=num_samples, num_draws=num_draws, method=method
    )
    truth = run.vi.observed(arrays) if hide is not None else {}
    figure = _draw(imputation, truth, run, arrays)
    lines = _describe(imputation, truth, run.vi.fitted.classes)
    part = selection.part if data is None else None
    return run.write("impute", imputation, {"impute": figure}, lines, rows=arrays["_row"], part=part)


def _draw(
    imputation: uses.Imputation, truth: Mapping[str, np.ndarray], run: OpenRun, arrays: Mapping[str, np.ndarray]
) -> Figure:
    """Draw what was seen, draws of what was missing, their mean and deviation, and the truth if it is known.

    Classes have the most probable class in place of a mean, and its probability in place of a deviation.
    """
    rows, cells, classes = min(ROWS, len(arrays["_row"])), {}, run.vi.fitted.classes
    for name, mean in run.vi.fitted.most_probable(imputation.mean).items():
        seen = np.where(imputation.missing[name], np.nan, mean)
        doubt = imputation.mean[name].max(-1) if name in classes else imputation.sd[name]
        columns = [seen, *imputation.draws[name][:DRAWS], mean, doubt, *([truth[name]] if truth else [])]
        cells[name] = np.stack([column[:rows] for column in columns], 1)
    draws = min(DRAWS, len(next(iter(imputation.draws.values()))))
    spread = " or ".join(dict.fromkeys("its probability" if name in classes else "sd" for name in cells))
    labels = ["seen", *(f"draw {draw + 1}" for draw in range(draws)), run.vi.fitted.name_of_means, spread]
    labels += ["truth"] if truth else []
    return run.draw_sheet(
        cells,
        "What was seen, and what may be missing",
        arrays,
        columns=labels,
        own_scale=[labels.index(spread)],
    )


def _describe(imputation: uses.Imputation, truth: Mapping[str, np.ndarray], classes: Mapping[str, int]) -> list[str]:
    """Return lines about each site, with scores if the numbers were only hidden.

    Args:
        imputation: what was filled in.
        truth: the true numbers by site, if they are known.
        classes: the number of classes of each site whose values are classes.
    """
    series: dict[str, list[str]] = {}  # x_0, x_1, ... of a sequence
    for name in imputation.missing:
        series.setdefault(name.rstrip("0123456789"), []).append(name)
    lines = []
    for names in series.values():
        number = classes.get(names[0], 0)

        def join(arrays: Mapping[str, np.ndarray], *last: int, names: list[str] = names) -> np.ndarray:
            return np.concatenate([arrays[name].reshape(len(arrays[name]), -1, *last) for name in names], 1)

        title = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        hole = join(imputation.missing)
        lines += [f"{title}: {hole.sum()} of {hole.size} numbers missing in {len(hole)} data"]
        if truth and hole.any():
            x = join(truth)
            means = (join(imputation.mean, *([number] if number else [])), uses.column_means(x, hole, number))
            scores, column = (uses.score_missing(x, mean, hole) for mean in means)
            rival = "frequencies" if number else "mean"
            lines += [
                f"  {name}: {score:.4f}; the column's {rival} {column[name]:.4f}" for name, score in scores.items()
            ]
            if "log loss" not in scores:
                inside = (x >= join(imputation.lower)) & (x <= join(imputation.upper))
                lines += [f"  90 % intervals hold {inside[hole].mean():.1%}"]
    poor, usual = (imputation.effective < FEW).mean(), np.median(imputation.effective)
    return [*lines, f"effective draws of the median datum {usual:.0f}; fewer than {FEW} of {poor:.1%} of the data"]
