"""The verb ``interpolate``."""

from __future__ import annotations

from ppl_vae import uses
from ppl_vae.cli.opened import OpenRun, Outcome, Selection, name_row, parse_rows
from ppl_vae.data import Part
from ppl_vae.errors import InputError


def interpolate(
    run: OpenRun,
    part: Part = "test",
    num_pairs: int = 6,
    start: str | None = None,
    end: str | None = None,
    num_steps: int = 9,
    path: uses.PathName = "line",
) -> Outcome:
    """Draw a row for each pair.

    Args:
        run: the run.
        part: part of the run's data.
        num_pairs: number of pairs of data, drawn at random with the run's seed.
        start: numbers of rows to start from instead, such as 3,17.
        end: numbers of rows to end at, as many as there are in start.
        num_steps: number of points of a path, with its ends.
        path: line, or circle for the great circle.

    Returns:
        Outcome: with ``ppl_vae.uses.Interpolation``.
    """
    first, last = parse_rows(start, "--start"), parse_rows(end, "--end")
    if len(first) != len(last):
        raise InputError(f"--start names {len(first)} rows and --end {len(last)}: give as many to both")
    arrays = run.select(Selection(part, 2 * num_pairs), [*first, *last])
    half = len(arrays["_row"]) // 2
    if not half:
        raise InputError(f"the {part} part has one datum: a path needs two")
    sides = [{name: array[rows] for name, array in arrays.items()} for rows in (slice(half), slice(half, 2 * half))]
    interpolation = uses.interpolate(run.vi, *sides, num_steps=num_steps, path=path)
    way = "line" if path == "line" else "great circle"
    figure = run.draw_sheet(
        {name: mean.swapaxes(0, 1) for name, mean in run.vi.fitted.most_probable(interpolation.means).items()},
        f"From one datum to another along the {way}: {run.vi.fitted.name_of_means} of x given z",
        sides[0],
        rows=[f"{name_row(sides[0], i)} to {name_row(sides[1], i)}" for i in range(half)],
        columns=interpolation.weights.tolist(),
        column_title="share of the way",
    )
    first_rows, last_rows = (side["_row"] for side in sides)
    return run.write("interpolate", interpolation, {"interpolate": figure}, start=first_rows, end=last_rows, part=part)
