"""The verb ``generate``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.conditions import condition_rows
from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.cli.tables import table_of, write_tables
from ppl_vae.display.lists import split_list
from ppl_vae.errors import InputError

TITLES = {
    "mean": "Draws from the prior: {} of x given z",
    "sample": "Draws from the prior predictive: x given z",
}
GRID, COLUMNS = 64, 10
"""The default number of data, in all and in a row for a value of a condition."""


def generate(run: OpenRun, num_data: int | None = None, what: str = "mean", **conditions: Any) -> Outcome:
    """Take conditions of the program as options too: --y 3 is one value, --y 1,4,7 and --y all draw a row for each.

    Args:
        run: the run.
        num_data: number of data, for each value if a condition has several; by default 64, or 10 for each value.
        what: mean of x given z, sample of x given the same z, or both: mean,sample.
        conditions: conditions by name, in the text of the command line.

    Returns:
        Outcome: with ``ppl_vae.uses.Generated``, the data of one value after those of another.
    """
    kinds = split_list(what)
    for kind in kinds or [""]:
        if kind not in TITLES:
            raise InputError(f"--what {kind!r} is unknown: mean, sample, or mean,sample")
    rows = condition_rows(run.vi, run.data, conditions)
    number = num_data or (COLUMNS if len(rows) > 1 else GRID)
    lengths = {} if "lengths" in conditions else run.new_lengths(number)
    data = [run.select(Selection("train", number))] if run.vi.fitted.has_totals else []
    parts = [uses.generate(run.vi, number, *data, **row, **lengths) for row in rows]
    fields = zip(*parts, strict=True)
    generated = uses.Generated(
        *({name: np.concatenate([part[name] for part in field]) for name in field[0]} for field in fields)
    )
    labels = [", ".join(f"{name} = {value}" for name, value in row.items()) for row in rows]
    free = [name for name in run.vi.conditions if name in run.vi.arguments_ and name not in {*rows[0], *lengths}]
    notes = [f"{name} as in the first data" for name in free]
    notes += ["totals as in training data"] if data else []
    options: dict[str, Any] = {name: np.tile(array, len(rows)) for name, array in lengths.items()}
    if len(rows) > 1:
        options |= {"rows": labels, "note": "; ".join(notes)}
    else:
        options |= {"note": "; ".join(filter(None, [*notes, *labels]))}
    columns = number if len(rows) > 1 else int(np.ceil(np.sqrt(number)))
    sites = {"mean": run.vi.fitted.most_probable(generated.means), "sample": generated.draws}
    titles = {kind: TITLES[kind].format(run.vi.fitted.name_of_means) for kind in kinds}
    figures = {f"generate_{kind}": run.draw_grid(sites[kind], columns, titles[kind], **options) for kind in kinds}
    values = {name: np.repeat([row[name] for row in rows], number) for name in rows[0]}
    first = {name: run.vi.template[name] for name in free}
    used = {name: array[np.arange(number) % len(array)] for name, array in first.items()} | lengths
    values |= {name: np.concatenate([array] * len(rows)) for name, array in used.items()}
    given = {name: run.vi.fitted.naming.code(name, values[name]) for name in rows[0]}
    table = table_of(run, generated.draws | values | given)
    files = write_tables(run, {"generate": table})
    return run.write("generate", generated, figures, files=files, conditions=values)
