"""The verb ``traverse``."""

from __future__ import annotations

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import OpenRun, Outcome, Selection, name_row
from ppl_vae.data import Part
from ppl_vae.plots import number

DATA = 500
"""Number of data over which a dimension's KL from the prior is averaged."""


def traverse(
    run: OpenRun,
    part: Part = "test",
    row: int | None = None,
    num_dimensions: int = 8,
    num_steps: int = 9,
    width: float = 2.5,
) -> Outcome:
    """Draw a row for each dimension, around one datum.

    Args:
        run: the run.
        part: part of the run's data.
        row: number of the datum's row; by default one drawn at random with the run's seed.
        num_dimensions: number of dimensions, those with the largest KL from the prior.
        num_steps: number of points of each.
        width: distance that a dimension moves to either side, in standard deviations of the prior.

    Returns:
        Outcome: with ``ppl_vae.uses.Traversal``.
    """
    datum, others = run.select(Selection(part, 1), [] if row is None else [row]), run.select(Selection(part, DATA))
    arrays = {name: np.concatenate([array, others[name]]) for name, array in datum.items()}
    traversal = uses.traverse(run.vi, arrays, num_dimensions=num_dimensions, num_steps=num_steps, width=width)
    divergences = list(zip(traversal.names, traversal.divergence.tolist(), strict=True))
    is_code = bool(np.isnan(traversal.divergence).all())  # a code has no prior
    numbered = traversal.discrete.any()
    columns = range(1, 1 + traversal.values.shape[1]) if numbered else np.linspace(-width, width, num_steps).tolist()
    figure = run.draw_sheet(
        {name: mean[:, :, 0] for name, mean in run.vi.fitted.most_probable(traversal.means).items()},
        f"One latent dimension at a time, around {name_row(datum, 0)}: {run.vi.fitted.name_of_means} of x given z",
        datum,
        rows=[name if np.isnan(kl) else f"{name}: {number(kl, '.2f')} nats" for name, kl in divergences],
        columns=columns,
        row_title="dimension" if is_code else "dimension, KL",
        column_title="value no." if numbered else f"sd of the {'codes' if is_code else 'prior'}",
    )
    lines = [f"KL from the prior, nats per datum, over {len(others['_row'])} data:"]
    lines += [f"  {name:<12} {kl:.3f}" for name, kl in divergences]
    return run.write(
        "traverse", traversal, {"traverse": figure}, [] if is_code else lines, row=datum["_row"], part=part
    )
