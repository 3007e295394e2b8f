"""``python -m ppl_vae.reconstruct``: data beside what the program makes of them."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import Done, Opened, flattened, named_row, use_command, whole_numbers
from ppl_vae.data import Part


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(reconstruct, args)


def reconstruct(
    it: Opened,
    part: Part = "test",
    num_data: int = 8,
    rows: str | None = None,
    num_draws: int = 5,
) -> Done:
    """Show data, the means of their posterior predictive and draws from it, side by side.

    Args:
        it: the run.
        part: the part of the run's data.
        num_data: so many data, drawn at random with the run's seed.
        rows: these rows of the part instead, such as 3,17.
        num_draws: draws of x from its posterior predictive, for each datum.

    Returns:
        Done: ``ppl_vae.uses.Reconstruction``.
    """
    arrays = it.arrays(part, num_data, whole_numbers(rows, "--rows"))
    found = uses.reconstruct(it.vi, arrays, num_draws=num_draws)
    sites = {
        name: np.concatenate([data[:, None], found.mean[name][:, None], found.draws[name].swapaxes(0, 1)], 1)
        for name, data in found.data.items()
    }
    shape = (len(arrays["_row"]), 2 + num_draws)
    figure = it.figure(
        sites,
        "Data, and what the posterior predicts",
        lengths=it.lengths(arrays, shape),
        rows=[named_row(arrays, index) for index in range(shape[0])],
        columns=["datum", "mean", *(f"draw {draw + 1}" for draw in range(num_draws))],
    )
    fields = {**found._asdict(), "rows": arrays["_row"]}
    return Done(found, [], it.write("reconstruct", flattened(**fields), {"reconstruct": figure}))


if __name__ == "__main__":
    sys.exit(main())
