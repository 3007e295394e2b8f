"""The verb ``embed``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.opened import OpenRun, Outcome
from ppl_vae.data import PARTS
from ppl_vae.errors import InputError, nearest
from ppl_vae.runs import write_table

NAMES = 8
"""The most latent dimensions that are named in the output."""


def embed(run: OpenRun, part: str = "test", output: str | None = None) -> Outcome:
    """Write them to a file, with a row for each datum.

    Args:
        run: the run.
        part: part of the run's data, or all for the parts train, valid and test in this order.
        output: file .npz or .csv; by default uses/embed.npz in the run folder.

    Returns:
        Outcome: with ``ppl_vae.uses.Embedding``.
    """
    if part not in (*PARTS, "all"):
        raise InputError(f"--part {part!r} is unknown; {nearest(part, (*PARTS, 'all'))}")
    path = run.run.path / "uses" / "embed.npz" if output is None else Path(output).expanduser()
    if path.suffix not in (".npz", ".csv"):
        raise InputError(f"--output {path}: expected a file .npz or .csv")
    parts = [run.data.part(name) for name in (PARTS if part == "all" else (part,))]
    arrays = {name: np.concatenate([arrays[name] for arrays in parts]) for name in parts[0]}
    embedding = uses.embed(run.vi, arrays)
    label = {"y": arrays["y"]} if "y" in arrays and arrays["y"].ndim == 1 else {}
    write_table(path, embedding.names, {"mean": embedding.mean, "sd": embedding.sd}, label)
    more = ", ..." if len(embedding.names) > NAMES else ""
    line = f"{len(embedding.mean)} data; mean and sd of {', '.join(embedding.names[:NAMES])}{more}"
    return Outcome(embedding, [line], [path])
