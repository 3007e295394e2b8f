"""``python -m ppl_vae.embed``: posterior means and standard deviations to a file."""

from __future__ import annotations

import ppl_vae.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppl_vae import uses
from ppl_vae.data import PARTS
from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator import Accelerator, Compile
from ppl_vae.runs import write_table
from ppl_vae.using import Done, opened, use_command


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return use_command(embed, args)


def embed(
    folder: str,
    part: str = "test",
    output: str | None = None,
    accelerator: Accelerator | None = None,
    compile: Compile | None = None,
) -> Done:
    """Write posterior mean and standard deviation of each latent dimension, a row for each datum.

    Args:
        folder: what ``fit`` wrote.
        part: the part of the run's data, or all for every part, one behind the other.
        output: a file .npz or .csv; by default uses/embed.npz in the run folder.
        accelerator: auto takes a GPU if there is one; as in the fit by default.
        compile: auto runs what is called often as compiled graphs; on, off; as in the fit by default.

    Returns:
        Done: ``ppl_vae.uses.Embedding``.
    """
    if part not in (*PARTS, "all"):
        raise InputError(f"--part {part!r} is unknown; {nearest(part, (*PARTS, 'all'))}")
    it = opened(folder, "png", accelerator, compile)
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
