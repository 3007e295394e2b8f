"""The verb ``outliers``."""

from __future__ import annotations

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import OpenRun, Outcome, Selection, name_row
from ppl_vae.plots import number

LISTED = 8
"""Number of data that are listed and drawn."""


def outliers(run: OpenRun, selection: Selection = Selection(), num_samples: int = 1000) -> Outcome:
    """List the least likely ones, and draw them beside their reconstructions.

    Args:
        run: the run.
        selection: the data.
        num_samples: number of draws per datum in importance sampling, unless the evidence is known exactly.

    Returns:
        Outcome: with ``ppl_vae.uses.Outliers``.
    """
    arrays = run.select(selection)
    outliers = uses.outliers(run.vi, arrays, num_samples=num_samples)
    worst = outliers.order[:LISTED]
    least = {name: array[worst] for name, array in arrays.items()}
    reconstruction = uses.reconstruct(run.vi, least, num_draws=1)
    means = run.vi.fitted.most_probable(reconstruction.mean)
    evidence = [number(outliers.log_evidence[row], ".1f") for row in worst]
    figure = run.draw_sheet(
        {name: np.stack([data, means[name]], 1) for name, data in reconstruction.data.items()},
        f"The {len(worst)} least likely of {len(outliers.order)} data, and their log evidence",
        least,
        rows=[f"{name_row(least, i)}\n{nats} nats" for i, nats in enumerate(evidence)],
        columns=["datum", run.vi.fitted.name_of_means],
    )
    lines = [f"{selection.part}, {len(outliers.order)} data by {outliers.estimator}, the least likely first"]
    lines += ["   row  log evidence, nats  Monte Carlo error  doubtful"]
    lines += [
        f"{arrays['_row'][row]:>6}  {outliers.log_evidence[row]:>18.2f}  {outliers.mcse[row]:>17.3f}  "
        f"{'yes' if outliers.doubtful[row] else 'no':>8}"
        for row in worst
    ]
    if not run.vi.generates:
        lines += [f"{run.vi.program_.name} computes with the data that it observes: these numbers are no evidence"]
    return run.write("outliers", outliers, {"outliers": figure}, lines, rows=arrays["_row"], part=selection.part)
