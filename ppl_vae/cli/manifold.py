"""The verb ``manifold``."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.conditions import condition_rows
from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.errors import InputError
from ppl_vae.plots import number

DATA = 500
"""Number of data that decide which dimensions have the largest KL from the prior."""
PICTURES, NUMBERS = 20, 5
"""The default number of points in each direction, of images or sequences and of other data."""


def manifold(run: OpenRun, num_steps: int | None = None, dimensions: str | None = None, **conditions: Any) -> Outcome:
    """Take conditions of the program as options too, such as --y 3.

    Args:
        run: the run.
        num_steps: number of points in each direction; by default 20, or 5 if data are neither images nor sequences.
        dimensions: two latent dimensions, such as z[0],z[3]; by default the two with the largest KL from the prior.
        conditions: conditions by name, in the text of the command line.

    Returns:
        Outcome: with ``ppl_vae.uses.Manifold``.
    """
    rows = condition_rows(run.vi, run.data, conditions)
    if len(rows) > 1:
        raise InputError("a manifold is drawn under one condition: give one value, such as --y 3")
    lengths = {} if "lengths" in conditions else run.new_lengths(1)
    names = None if dimensions is None else re.findall(r"[^,\[\]]+(?:\[[^\]]*\])?", dimensions.replace(" ", ""))
    steps = num_steps or (PICTURES if run.has_pictures else NUMBERS)
    arrays = run.select(Selection(num_data=DATA))
    grid = uses.manifold(run.vi, arrays, num_steps=steps, dimensions=names, **rows[0], **lengths)
    (across, down), (values, values_down) = grid.names, grid.values
    notes = [f"{name} = {value}" for name, value in rows[0].items()]
    notes += ["latents in unconstrained space"] if grid.unconstrained else []
    figure = run.draw_sheet(
        run.vi.fitted.most_probable(grid.means),
        f"The latent {'plane' if down else 'line'}: {run.vi.fitted.name_of_means} of x given z",
        lengths,
        rows=[number(value, ".2g") for value in values_down] if down else [""],
        columns=[number(value, ".2g") for value in values],
        row_title=down,
        column_title=across,
        note="; ".join(notes),
    )
    free = [name for name in run.vi.conditions if name in run.vi.arguments_ and name not in {*rows[0], *lengths}]
    conditions = (
        {name: run.vi.template[name][0] for name in free} | {n: array[0] for n, array in lengths.items()} | rows[0]
    )
    fields: dict[str, Any] = {"conditions": {name: np.asarray(value) for name, value in conditions.items()}}
    fields |= {"across": values, "down": values_down, "values": None, "unconstrained": None}
    return run.write("manifold", grid, {"manifold": figure}, **fields)
