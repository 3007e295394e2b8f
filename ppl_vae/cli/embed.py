"""``python -m ppl_vae.embed``: posterior means and standard deviations to a file."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import Done, Opened, use_command
from ppl_vae.data import PARTS
from ppl_vae.errors import InputError, nearest
from ppl_vae.runs import write_table


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(embed, args)


def embed(
    it: Opened,
    part: str = "test",
    output: str | None = None,
) -> Done:
    """Write posterior mean and standard deviation of each latent dimension, a row for each datum.

    Args:
        it: the run.
        part: the part of the run's data, or all for every part, one behind the other.
        output: a file .npz or .csv; by default uses/embed.npz in the run folder.

    Returns:
        Done: ``ppl_vae.uses.Embedding``.
    """
    if part not in (*PARTS, "all"):
        raise InputError(f"--part {part!r} is unknown; {nearest(part, (*PARTS, 'all'))}")
    path = it.run.path / "uses" / "embed.npz" if output is None else Path(output).expanduser()
    if path.suffix not in (".npz", ".csv"):
        raise InputError(f"--output {path}: expected a file .npz or .csv")
    parts = [it.data.part(name) for name in (PARTS if part == "all" else (part,))]
    arrays = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
    found = uses.embed(it.vi, arrays)
    label = {"y": arrays["y"]} if "y" in arrays and arrays["y"].ndim == 1 else {}
    write_table(path, found.names, {"mean": found.mean, "sd": found.sd}, label)
    more = ", ..." if len(found.names) > 8 else ""
    lines = [f"{len(found.mean)} data; mean and sd of {', '.join(found.names[:8])}{more}"]
    return Done(found, lines, [path])


if __name__ == "__main__":
    sys.exit(main())
