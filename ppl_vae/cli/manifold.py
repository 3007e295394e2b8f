"""``python -m ppl_vae.manifold``: the data that a plane of the latent space decodes to."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.conditions import condition_rows
from ppl_vae.cli.opened import Done, Opened, flattened, use_command
from ppl_vae.errors import InputError
from ppl_vae.plots import number

DATA = 500
"""From which the dimensions that carry most are told."""
PICTURES, NUMBERS = 20, 5
"""Points in each direction."""


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(manifold, args, conditions=True)


def manifold(
    it: Opened,
    num_steps: int | None = None,
    dimensions: str | None = None,
    **conditions: Any,
) -> Done:
    """Show the means of x over a grid of two latent dimensions, through the inverse of the normal cdf.

    Args:
        it: the run.
        num_steps: points in each direction; by default 20, or 5 where data are no pictures.
        dimensions: two latent dimensions, such as z[0],z[3]; by default the two with the largest KL from the prior.
        conditions: arguments of the model that are no data, by name, such as --y 3.

    Returns:
        Done: ``ppl_vae.uses.Manifold``.
    """
    rows = condition_rows(it.vi, it.data, conditions)
    if len(rows) > 1:
        raise InputError("a manifold is drawn under one condition: give one value, such as --y 3")
    asked = {} if "lengths" in conditions else it.some_lengths(1)
    chosen = None if dimensions is None else re.findall(r"[^,\[\]]+(?:\[[^\]]*\])?", dimensions.replace(" ", ""))
    steps = num_steps or (PICTURES if it.pictures else NUMBERS)
    found = uses.manifold(it.vi, it.arrays("test", DATA), num_steps=steps, dimensions=chosen, **rows[0], **asked)
    (across, down), (values, values_down) = found.names, found.values
    shape = next(iter(found.means.values())).shape[:2]
    notes = [f"{name} = {value}" for name, value in rows[0].items()]
    notes += ["latents in unconstrained space"] if found.unconstrained else []
    figure = it.figure(
        found.means,
        "The latent plane: mean of x given z" if down else "The latent line: mean of x given z",
        lengths=np.full(shape, asked["lengths"][0]) if asked else None,
        rows=[number(value, ".2g") for value in values_down] if down else [""],
        columns=[number(value, ".2g") for value in values],
        row_title=down,
        column_title=across,
        note="; ".join(notes),
    )
    fields = {"across": values, "down": values_down, "means": found.means, "names": np.array(found.names)}
    return Done(found, [], it.write("manifold", flattened(**fields), {"manifold": figure}))


if __name__ == "__main__":
    sys.exit(main())
