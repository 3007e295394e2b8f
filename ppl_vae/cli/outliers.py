"""``python -m ppl_vae.outliers``: data in the order of their log evidence."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import Done, Opened, flattened, named_row, use_command
from ppl_vae.data import Part
from ppl_vae.plots import number

SHOWN = 8


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(outliers, args)


def outliers(
    it: Opened,
    part: Part = "test",
    num_data: int | None = None,
    num_samples: int = 1000,
) -> Done:
    """List data in the order of their log evidence, and show the least likely beside what the program makes of them.

    Args:
        it: the run.
        part: the part of the run's data.
        num_data: so many data, drawn at random with the run's seed; all by default.
        num_samples: draws per datum of importance sampling, where the evidence is not known exactly.

    Returns:
        Done: ``ppl_vae.uses.Outliers``.
    """
    arrays = it.arrays(part, num_data)
    found = uses.outliers(it.vi, arrays, num_samples=num_samples)
    worst = found.order[:SHOWN]
    least = {name: array[worst] for name, array in arrays.items()}
    made = uses.reconstruct(it.vi, least, num_draws=1)
    figure = it.figure(
        {name: np.stack([data, made.mean[name]], 1) for name, data in made.data.items()},
        f"The {len(worst)} least likely of {len(found.order)} data, and their log evidence",
        lengths=it.lengths(least, (len(worst), 2)),
        rows=[f"{named_row(least, i)}\n{number(found.log_evidence[row], '.1f')} nats" for i, row in enumerate(worst)],
        columns=["datum", "reconstruction"],
    )
    lines = [f"{part}, {len(found.order)} data by {found.estimator}, the least likely first"]
    lines += ["   row  log evidence, nats  Monte Carlo error  doubtful"]
    lines += [
        f"{arrays['_row'][row]:>6}  {found.log_evidence[row]:>18.2f}  {found.mcse[row]:>17.3f}  "
        f"{'yes' if found.doubtful[row] else 'no':>8}"
        for row in worst
    ]
    if not it.vi.generates:
        lines += [f"{it.vi.program_.name} computes with the data that it observes: these numbers are no evidence"]
    fields = {**found._asdict(), "rows": arrays["_row"], "estimator": np.array(found.estimator)}
    return Done(found, lines, it.write("outliers", flattened(**fields), {"outliers": figure}))


if __name__ == "__main__":
    sys.exit(main())
