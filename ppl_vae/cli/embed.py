"""The verb ``embed``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ppl_vae import uses
from ppl_vae.cli.jobs import ChosenRows, Content, Job, do
from ppl_vae.cli.opened import OpenRun, Outcome
from ppl_vae.data import PARTS, Stacked, as_source
from ppl_vae.data.labels import label_codes
from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator import VariationalInference
from ppl_vae.evaluation.passes import Room
from ppl_vae.runs import write_table

NAMES = 8
"""The most latent dimensions that are named in the output."""
MOST_NUMBERS = 2**25
"""The most numbers of an embedding that is returned; a larger one is only written."""


def embed(run: OpenRun, part: str = "test", output: str | None = None, shard: str | None = None) -> Outcome:
    """Write them to a file, with a row for each datum.

    Args:
        run: the run.
        part: part of the run's data, or all for the parts train, valid and test in this order.
        output: file .npz or .csv. The default is uses/embed in the run folder: .csv if the data are a table, else .npz.
        shard: share of the data to process, such as 3/16. The verb merge joins the shares. The default is all data.

    Returns:
        Outcome: with ``ppl_vae.uses.Embedding``, or None if it is too large to be held in memory.
    """
    return do(prepare(run, part, output), shard)


def prepare(run: OpenRun, part: str = "test", output: str | None = None) -> Job:
    """Return the job of ``embed``, which has its options but the shard."""
    if part not in (*PARTS, "all"):
        raise InputError(f"--part {part!r} is unknown; {nearest(part, (*PARTS, 'all'))}")
    usual = run.run.path / "uses" / ("embed.npz" if run.data.form is None else "embed.csv")
    path = usual if output is None else Path(output).expanduser()
    if path.suffix not in (".npz", ".csv"):
        raise InputError(f"--output {path}: expected a file .npz or .csv")
    parts = [as_source(run.data.part(name)) for name in (PARTS if part == "all" else (part,))]
    rows = ChosenRows(Stacked(parts) if len(parts) > 1 else parts[0])

    def compute(vi: VariationalInference, arrays: dict[str, np.ndarray]) -> Content:
        embedding = uses.embed(vi, {name: array for name, array in arrays.items() if name != "_row"})
        label = {"y": arrays["y"]} if "y" in arrays and arrays["y"].ndim == 1 else {}
        return {"names": list(embedding.names), "mean": embedding.mean, "sd": embedding.sd, "label": label}

    def finish(portions: Iterator[Content]) -> Outcome:
        names: list[str] = []
        kept: list[Content] = []

        def columns() -> Iterator[dict[str, np.ndarray]]:
            for portion in portions:
                names[:] = portion["names"]
                if 2 * rows.num_rows * len(names) <= MOST_NUMBERS:
                    kept.append(portion)
                yield {
                    "mean": portion["mean"],
                    "sd": portion["sd"],
                    **{name: _label(run, codes) for name, codes in portion["label"].items()},
                }

        write_table(path, names, columns(), ("mean", "sd"))
        more = ", ..." if len(names) > NAMES else ""
        line = f"{rows.num_rows} data; mean and sd of {', '.join(names[:NAMES])}{more}"
        moments = [np.concatenate([portion[name] for portion in kept]) for name in ("mean", "sd") if kept]
        return Outcome(uses.Embedding(tuple(names), *moments) if kept else None, [line], [path])

    return Job("embed", run, rows, {"part": part, "output": output}, compute, finish, Room(numbers=1).rows())


def _label(run: OpenRun, codes: np.ndarray) -> np.ndarray:
    """Return the labels of categories, if y has some, as texts."""
    columns = run.vi.fitted.naming.columns.get("y", ()) or run.data.arrays_columns.get("y", ())
    return label_codes(columns[0], codes).astype(str) if columns and columns[0].categories else codes
