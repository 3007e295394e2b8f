"""``python -m ppl_vae.generate``: draw new data from a fitted program."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.conditions import condition_rows
from ppl_vae.cli.opened import Done, Opened, flattened, use_command
from ppl_vae.errors import InputError

TITLES = {
    "mean": "Draws from the prior: mean of x given z",
    "sample": "Draws from the prior predictive: x given z",
}
GRID, COLUMNS = 64, 10


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(generate, args, conditions=True)


def generate(
    it: Opened,
    num_data: int | None = None,
    what: str = "mean",
    **conditions: Any,
) -> Done:
    """Draw new data from the prior predictive of a run; conditions are options, --y 3, or --y all for a row a label.

    Args:
        it: the run.
        num_data: how many, of each row where a condition has several values; by default 64, or 10 a row.
        what: mean of x given z, sample of x given the same z, or both: mean,sample.
        conditions: arguments of the model that are no data, or latents, by name: a number, several (1,4,7), or all.

    Returns:
        Done: ``ppl_vae.uses.Generated`` of all rows, one behind the other.
    """
    kinds = [kind.strip() for kind in what.split(",") if kind.strip()]
    for kind in kinds or [""]:
        if kind not in TITLES:
            raise InputError(f"--what {kind!r} is unknown: mean, sample, or mean,sample")
    rows = condition_rows(it.vi, it.data, conditions)
    number = num_data or (COLUMNS if len(rows) > 1 else GRID)
    asked = {} if "lengths" in conditions else it.some_lengths(number)
    drawn = [uses.generate(it.vi, number, **row, **asked) for row in rows]
    columns = number if len(rows) > 1 else int(np.ceil(np.sqrt(number)))
    labels = [", ".join(f"{name} = {value}" for name, value in row.items()) for row in rows]
    others = [name for name in it.vi.conditions if name in it.vi.arguments_ and name not in {*rows[0], *asked}]
    notes = [f"{name} as in the first data" for name in others]
    options: dict[str, Any] = {"note": "; ".join([*notes, *(labels[:1] if len(rows) == 1 and labels[0] else [])])}
    if len(rows) > 1:
        options["rows"] = labels
    lengths = np.tile(asked["lengths"], len(rows)) if asked else None
    figures = {}
    for kind in kinds:
        found = [each.means if kind == "mean" else each.draws for each in drawn]
        sites = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        figures[f"generate_{kind}"] = it.grid(sites, columns, TITLES[kind], lengths=lengths, **options)
    fields = zip(*drawn, strict=True)
    result = uses.Generated(
        *({name: np.concatenate([each[name] for each in field]) for name in field[0]} for field in fields)
    )
    given = {name: np.repeat([row[name] for row in rows], number) for name in rows[0]}
    return Done(result, [], it.write("generate", flattened(**result._asdict(), conditions=given), figures))


if __name__ == "__main__":
    sys.exit(main())
