"""The verb ``impute``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.jobs import ChosenRows, Content, Job, choose_rows, do
from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.cli.tables import cells_table, completed_table, write_tables
from ppl_vae.data import as_source, load_arrays, read_file
from ppl_vae.data.table import ARROW_SUFFIXES
from ppl_vae.errors import InputError
from ppl_vae.estimator import VariationalInference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, DRAWS = 8, 4
"""The most data, and the most draws of each, in the figure."""
TABLE_SUFFIXES = (".csv", ".tsv", *ARROW_SUFFIXES)
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
    output: str | None = None,
    shard: str | None = None,
) -> Outcome:
    """Write draws, a mean and an interval for each.

    Args:
        run: the run.
        data: file with missing values, NaN or empty fields. It holds arrays or a table. The default is the run's data.
        mask: file .npz or .npy of Booleans, true for a missing value. They have the shape of the data.
        hide: share of the values to hide at random. It lies between 0 and 1, and shows how well they are filled in.
        selection: the data, unless a file is given.
        method: way to infer the latents: per-sample or importance. per-sample optimises lambda, the variational
            parameters of each datum, for its observed part; importance draws from the guide.
        num_samples: number of draws of the latents per datum.
        num_draws: number of completed versions of each datum.
        output: file of the completed table: .csv, .tsv, .parquet or .feather. By default it is uses/impute in the run
            folder, in the format of the given table. A file of the same name that ends in _cells has a row for each
            missing number.
        shard: share of the data to process, such as 3/16. The verb merge joins the shares. The default is all data.

    Returns:
        Outcome: with ``ppl_vae.uses.Imputation``.
    """
    return do(prepare(run, data, mask, hide, selection, method, num_samples, num_draws, output), shard)


def prepare(
    run: OpenRun,
    data: str | None = None,
    mask: str | None = None,
    hide: float | None = None,
    selection: Selection = Selection(),
    method: uses.ImputeBy = "per-sample",
    num_samples: int = 1000,
    num_draws: int = 8,
    output: str | None = None,
) -> Job:
    """Return the job of ``impute``, which has its options but the shard."""
    if data is None and mask is None and hide is None:
        raise InputError("nothing is missing: give --data FILE with holes, --mask FILE, or --hide 0.5 for a trial")
    if output is not None and Path(output).suffix.lower() not in TABLE_SUFFIXES:
        raise InputError(f"--output {output}: expected a file {', '.join(TABLE_SUFFIXES)}")
    if output is not None and run.data.form is None:
        raise InputError(f"--output {output}: the data of the run are no table; uses/impute.npz has the arrays")
    if hide is not None and not 0 < hide < 1:
        raise InputError(f"--hide {hide}: expected a share between 0 and 1")
    rows = choose_rows(run, selection)
    if data is not None:
        rows = ChosenRows(as_source(load_arrays(Path(data).expanduser(), run.data)))
    free, shapes = set(run.vi.template) - set(run.vi.conditions), rows.source.shapes
    names = [name for name in run.vi.template if name in free & set(shapes) and run.vi.template[name].dtype.kind == "f"]
    masks: dict[str, np.ndarray] = {}
    if mask is not None:
        read = read_file(Path(mask).expanduser())
        masks = {name: array.astype(bool) for name, array in read.items() if name in shapes}
        if not masks:
            raise InputError(f"--mask {mask} has {', '.join(read)}: expected an array called {names[0]!r}")
        for name, array in masks.items():
            if array.shape != (rows.num_rows, *shapes[name]):
                raise InputError(
                    f"--mask {mask}: {name!r} has shape {array.shape}: expected {(rows.num_rows, *shapes[name])}, the "
                    f"shape of the data"
                )

    def compute(vi: VariationalInference, arrays: dict[str, np.ndarray]) -> Content:
        first, count = vi.fitted.place.first_row, len(arrays["_row"])
        missing = {name: array[first : first + count] for name, array in masks.items()}
        if hide is not None:
            hidden = {name: (rows.num_rows, *shapes[name]) for name in names}
            missing = {n: u < hide for n, u in uniform_rows(run.vi.seed, hidden, slice(first, first + count)).items()}
        given = {name: array for name, array in arrays.items() if name != "_row"}
        imputation = uses.impute(
            vi, given, missing=missing, num_samples=num_samples, num_draws=num_draws, method=method
        )
        fields = {name: value for name, value in imputation._asdict().items() if name != "columns"}
        return {**fields, "truth": vi.observed(given) if hide is not None else {}}

    def finish(portions: Iterator[Content]) -> Outcome:
        joined = _join(list(portions))
        truth, imputation = joined.pop("truth"), uses.Imputation(**joined)
        figure = _draw(imputation, truth, run, rows.read(range(min(ROWS, rows.num_rows))))
        lines = _describe(imputation, truth, run.vi.fitted.classes)
        part = selection.part if data is None else None
        files = _write_tables(run, imputation, data, output, rows.all_numbers)
        return run.write("impute", imputation, {"impute": figure}, lines, files, rows=rows.all_numbers, part=part)

    options = {"data": data, "mask": mask, "hide": hide, **asdict(selection), "method": method}
    options |= {"num_samples": num_samples, "num_draws": num_draws, "output": output}
    return Job("impute", run, rows, options, compute, finish, run.vi.fitted.rows_to_infer)


def _write_tables(
    run: OpenRun, imputation: uses.Imputation, data: str | None, output: str | None, rows: np.ndarray
) -> list[Path]:
    """Write the completed table, and a table of the numbers that were missing; nothing if the data are no table."""
    table, form = completed_table(run, imputation, data)
    if table is None:
        return []
    path = Path(output or "impute").expanduser()
    cells = str(path.with_name(f"{path.stem}_cells{path.suffix}")) if output else "impute_cells"
    return write_tables(run, {str(path): table, cells: cells_table(run, imputation, rows)}, form)


def uniform_rows(seed: int, shapes: Mapping[str, tuple[int, ...]], rows: slice) -> dict[str, np.ndarray]:
    """Return some rows of arrays of uniform draws, which are drawn one array after the other, without the other rows.

    Example:
        >>> shapes = {"x": (5, 2), "y": (5,)}
        >>> whole, part = (uniform_rows(0, shapes, rows) for rows in (slice(0, 5), slice(2, 4)))
        >>> [bool((whole[name][2:4] == part[name]).all()) for name in shapes]
        [True, True]
        >>> bool((whole["x"] == np.random.default_rng(0).random((5, 2))).all())
        True
    """
    drawn, before = {}, 0
    for name, shape in shapes.items():
        width = int(np.prod(shape[1:]))
        bits = np.random.PCG64(seed)
        bits.advance(before + rows.start * width)
        drawn[name] = np.random.Generator(bits).random((rows.stop - rows.start, *shape[1:]))
        before += shape[0] * width
    return drawn


def _join(portions: list[Content]) -> Content:
    """Join the fields of an imputation, which are arrays or arrays by site; draws have the data in the second axis."""
    joined: Content = {}
    for field, first in portions[0].items():
        values, axis = [portion[field] for portion in portions], int(field == "draws")
        if isinstance(first, Mapping):
            joined[field] = {site: np.concatenate([value[site] for value in values], axis) for site in first}
        else:
            joined[field] = np.concatenate(values, axis)
    return joined


def _draw(
    imputation: uses.Imputation, truth: Mapping[str, np.ndarray], run: OpenRun, arrays: Mapping[str, np.ndarray]
) -> Figure:
    """Draw what was seen, draws of what was missing, their mean and deviation, and the truth if it is known."""
    cells, labels, own = imputation.cells(np.arange(min(ROWS, len(arrays["_row"]))), DRAWS, truth)
    title = "What was seen, and what may be missing"
    return run.draw_sheet(cells, title, arrays, columns=labels, own_scale=[own])


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
