"""The verb ``reconstruct``."""

from __future__ import annotations

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import OpenRun, Outcome, Selection, parse_rows


def reconstruct(
    run: OpenRun,
    selection: Selection = Selection(num_data=8),
    rows: str | None = None,
    num_draws: int = 5,
) -> Outcome:
    """Draw them beside the data and the mean.

    Args:
        run: the run.
        selection: the data.
        rows: numbers of rows of the part to take instead, such as 3,17.
        num_draws: number of draws of x for each datum.

    Returns:
        Outcome: with ``ppl_vae.uses.Reconstruction``.
    """
    arrays = run.select(selection, parse_rows(rows, "--rows"))
    reconstruction = uses.reconstruct(run.vi, arrays, num_draws=num_draws)
    mean, draws = run.vi.fitted.most_probable(reconstruction.mean), reconstruction.draws
    sites = {
        name: np.concatenate([data[:, None], mean[name][:, None], draws[name].swapaxes(0, 1)], 1)
        for name, data in reconstruction.data.items()
    }
    figure = run.draw_sheet(
        sites,
        "Data, and what the posterior predicts",
        arrays,
        columns=["datum", run.vi.fitted.name_of_means, *(f"draw {draw + 1}" for draw in range(num_draws))],
    )
    return run.write("reconstruct", reconstruction, {"reconstruct": figure}, rows=arrays["_row"], part=selection.part)
