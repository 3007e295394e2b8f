"""``python -m ppl_vae.augment``: new labelled data near given ones."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import Done, Opened, named_row, use_command
from ppl_vae.data import Part

SHOWN, COLUMNS = 6, 8


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(augment, args)


def augment(
    it: Opened,
    part: Part = "train",
    num_data: int | None = None,
    copies: int = 4,
    what: Literal["sample", "mean"] = "sample",
) -> Done:
    """Draw new data from the posteriors of given ones, with their labels, into a file that ``fit --data`` reads.

    Args:
        it: the run.
        part: the part of the run's data.
        num_data: so many of them, drawn at random with the run's seed; all by default.
        copies: new data for each.
        what: sample of x given z, or the mean of x given z.

    Returns:
        Done: ``ppl_vae.uses.Augmented``.
    """
    arrays = it.arrays(part, num_data)
    found = uses.augment(it.vi, arrays, copies=copies, what=what)
    few, columns, name = min(SHOWN, len(arrays["_row"])), min(copies, COLUMNS), it.vi.arguments_[0]
    given, new = arrays[name][:few], found.arrays[name][: few * copies]
    cells = np.concatenate([given[:, None], new.reshape(few, copies, *given.shape[1:])[:, :columns]], 1)
    figure = it.figure(
        {name: cells},
        "Data, and new ones drawn from their posteriors",
        lengths=it.lengths({key: array[:few] for key, array in arrays.items()}, (few, 1 + columns)),
        rows=[named_row(arrays, index) for index in range(few)],
        columns=["datum", *(f"new {copy + 1}" for copy in range(columns))],
    )
    kept = {key: array for key, array in found.arrays.items() if key != "_row"}
    lines = [f"{len(found.rows)} new data near {len(arrays['_row'])}"]
    return Done(found, lines, it.write("augment", {**kept, "row": arrays["_row"][found.rows]}, {"augment": figure}))


if __name__ == "__main__":
    sys.exit(main())
