"""``python -m ppl_vae.interpolate``: from one datum to another through the latent space."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence

from ppl_vae import uses
from ppl_vae.cli.opened import Done, Opened, flattened, named_row, use_command, whole_numbers
from ppl_vae.data import Part
from ppl_vae.errors import InputError


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(interpolate, args)


def interpolate(
    it: Opened,
    part: Part = "test",
    num_pairs: int = 6,
    start: str | None = None,
    end: str | None = None,
    num_steps: int = 9,
    path: uses.PathName = "line",
) -> Done:
    """Show the means of x along paths through the latent space, between pairs of data.

    Args:
        it: the run.
        part: the part of the run's data.
        num_pairs: so many pairs of data, drawn at random with the run's seed.
        start: rows of the part to start from instead, such as 3,17.
        end: rows to end at, as many.
        num_steps: points of a path, ends included.
        path: line, or circle for the great circle.

    Returns:
        Done: ``ppl_vae.uses.Interpolation``.
    """
    first, last = whole_numbers(start, "--start"), whole_numbers(end, "--end")
    if len(first) != len(last):
        raise InputError(f"--start names {len(first)} rows and --end {len(last)}: give as many to both")
    chosen = it.arrays(part, 2 * num_pairs, [*first, *last])
    half = len(chosen["_row"]) // 2
    if not half:
        raise InputError(f"the {part} part has one datum: a path needs two")
    sides = [{name: array[rows] for name, array in chosen.items()} for rows in (slice(half), slice(half, 2 * half))]
    found = uses.interpolate(it.vi, *sides, num_steps=num_steps, path=path)
    how = "line" if path == "line" else "great circle"
    figure = it.figure(
        {name: mean.swapaxes(0, 1) for name, mean in found.means.items()},
        f"From one datum to another along the {how}: mean of x given z",
        lengths=it.lengths(sides[0], (half, num_steps)),
        rows=[f"{named_row(sides[0], i)} to {named_row(sides[1], i)}" for i in range(half)],
        columns=found.weights.tolist(),
        column_title="share of the way",
    )
    fields = {**found._asdict(), "start": sides[0]["_row"], "end": sides[1]["_row"]}
    return Done(found, [], it.write("interpolate", flattened(**fields), {"interpolate": figure}))


if __name__ == "__main__":
    sys.exit(main())
