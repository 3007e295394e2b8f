"""The tables of a report: from what a run's files hold to cells of text, as the commands print them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from ppl_vae.estimator import Description, Evaluation

MISSING = "\N{EN DASH}"
"""A number that is not there, or not finite."""
MOST_DIMENSIONS = 50
"""Rows of the table of latent dimensions."""
ESTIMATES = (
    "estimator",
    "nats per datum",
    "Monte Carlo error",
    "error over data",
    "effective",
    "doubtful",
    "bits/dim",
    "seconds",
)
GAPS = (
    "posterior",
    "ELBO",
    "error over data",
    "IWAE",
    "above the encoder",
    "below the evidence",
    "steps",
    "ms per datum",
)


class Table(NamedTuple):
    """Cells of text."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    """So many columns are text; the others are numbers, to the right."""


def shown(value: Any, spec: str = "", scale: float = 1.0) -> str:
    """A number as text; a dash where it is missing or not finite.

    Example:
        >>> shown(-17.0627, ".2f"), shown(0.0129, ".2f", 1000), shown("cpu"), shown(None) == MISSING
        ('-17.06', '12.90', 'cpu', True)
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    return str(value) if isinstance(value, str | bool) else format(value * scale if scale != 1 else value, spec)


def estimates(evaluation: Evaluation, part: str) -> Table:
    """Every estimator's answer, as ``evaluate`` prints it."""
    rows = []
    for name, row in evaluation.rows.items():
        known = row.bound == "exact"
        rows.append(
            [
                evaluation.label(name),
                shown(row.log_evidence, ".2f"),
                "none" if known else shown(row.mcse, ".3f"),
                shown(row.se, ".2f"),
                "" if known or name == "elbo" else shown(row.ess, ".1f"),
                "" if known or name == "elbo" else shown(row.doubtful, ".1%"),
                shown(evaluation.bits_per_dimension(row.log_evidence), ".4f"),
                shown(row.seconds, ".1f"),
            ]
        )
    return Table(f"By evaluate: {part}, {evaluation.num_data} data", ESTIMATES, rows)


def sentences(evaluation: Evaluation) -> list[str]:
    """What ``evaluate`` prints under its table."""
    said = evaluation.table("").splitlines()[2 + len(evaluation.rows) :]
    return [line.replace(" nan", f" {MISSING}") for line in said]


def at_the_end_of_fit(summary: Mapping[str, Any]) -> Table:
    """What ``fit`` noted of the test data."""
    test, name = summary["test"], summary["test"]["estimator"]
    draws = "" if name == "exact" else f", {test['num_samples']} draws"
    rows = [("elbo", "elbo")] if name == "iwae" else []
    rows.append((f"{name}{draws}", "log_evidence"))
    cells = []
    for label, of in rows:
        mcse = "none" if name == "exact" else shown(test.get(f"{of}_mcse"), ".3f")
        cells.append([label, shown(test[of], ".2f"), mcse, shown(test[f"{of}_se"], ".2f")])
    return Table(f"By fit: test, {test['num_data']} data", ESTIMATES[:4], cells)


def gaps(numbers: Mapping[str, Any]) -> Table:
    """The ladder from the encoder's ELBO to the evidence, as ``gap`` prints it."""

    def difference(of: Mapping[str, Any], gap: str) -> str:
        mean, se = of.get(f"{gap}_gap"), of.get(f"{gap}_gap_se")
        return "" if gap == "amortization" and mean is None else f"{shown(mean, '.3f')} ± {shown(se, '.3f')}"

    rows = []
    if numbers["elbo_amortized"] is not None:
        elbo = [shown(numbers[key], ".2f") for key in ("elbo_amortized", "elbo_amortized_se", "iwae_amortized")]
        rows.append(["encoder", *elbo, "", difference(numbers, "inference"), "", ""])
    for name, each in numbers["families"].items():
        elbo = [shown(each[key], ".2f") for key in ("elbo", "se", "iwae")]
        differences = [difference(each, gap) for gap in ("amortization", "approximation")]
        effort = [shown(each["steps"], ".0f"), shown(each["seconds_per_datum"], ".2f", 1000)]
        rows.append([name, *elbo, *differences, *effort])
    evidence = [shown(numbers[key], ".2f") for key in ("log_evidence", "log_evidence_se")]
    rows.append(["evidence", *evidence, *[""] * 5])
    return Table(f"{numbers['part']}, {numbers['num_data']} data; evidence by {numbers['log_evidence_by']}", GAPS, rows)


def dimensions(numbers: Mapping[str, Any]) -> Table:
    """How each latent dimension is used."""
    words, named = {True: "yes", False: "no", None: MISSING}, list(numbers["dimensions"].items())
    if all(each["divergence"] is not None for _, each in named):
        named.sort(key=lambda each: -each[1]["divergence"])
    rows = [
        [name, shown(each["divergence"], ".3f"), words[each["active"]], shown(each["aggregated_divergence"], ".3f")]
        for name, each in named[:MOST_DIMENSIONS]
    ]
    head = ("dimension", "KL from the prior", "active", "KL of the aggregated posterior")
    which = f", {MOST_DIMENSIONS} of {len(named)}" if len(named) > MOST_DIMENSIONS else ""
    return Table(f"Latent dimensions{which}, nats per datum", head, rows)


def sites(found: Description) -> Table:
    """The model's sites, and the distribution of the posterior of each."""
    rows = []
    for row in found.sites:
        shape = " x ".join(map(str, row.shape)) or "a number"
        posterior = " then ".join(kind for kind, _ in groupby(found.posterior.get(name, "") for name in row.names))
        if row.role == "summed out":
            posterior = "exact"
        cells = (row.role, row.distribution, shape, row.support, ", ".join(row.plates), posterior)
        rows.append([row.name, *cells])
    head = ("site", "role", "distribution", "shape of a datum", "support", "plates", "posterior")
    return Table("The sites of the model", head, rows, left=len(head))


def modules(found: Description) -> Table:
    """The modules and their parameters."""
    rows = [[row.name, row.part or MISSING, f"{row.num_parameters:,}"] for row in found.modules]
    if len(rows) > 1:
        rows.append(["in all", "", f"{sum(row.num_parameters for row in found.modules):,}"])
    return Table("What is trained", ("module or parameter", "part of", "parameters"), rows, left=2)


def training(metrics: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None) -> Table:
    """What came of training."""
    last = metrics[-1] if metrics else {}
    given = summary or {}
    best = given.get("best_epoch", last.get("best_epoch"))
    at_best = next((row for row in metrics if row["epoch"] == best), {})
    seconds, epochs = given.get("train_seconds", last.get("train_seconds")), given.get("epochs", last.get("epoch"))
    each = seconds / epochs if seconds is not None and epochs else None
    rows = [
        ["epochs", shown(epochs)],
        ["best epoch, whose parameters are kept", shown(best)],
        ["validation bound there, nats per datum", shown(given.get("valid_elbo", at_best.get("elbo_valid")), ".2f")],
        ["training bound there, nats per datum", shown(at_best.get("elbo_train"), ".2f")],
        ["training bound in the last epoch, nats per datum", shown(last.get("elbo_train"), ".2f")],
        ["learning rate in the last epoch", shown(last.get("learning_rate"), ".3g")],
        ["seconds of training", shown(seconds, ".1f")],
        ["milliseconds an epoch", shown(each, ".1f", 1000)],
        ["data to train on", shown(given.get("num_train"), ",")],
        ["device", shown(given.get("device"))],
    ]
    return Table("What came of training", ("", ""), rows)
