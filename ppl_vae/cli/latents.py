"""The verb ``latents``."""

from __future__ import annotations

from functools import partial

import numpy as np

from ppl_vae import plots, uses
from ppl_vae.cli.opened import OpenRun, Outcome, Selection, name_row

PANELS = 12
"""The most latent dimensions whose posteriors are drawn."""


def latents(
    run: OpenRun,
    selection: Selection = Selection(num_data=2000),
    by: uses.Plane = "pca",
    num_posteriors: int = 4,
) -> Outcome:
    """Draw these places, the posteriors of some data, and the aggregated posterior beside the prior.

    Args:
        run: the run.
        selection: the data.
        by: projection of more than two dimensions to a plane, pca or tsne.
        num_posteriors: number of data whose posteriors are drawn, dimension by dimension.

    Returns:
        Outcome: with ``ppl_vae.uses.Latents``.
    """
    arrays = run.select(selection)
    places = uses.latents(run.vi, arrays, by=by, num_data=num_posteriors)
    y, what = arrays.get("y"), "posterior means" if len(places.prior) else "codes"
    title = f"Latent space: {what} of {len(places.plane)} data"
    space = partial(plots.latent_space, places.plane, y if y is not None and y.ndim == 1 else None, title=title)
    figures = {"latent_space": space(axes=(places.axes[0], places.axes[1])) if len(places.axes) == 2 else space()}
    if len(places.prior):
        order = np.sort(np.argsort(-places.divergence, kind="stable")[:PANELS])  # the most used, in their own order
        figures["latent_posteriors"] = plots.posteriors_beside_prior(
            places.draws[:, :, order],
            places.prior[:, order],
            names=[places.names[dimension] for dimension in order],
            data=[name_row(arrays, index) for index in range(places.draws.shape[1])],
            gaussian=places.gaussian[:, :, order],
            gaussian_prior=places.gaussian_prior[:, order],
        )
        figures["latent_aggregated"] = plots.aggregated_posterior(
            places.aggregated,
            places.prior,
            places.aggregated_divergence,
            errors=places.aggregated_divergence_se,
            gaussian_prior=places.gaussian_prior,
            names=places.names,
        )
    return run.write("latents", places, figures, rows=arrays["_row"], part=selection.part)
