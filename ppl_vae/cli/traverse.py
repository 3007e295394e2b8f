"""``python -m ppl_vae.traverse``: one latent dimension at a time."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import Done, Opened, flattened, named_row, use_command
from ppl_vae.data import Part

DATA = 500
"""Over which a dimension's KL from the prior is averaged."""


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(traverse, args)


def traverse(
    it: Opened,
    part: Part = "test",
    row: int | None = None,
    num_dimensions: int = 8,
    num_steps: int = 9,
    width: float = 2.5,
) -> Done:
    """Show the means of x where one latent dimension moves and the others stay at a datum's posterior mean.

    Args:
        it: the run.
        part: the part of the run's data.
        row: of the datum; by default one drawn at random with the run's seed.
        num_dimensions: those with the largest KL from the prior.
        num_steps: points of each.
        width: how far a dimension moves, in standard deviations of the prior.

    Returns:
        Done: ``ppl_vae.uses.Traversal``.
    """
    one, others = it.arrays(part, 1, [] if row is None else [row]), it.arrays(part, DATA)
    together = {name: np.concatenate([array, others[name]]) for name, array in one.items()}
    found = uses.traverse(it.vi, together, num_dimensions=num_dimensions, num_steps=num_steps, width=width)
    lengths = it.lengths(one, (1, 1))
    pairs = list(zip(found.names, found.divergence.tolist(), strict=True))
    coded = bool(np.isnan(found.divergence).all())  # a code has no prior
    numbered = found.discrete.any()
    columns = range(1, 1 + found.values.shape[1]) if numbered else np.linspace(-width, width, num_steps).tolist()
    figure = it.figure(
        {name: mean[:, :, 0] for name, mean in found.means.items()},
        f"One latent dimension at a time, around {named_row(one, 0)}: mean of x given z",
        lengths=None if lengths is None else np.full(found.values.shape, lengths[0, 0]),
        rows=[name if np.isnan(kl) else f"{name}: {kl:.2g} nats" for name, kl in pairs],
        columns=columns,
        row_title="dimension" if coded else "dimension, KL",
        column_title="value no." if numbered else f"sd of the {'codes' if coded else 'prior'}",
    )
    lines = [f"KL from the prior, nats per datum, over {len(others['_row'])} data:"]
    lines += [f"  {name:<12} {kl:.3f}" for name, kl in pairs]
    lines = [] if coded else lines
    fields = {**found._asdict(), "names": np.array(found.names), "row": one["_row"]}
    return Done(found, lines, it.write("traverse", flattened(**fields), {"traverse": figure}))


if __name__ == "__main__":
    sys.exit(main())
