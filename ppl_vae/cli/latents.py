"""``python -m ppl_vae.latents``: where data are in the latent space."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import Done, Opened, flattened, named_row, use_command
from ppl_vae.data import Part
from ppl_vae.plots import aggregated_posterior, latent_space, posteriors_beside_prior

PANELS = 12


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(latents, args)


def latents(
    it: Opened,
    part: Part = "test",
    num_data: int = 2000,
    by: uses.Plane = "pca",
    num_posteriors: int = 4,
) -> Done:
    """Show data in the latent space, the posteriors of a few, and the aggregated posterior beside the prior.

    Args:
        it: the run.
        part: the part of the run's data.
        num_data: so many data, drawn at random with the run's seed.
        by: pca or tsne, of more than two dimensions.
        num_posteriors: data whose posteriors are drawn, dimension by dimension.

    Returns:
        Done: ``ppl_vae.uses.Latents``.
    """
    arrays = it.arrays(part, num_data)
    found = uses.latents(it.vi, arrays, by=by, num_data=num_posteriors)
    y, what = arrays.get("y"), "posterior means" if len(found.prior) else "codes"
    title = f"Latent space: {what} of {len(found.plane)} data"
    space = partial(latent_space, found.plane, y if y is not None and y.ndim == 1 else None, title=title)
    figures = {"latent_space": space(axes=(found.axes[0], found.axes[1])) if len(found.axes) == 2 else space()}
    if len(found.prior):
        order = np.sort(np.argsort(-found.divergence, kind="stable")[:PANELS])  # those that tell most, as they come
        figures["latent_posteriors"] = posteriors_beside_prior(
            found.draws[:, :, order],
            found.prior[:, order],
            names=[found.names[dimension] for dimension in order],
            data=[named_row(arrays, index) for index in range(found.draws.shape[1])],
        )
        figures["latent_aggregated"] = aggregated_posterior(
            found.aggregated, found.prior, found.aggregated_divergence, names=found.names
        )
    fields = {**found._asdict(), "axes": np.array(found.axes), "names": np.array(found.names), "rows": arrays["_row"]}
    return Done(found, [], it.write("latents", flattened(**fields), figures))


if __name__ == "__main__":
    sys.exit(main())
