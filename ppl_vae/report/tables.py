"""The tables of a report, from the files of a run, as the commands print them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from ppl_vae.estimator import Description
from ppl_vae.evaluation import table
from ppl_vae.evaluation.estimators import Settings, label
from ppl_vae.evaluation.evaluation import COLUMNS
from ppl_vae.evaluation.table import Column, ResultTable, text_table

MISSING = "\N{EN DASH}"
"""The text of a number that is not known or not finite."""
MOST_DIMENSIONS = 50
"""The number of rows of the table of latent dimensions."""
DIMENSIONS = (
    Column("name", "dimension"),
    Column("divergence", "KL from the prior", ".3f", error="divergence_se"),
    Column("active", "active"),
    Column("aggregated_divergence", "KL of the aggregated posterior", ".3f", error="aggregated_divergence_se"),
)
BY_FIT = "By fit: "

shown = partial(table.shown, missing=MISSING)


def at_the_end_of_fit(summary: Mapping[str, Any]) -> ResultTable:
    """Make the table of the numbers that ``fit`` wrote about the test data."""
    test, name = summary["test"], summary["test"]["estimator"]
    settings, of = Settings(num_samples=test["num_samples"]), test.get("of")
    rows = {label("elbo", settings, test["num_data"], of): "elbo"} if name == "iwae" else {}
    rows[label(name, settings, test["num_data"], of)] = "log_evidence"
    numbers = {
        label: {"log_evidence": test[key], "mcse": test.get(f"{key}_mcse"), "se": test[f"{key}_se"]}
        for label, key in rows.items()
    }
    texts = {label: {"mcse": "none"} for label in rows} if name == "exact" else {}
    return ResultTable(f"{BY_FIT}test, {test['num_data']} data", COLUMNS[:4], numbers, texts)


def dimensions(numbers: Mapping[str, Any]) -> ResultTable:
    """Make the table of latent dimensions; the one that diverges most from the prior is first."""
    rows, words = dict(numbers["dimensions"]), {True: "yes", False: "no", None: MISSING}
    if all(row["divergence"] is not None for row in rows.values()):
        rows = dict(sorted(rows.items(), key=lambda item: -item[1]["divergence"]))
    first = dict(list(rows.items())[:MOST_DIMENSIONS])
    texts = {name: {"active": words[row["active"]]} for name, row in first.items()}
    which = f", {MOST_DIMENSIONS} of {len(rows)}" if len(rows) > MOST_DIMENSIONS else ""
    known = {key for row in first.values() for key in row}  # runs of earlier versions have no errors
    columns = tuple(column if column.error in known else column._replace(error="") for column in DIMENSIONS)
    return ResultTable(f"Latent dimensions{which}, nats per datum", columns, first, texts)


def sites(program: Description) -> ResultTable:
    """Make the table of the model's sites, with the distribution of the posterior of each."""
    rows = []
    for row in program.sites:
        shape = " x ".join(map(str, row.shape)) or "a number"
        posterior = " then ".join(kind for kind, _ in groupby(program.posterior.get(name, "") for name in row.names))
        if row.role == "summed out":
            posterior = "exact"
        cells = (row.role, row.distribution, shape, row.support, ", ".join(row.plates), posterior)
        rows.append([row.name, *cells])
    head = ("site", "role", "distribution", "shape of a datum", "support", "plates", "posterior")
    return text_table("The sites of the model", head, rows, left=len(head))


def modules(program: Description) -> ResultTable:
    """Make the table of the modules and their parameters."""
    rows = [[row.name, row.part or MISSING, f"{row.num_parameters:,}"] for row in program.modules]
    if len(rows) > 1:
        rows.append(["in all", "", f"{sum(row.num_parameters for row in program.modules):,}"])
    return text_table("What is trained", ("module or parameter", "part of", "parameters"), rows, left=2)


def training(metrics: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None) -> ResultTable:
    """Make the table of the course of training."""
    last = metrics[-1] if metrics else {}
    given = summary or {}
    best = given.get("best_epoch", last.get("best_epoch"))
    step = last.get("best_step")
    at_best = next((row for row in metrics if (row["epoch"] == best if step is None else row["step"] == step)), {})
    seconds, epochs = given.get("train_seconds", last.get("train_seconds")), given.get("epochs", last.get("epoch"))
    per_epoch = seconds / epochs if seconds is not None and epochs else None
    rows = [
        ["epochs", shown(epochs)],
        ["best epoch, whose parameters are kept", shown(best)],
        *([["gradient steps", shown(last["step"], ",")]] if "step" in last else []),
        ["validation bound there, nats per datum", shown(given.get("valid_elbo", at_best.get("elbo_valid")), ".2f")],
        ["training bound there, nats per datum", shown(at_best.get("elbo_train"), ".2f")],
        ["training bound before the last validation, nats per datum", shown(last.get("elbo_train"), ".2f")],
        ["learning rate then", shown(last.get("learning_rate"), ".3g")],
        ["seconds of training", shown(seconds, ".1f")],
        ["milliseconds an epoch", shown(per_epoch, ".1f", 1000)],
        ["data to train on", shown(given.get("num_train"), ",")],
        ["device", shown(given.get("device"))],
    ]
    return text_table("What came of training", ("", ""), rows)
