"""Missing numbers of tables of mixed kinds, filled in by ``table_vae`` and by others.

    python benchmarks/tables.py --data-root FOLDER            # everything, some hours; writes tables.json
    python benchmarks/tables.py --data-root FOLDER --tables wine --shares 30 --imputers KNNImputer
    python benchmarks/tables.py --report                      # docs/tables.md from tables.json

FOLDER must contain NAME.csv, NAME_types.csv and NAME_missing.npz of wine, adult and credit, as the repository of HI-VAE
has them (Nazabal et al. 2020): the places to hide are theirs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from imputers import CODED, PEERS, Filled

import ppl_vae.cli.process  # noqa: F401  (first: it sets up OpenMP)

BENCHMARKS = Path(__file__).parent
NUMBERS, PAGE = BENCHMARKS / "tables.json", BENCHMARKS.parent / "docs" / "tables.md"
TABLES, SHARES = ("wine", "adult", "credit"), (10, 20, 30, 40, 50)
KINDS = {"real": "real", "pos": "positive", "count": "count", "cat": "categorical", "ordinal": "ordinal"}
INSIDE = 0.9
"""The share of an interval or of a set of categories."""
LEAST = 1e-4
"""The smallest probability in a log loss."""


def read(folder: Path, name: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return a table with the codes of its categories, NaN where the file has no value, and its columns."""
    frame, types = pd.read_csv(folder / f"{name}.csv"), pd.read_csv(folder / f"{name}_types.csv")
    x, columns = frame.to_numpy(np.float64), []
    for at, given in enumerate(types["type"]):
        kind, categories = KINDS[given], []
        if kind == "positive" and (x[:, at] == 0).any():
            kind = "count"  # amounts in whole dollars, many of which are zero
        if kind in CODED:
            categories = np.unique(x[~np.isnan(x[:, at]), at]).tolist()
            known = ~np.isnan(x[:, at])
            x[known, at] = np.searchsorted(categories, x[known, at])
            kind = "binary" if len(categories) == 2 else kind
        columns.append({"name": str(frame.columns[at]), "kind": kind, "categories": categories})
    return x, columns


def hidden(folder: Path, name: str, share: int) -> np.ndarray:
    """Return True for the places that are hidden, ``(N, D)``."""
    bits = np.load(folder / f"{name}_missing.npz")
    return np.unpackbits(bits[f"missing{share}_1"], axis=1)[:, : int(bits["num_columns"])].astype(bool)


def score(
    filled: Filled, x: np.ndarray, hide: np.ndarray, columns: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    r"""Return the scores of each column at the hidden places, whose truth is known.

    A column of numbers has its root mean squared error, divided by the standard deviation of the column, and divided
    by its range. A column of codes has its share of wrong codes, and its log loss. ``held`` is the share of the truth
    in an interval, or in a set, of 90 %.
    """
    scores = {}
    for at, column in enumerate(columns):
        there = hide[: len(filled.value), at] & ~np.isnan(x[: len(filled.value), at])
        truth, value = x[: len(there), at][there], filled.value[there, at]
        row: dict[str, Any] = {"kind": column["kind"]}
        if column["kind"] in CODED:
            row["wrong"] = float((truth != value).mean())
            if at in filled.probabilities:
                shares = filled.probabilities[at][there]
                row["log_loss"] = float(-np.log(shares[np.arange(len(truth)), truth.astype(int)].clip(LEAST)).mean())
                row["held"] = float(held_by_sets(shares, truth.astype(int)).mean())
        else:
            error = np.sqrt(np.square(truth - value).mean())
            row["by_sd"], row["by_range"] = float(error / np.nanstd(x[:, at])), float(error / np.nanmax(x[:, at]))
            row["by_range"] = float(error / (np.nanmax(x[:, at]) - np.nanmin(x[:, at])))
            if filled.below is not None and filled.up_to is not None:
                row["held"] = float(held_by_intervals(filled.below[there, at], filled.up_to[there, at]).mean())
        scores[column["name"]] = row
    return scores


def held_by_intervals(below: np.ndarray, up_to: np.ndarray) -> np.ndarray:
    """Return how much of the truth lies in the interval between the shares 5 and 95 %.

    If several draws equal the truth, as for counts, the truth has all shares from ``below`` to ``up_to``, of which a
    part may lie inside.
    """
    low, high = (1 - INSIDE) / 2, (1 + INSIDE) / 2
    width = up_to - below
    overlap = (np.minimum(up_to, high) - np.maximum(below, low)).clip(0)
    inside = (below >= low) & (below <= high)
    return np.where(width > 0, overlap / np.where(width > 0, width, 1), inside)


def held_by_sets(shares: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return how much of the true category lies in the smallest set of 90 %: the last one of a set is in it in part.

    Source: Romano, Sesia and Candes, Classification with Valid and Adaptive Coverage (2020), section 2.1.
    """
    order = np.argsort(-shares, axis=1, kind="stable")
    ordered = np.take_along_axis(shares, order, 1)
    place = (order == truth[:, None]).argmax(1)
    up_to = np.take_along_axis(ordered.cumsum(1), place[:, None], 1)[:, 0]
    own = np.take_along_axis(ordered, place[:, None], 1)[:, 0]
    return ((INSIDE - (up_to - own)) / np.maximum(own, 1e-12)).clip(0, 1)


def measure(folder: Path, name: str, share: int, imputer: str, rows: int) -> dict[str, Any]:
    """Return the scores of an imputer on a table of which a share is hidden, and the seconds that it took."""
    x, columns = read(folder, name)
    x, hide = x[:rows], hidden(folder, name, share)[:rows]
    holes = np.where(hide, np.nan, x)
    started = time.perf_counter()
    filled = PEERS[imputer](holes, columns, x)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "rows": len(filled.value), "columns": score(filled, x, hide, columns)}


def main(args: list[str]) -> int:
    """Measure the imputers or write the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path(), help="folder of the tables (default: .)")
    parser.add_argument("--tables", default=",".join(TABLES), help="the tables to run")
    parser.add_argument("--shares", default=",".join(map(str, SHARES)), help="the shares to hide, in per cent")
    parser.add_argument("--imputers", default=";".join(PEERS), help="the imputers to run, separated by semicolons")
    parser.add_argument("--rows", type=int, default=6000, help="the rows of each table that all take (default: 6000)")
    parser.add_argument("--output", type=Path, default=NUMBERS, help="the file of numbers (default: tables.json)")
    options = parser.parse_args(args)
    for name in options.tables.split(","):
        for share in options.shares.split(","):
            for imputer in options.imputers.split(";"):
                result = measure(options.data_root, name, int(share), imputer, options.rows)
                numbers = json.loads(options.output.read_text()) if options.output.exists() else {}
                numbers.setdefault(name, {}).setdefault(share, {})[imputer] = result
                options.output.write_text(json.dumps(numbers, indent=1) + "\n")
                print(name, share, imputer, f"{result['seconds']:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
