"""The verb ``outliers``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.jobs import ChosenRows, Content, Job, choose_rows, do
from ppl_vae.cli.opened import OpenRun, Outcome, Selection, name_row
from ppl_vae.cli.tables import table_of, write_tables
from ppl_vae.estimator import VariationalInference
from ppl_vae.evaluation.estimators import Settings
from ppl_vae.evaluation.portions import rows_of_block
from ppl_vae.imports import by_need
from ppl_vae.plots import number as write_number

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = by_need("pandas")

LISTED = 8
"""Number of data that are listed and drawn."""


def outliers(
    run: OpenRun, selection: Selection = Selection(), num_samples: int = 1000, shard: str | None = None
) -> Outcome:
    """List the least likely ones, and draw them beside their reconstructions.

    Args:
        run: the run.
        selection: the data.
        num_samples: number of draws per datum in importance sampling, unless the evidence is known exactly.
        shard: share of the data to process, such as 3/16. The verb merge joins the shares. The default is all data.

    Returns:
        Outcome: with ``ppl_vae.uses.Outliers``.
    """
    return do(prepare(run, selection, num_samples), shard)


def prepare(run: OpenRun, selection: Selection = Selection(), num_samples: int = 1000) -> Job:
    """Return the job of ``outliers``, which has its options but the shard."""
    rows = choose_rows(run, selection)

    def compute(vi: VariationalInference, arrays: dict[str, np.ndarray]) -> Content:
        return uses.outliers(vi, arrays, num_samples=num_samples)._asdict()

    def finish(portions: Iterator[Content]) -> Outcome:
        parts = list(portions)
        columns = {name: np.concatenate([p[name] for p in parts]) for name in ("log_evidence", "mcse", "doubtful")}
        order = np.argsort(columns["log_evidence"], kind="stable")
        return _write(run, rows, selection, uses.Outliers(order, **columns, estimator=parts[0]["estimator"]))

    estimator = uses.estimator_of_outliers(run.vi)
    block_rows = rows_of_block(run.vi.fitted, (estimator,), Settings(num_samples=num_samples))
    options = {**asdict(selection), "num_samples": num_samples}
    return Job("outliers", run, rows, options, compute, finish, block_rows)


def _write(run: OpenRun, rows: ChosenRows, selection: Selection, outliers: uses.Outliers) -> Outcome:
    """Draw and list the least likely data, and write the numbers of all."""
    worst = outliers.order[:LISTED]
    least = rows.read(worst)
    reconstruction = uses.reconstruct(run.vi, least, num_draws=1)
    means = run.vi.fitted.most_probable(reconstruction.mean)
    evidence = [write_number(outliers.log_evidence[row], ".1f") for row in worst]
    figure = run.draw_sheet(
        {name: np.stack([data, means[name]], 1) for name, data in reconstruction.data.items()},
        f"The {len(worst)} least likely of {len(outliers.order)} data, and their log evidence",
        least,
        rows=[f"{name_row(least, i)}\n{nats}\N{NO-BREAK SPACE}nats" for i, nats in enumerate(evidence)],
        columns=["datum", run.vi.fitted.name_of_means],
    )
    lines = [f"{selection.part}, {len(outliers.order)} data by {outliers.estimator}, the least likely first"]
    lines += ["   row  log evidence, nats  Monte Carlo error  doubtful"]
    lines += [
        f"{number:>6}  {outliers.log_evidence[row]:>18.2f}  {outliers.mcse[row]:>17.3f}  "
        f"{'yes' if outliers.doubtful[row] else 'no':>8}"
        for row, number in zip(worst, least["_row"], strict=True)
    ]
    if not run.vi.generates:
        lines += [f"{run.vi.program_.name} computes with the data that it observes: these numbers are no evidence"]
    files = write_tables(run, {"outliers": _table(run, rows, outliers)})
    numbers = rows.all_numbers
    return run.write("outliers", outliers, {"outliers": figure}, lines, files, rows=numbers, part=selection.part)


def _table(run: OpenRun, rows: ChosenRows, outliers: uses.Outliers) -> pd.DataFrame | None:
    """Return a row for each datum, the least likely first; None if the data are no table."""
    if run.data.form is None:
        return None
    arrays, order = rows.read(outliers.order), outliers.order
    numbers = {"row": arrays.pop("_row"), "log_evidence": outliers.log_evidence[order], "mcse": outliers.mcse[order]}
    table = table_of(run, arrays)
    return pd.concat([pd.DataFrame({**numbers, "doubtful": outliers.doubtful[order]}), table], axis=1)
