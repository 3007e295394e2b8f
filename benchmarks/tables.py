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
from imputers import CHOSEN_ON, CODED, IMPUTERS, NUM_SAMPLES, OPTIONS, Filled, Table

import ppl_vae.cli.process  # noqa: F401  (first: it sets up OpenMP)

BENCHMARKS = Path(__file__).parent
NUMBERS, PAGE = BENCHMARKS / "tables.json", BENCHMARKS.parent / "docs" / "tables.md"
TABLES, SHARES = ("wine", "adult", "credit"), (10, 20, 30, 40, 50)
KINDS_IN_ORDER = ("real", "positive", "count", "binary", "categorical", "ordinal")
LOSSES, TRAINING = ("log loss", "of frequencies", "better by"), ("epochs", "hidden in addition", "draws")
KINDS = {"real": "real", "pos": "positive", "count": "count", "cat": "categorical", "ordinal": "ordinal"}
FORMS = ("IterativeImputer", "IterativeImputer, codes")
PEERS = {name: (name,) for name in IMPUTERS if "table_vae" not in name and name not in FORMS} | {FORMS[0]: FORMS}
"""The forms of each peer, of which the better one counts in the summary."""
INSIDE = 0.9
"""The share of an interval or of a set of categories."""
LEAST = 1e-4
"""The smallest probability in a log loss."""

INTRODUCTION = """\
# Missing numbers of tables

`benchmarks/tables.py` hides 10 to 50 % of the numbers of three tables, fills them in, and writes this page. The tables,
the kinds of their columns and the places to hide are those of Nazabal et al. (2020), `missing10_1` and so on; amounts
that can be zero are counts here. All imputers see the same rows, the first {rows} of a table at most, with the holes,
and are scored at the holes. `table_vae` is fitted by the ELBO; the numbers of epochs and of draws stand beside the
intervals below, and so does the share of the numbers that is hidden in each batch, in addition to those that are
missing. Its learning rate, bound and number of epochs were chosen by the errors in three cells, which
flatter it ({chosen}); the other cells took no part.
Then `impute` takes draws from the encoder (amortized), or from a posterior that is optimised for what was seen of each
row (per-sample). The peers are those of scikit-learn with their defaults, and are given standardised numbers. A
categorical column has an indicator for each of its values. A linear regression predicts these from each other, although
all are missing at once, and stays near the mode. So `IterativeImputer` is run with codes too, which are rounded and cut
to the range of the categories; in the summary it has the better of both, kind by kind. The trees, 20
`ExtraTreesRegressor` in four rounds, take codes. MICE is the mean of five draws of the chained equations of
`IterativeImputer`, with codes. What is empty or not listed was not run. The peers are run once, and
ours again when it changes; all have the same rows and holes.

No published number stands beside ours. The repository of HI-VAE (Nazabal et al. 2020, arXiv:1807.03653) has the tables
and ten masks for each share, but no results for them; no table of results of that article, or of MIWAE (Mattei and
Frellsen 2019, arXiv:1812.02633), could be read when this page was made. Ours are for one mask and the first rows.
"""
ERRORS = """\
Root mean squared error divided by the standard deviation of the column, or the share of wrong categories for binary,
categorical and ordinal columns; means over the columns of a kind. `tables.json` has every column, and the error divided
by the range, as Nazabal et al. have it.
"""
DOUBT = """\
## Intervals, sets and log loss of `table_vae`

The share of the truth in intervals, or sets of categories, of 90 %. Where values repeat, the end of an interval or of a
set counts in part, so that 90 % is right for counts and categories too. The log loss is that of all columns of
categories in nats, beside that of their frequencies.
"""


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
            row["by_sd"] = float(error / np.nanstd(x[:, at]))
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


def measure(table: Table, hide: np.ndarray, imputer: str) -> dict[str, Any]:
    """Return the scores of an imputer at the hidden places, the seconds that it took, and how long ours was trained."""
    started = time.perf_counter()
    filled = IMPUTERS[imputer](table)
    result: dict[str, Any] = {"seconds": time.perf_counter() - started, "rows": len(table.x)}
    if "table_vae" in imputer:
        result |= {"epochs": OPTIONS["max_epochs"], "extra": OPTIONS["extra_missing"], "draws": NUM_SAMPLES}
    return result | {"columns": score(filled, table.truth, hide, table.columns)}


def by_kind(result: Mapping[str, Any], *names: str) -> dict[str, float]:
    """Return the mean of a score over the columns of each kind; the first of the names that a column has."""
    values: dict[str, list[float]] = {}
    for row in result["columns"].values():
        for name in names:
            if name in row:
                values.setdefault(row["kind"], []).append(row[name])
                break
    return {kind: float(np.mean(values[kind])) for kind in KINDS_IN_ORDER if kind in values}


def page(numbers: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the page in Markdown; it depends only on ``tables.json``."""
    rows = max(result["rows"] for table in numbers.values() for cell in table.values() for result in cell.values())
    chosen = ", ".join(f"{table} {share} %" for table, share in CHOSEN_ON)
    lines = [INTRODUCTION.format(rows=rows, chosen=chosen)]
    for name, table in numbers.items():
        shares = sorted(table, key=int)
        lines += [
            f"## {name}",
            "",
            ERRORS,
            "",
            f"| kind | imputer | {' | '.join(f'{share} %' for share in shares)} |",
            "|---|---|" + "--:|" * len(shares),
        ]
        kinds = by_kind(next(iter(table[shares[0]].values())), "by_sd", "wrong")
        for kind in kinds:
            for imputer in IMPUTERS:
                cells = [table[share].get(imputer) for share in shares]
                if any(cells):
                    values = [f"{by_kind(cell, 'by_sd', 'wrong')[kind]:.3f}" if cell else "" for cell in cells]
                    lines.append(f"| {kind} | {imputer} | {' | '.join(values)} |")
        lines.append("")
    lines += [
        DOUBT,
        f"| table | hidden | imputer | {' | '.join((*KINDS_IN_ORDER, *LOSSES, *TRAINING))} |",
        "|---|--:|---|" + "--:|" * len((*KINDS_IN_ORDER, *LOSSES, *TRAINING)),
    ]
    for name, table in numbers.items():
        for share in sorted(table, key=int):
            for imputer in (imputer for imputer in IMPUTERS if imputer in table[share] and "table_vae" in imputer):
                held = by_kind(table[share][imputer], "held")
                shown = [f"{held[kind]:.1%}" if kind in held else "" for kind in KINDS_IN_ORDER]
                ours, peer = (log_loss(table[share][of]) for of in (imputer, "mean, mode"))
                shown += [f"{ours:.3f}", f"{peer:.3f}", f"{1 - ours / peer:.0%}"]
                result = table[share][imputer]
                shown += [f"{result['epochs']}", f"{result['extra']:.0%}", f"{result['draws']}"]
                lines.append(f"| {name} | {share} % | {imputer.partition(', ')[2]} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", *verdict(numbers), ""])


def log_loss(result: Mapping[str, Any]) -> float:
    """Return the mean log loss of the columns of categories."""
    return float(np.mean([row["log_loss"] for row in result["columns"].values() if "log_loss" in row]))


def verdict(numbers: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Return lines about how often ours is better, and by how much on average."""
    lines = ["## Summary", "", "Over all tables, kinds and shares that both were run on:", ""]
    for ours in (name for name in IMPUTERS if "table_vae" in name):
        for peer, forms in PEERS.items():
            ratios = []
            for cell in (cell for table in numbers.values() for cell in table.values() if ours in cell):
                mine = by_kind(cell[ours], "by_sd", "wrong")
                theirs = [by_kind(cell[form], "by_sd", "wrong") for form in forms if form in cell]
                ratios += [mine[kind] / min(of_form[kind] for of_form in theirs) for kind in mine if theirs]
            if ratios:
                better, ratio = sum(ratio < 1 for ratio in ratios), np.exp(np.mean(np.log(ratios)))
                lines.append(
                    f"- `{ours}` has a smaller error than {peer} in {better} of {len(ratios)} cells; the errors' "
                    f"ratio is {ratio:.2f} (geometric mean)."
                )
    return lines


def is_known(options: argparse.Namespace, name: str, share: str, imputer: str) -> bool:
    """Return True for a cell that the file of numbers has, unless all are to be run again."""
    if options.again or not options.numbers.exists():
        return False
    return imputer in json.loads(options.numbers.read_text()).get(name, {}).get(share, {})


def is_the_same(imputer: str, columns: Sequence[Mapping[str, Any]]) -> bool:
    """Return True for a form of an imputer that is the other form, for there are no categorical columns."""
    return imputer == "IterativeImputer, codes" and all(column["kind"] != "categorical" for column in columns)


def main(args: list[str]) -> int:
    """Measure the imputers or write the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path(), help="folder of the tables (default: .)")
    parser.add_argument("--tables", default=",".join(TABLES), help="the tables to run")
    parser.add_argument("--shares", default=",".join(map(str, SHARES)), help="the shares to hide, in per cent")
    parser.add_argument("--imputers", default=";".join(IMPUTERS), help="the imputers to run, separated by semicolons")
    parser.add_argument("--rows", type=int, default=6000, help="the rows of each table that all take (default: 6000)")
    parser.add_argument("--epochs", type=int, default=OPTIONS["max_epochs"], help="the epochs of ours (default: 100)")
    parser.add_argument("--numbers", type=Path, default=NUMBERS, help="the file of numbers (default: tables.json)")
    parser.add_argument("--again", action="store_true", help="run cells that the file of numbers has, too")
    parser.add_argument("--report", action="store_true", help="only write docs/tables.md")
    options = parser.parse_args(args)
    OPTIONS["max_epochs"] = options.epochs
    for name in () if options.report else options.tables.split(","):
        x, columns = read(options.data_root, name)
        for share in options.shares.split(","):
            hide = hidden(options.data_root, name, int(share))[: options.rows]
            truth = x[: options.rows]
            table = Table(np.where(hide, np.nan, truth), columns, truth)
            for imputer in options.imputers.split(";"):
                if is_known(options, name, share, imputer) or is_the_same(imputer, columns):
                    continue
                result = measure(table, hide, imputer)
                numbers = json.loads(options.numbers.read_text()) if options.numbers.exists() else {}
                numbers.setdefault(name, {}).setdefault(share, {})[imputer] = result
                options.numbers.write_text(json.dumps(numbers, indent=1) + "\n")
                print(name, share, imputer, f"{result['seconds']:.0f} s", flush=True)
    if options.numbers == NUMBERS:
        PAGE.write_text(page(json.loads(NUMBERS.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
