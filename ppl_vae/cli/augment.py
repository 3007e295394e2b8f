"""The verb ``augment``."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.cli.tables import table_of, write_tables

ROWS, COLUMNS = 6, 8
"""The most data in the figure, and the most new data beside each."""


def augment(
    run: OpenRun,
    selection: Selection = Selection("train"),
    copies: int = 4,
    what: Literal["sample", "mean"] = "sample",
) -> Outcome:
    """Write them to a file that ``fit --data`` reads.

    Args:
        run: the run.
        selection: the given data.
        copies: number of new data for each given one.
        what: sample draws from x given z; mean takes the mean of x given z.

    Returns:
        Outcome: with ``ppl_vae.uses.Augmented``.
    """
    arrays = run.select(selection)
    augmented = uses.augment(run.vi, arrays, copies=copies, what=what)
    rows, columns, name = min(ROWS, len(arrays["_row"])), min(copies, COLUMNS), run.vi.arguments_[0]
    given, new = arrays[name][:rows], augmented.arrays[name][: rows * copies]
    cells = np.concatenate([given[:, None], new.reshape(rows, copies, *given.shape[1:])[:, :columns]], 1)
    figure = run.draw_sheet(
        {name: cells},
        "Data, and new ones drawn from their posteriors",
        arrays,
        columns=["datum", *(f"new {copy + 1}" for copy in range(columns))],
    )
    fields: dict[str, Any] = {name: array for name, array in augmented.arrays.items() if name != "_row"}
    fields |= {"row": arrays["_row"][augmented.rows], "arrays": None, "rows": None}
    lines = [f"{len(augmented.rows)} new data near {len(arrays['_row'])}"]
    table = table_of(run, {name: array for name, array in augmented.arrays.items() if name != "_row"})
    if table is not None:
        table.insert(0, "row", arrays["_row"][augmented.rows])
    files = write_tables(run, {"augment": table})
    return run.write("augment", augmented, {"augment": figure}, lines, files, **fields)
