"""The verb ``watch``."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ppl_vae.cli.opened import Outcome
from ppl_vae.errors import InputError
from ppl_vae.estimator.progress import describe_seconds
from ppl_vae.runs import Run
from ppl_vae.runs.lock import is_alone
from ppl_vae.runs.metrics import order_of

POLL_SECONDS = 2.0
RATE_ROWS = 10
"""The number of the last validations whose rate tells the time that is left."""
COLUMNS = {"epoch": 6, "ELBO train": 11, "ELBO valid": 11, "learning rate": 14, "trained": 13, "left, at most": 14}
"""The headings and the widths of the columns."""


def watch(folder: str, rows: int = 10, follow: bool = True) -> Outcome:
    """Show the last validations of a running fit, and the time that is left.

    New ones are shown until the fit ends, or until Ctrl-C ends the command. Nothing in the folder is changed.

    Args:
        folder: the run folder that fit writes.
        rows: number of validations that are shown at first.
        follow: continue until the fit ends. With false the command ends at once.

    Raises:
        InputError: the folder is no run, or its metrics are damaged.
    """
    if rows < 1:
        raise InputError(f"--rows {rows}: expected 1 or more")
    run, last = Run.open(folder), (0, 0)
    config = run.config()
    print(f"{_aligned(COLUMNS)}\n{'':>6} {'nats per datum':>23}", flush=True)
    try:
        while True:
            is_fitted = not is_alone(run.path)  # asked first, so that the last row of a fit that ends is seen
            metrics = run.metrics()
            new = [row for row in metrics if order_of(row) > last] if any(last) else metrics[-rows:]
            for row in new:
                is_newest = is_fitted and row is metrics[-1]
                print(describe_row(row, time_left(metrics, config) if is_newest else ""), flush=True)
                last = order_of(row)
            if not (is_fitted and follow):
                return Outcome(metrics, [describe_end(run, is_fitted=is_fitted)])
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        return Outcome(None)


def describe_row(row: Mapping[str, Any], left: str = "") -> str:
    """Return the line of a validation.

    Args:
        row: its numbers; those that are None are not known.
        left: the time that is left.

    Example:
        >>> describe_row({"epoch": 3, "elbo_train": -40.5, "elbo_valid": None, "learning_rate": 0.001})
        '     3      -40.50           -          0.001'
    """
    bounds = ("-" if row.get(name) is None else f"{row[name]:.2f}" for name in ("elbo_train", "elbo_valid"))
    rate = "-" if row.get("learning_rate") is None else f"{row['learning_rate']:.3g}"
    seconds = "" if row.get("train_seconds") is None else describe_seconds(row["train_seconds"])
    return _aligned([str(row["epoch"]), *bounds, rate, seconds, left])


def _aligned(texts: Iterable[str]) -> str:
    return " ".join(f"{text:>{width}}" for text, width in zip(texts, COLUMNS.values(), strict=True)).rstrip()


def time_left(metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """Return the longest time that a fit still takes, at the rate of its last validations; empty if it is unknown.

    Example:
        >>> rows = [{"epoch": n, "step": 20 * n, "train_seconds": 3.0 * n} for n in range(1, 5)]
        >>> time_left(rows, {"max_epochs": 10}), time_left(rows, {"max_epochs": 10, "max_steps": 100})
        ('18 s', '3 s')
    """
    recent = [row for row in metrics[-RATE_ROWS:] if row.get("train_seconds") is not None]
    ends = {"epoch": config.get("max_epochs"), "step": config.get("max_steps")}
    times = []
    for name, end in ends.items():
        if end and len(recent) > 1 and (done := recent[-1].get(name, 0) - recent[0].get(name, 0)) > 0:
            seconds = recent[-1]["train_seconds"] - recent[0]["train_seconds"]
            times.append(max(0.0, (end - recent[-1][name]) * seconds / done))
    return describe_seconds(min(times)) if times else ""


def describe_end(run: Run, *, is_fitted: bool) -> str:
    """Return the state of a run: it is being fitted, was stopped, or is complete; a second line has the evidence."""
    summary, path = run.read_json("summary.json"), shlex.quote(str(run.path))
    if is_fitted:
        return "the fit is running"
    if summary is None:
        return f"the fit was stopped: python -m ppl_vae fit --resume --output {path} continues it"
    test = summary.get("test") or {}
    evidence = ""
    if (log_evidence := test.get("log_evidence")) is not None:
        errors = [test.get("log_evidence_mcse"), test.get("log_evidence_se")]
        by = " and ".join(
            f"{error:.2f} ({kind})" for error, kind in zip(errors, ("draws", "data"), strict=True) if error is not None
        )
        evidence = f"\ntest log evidence {log_evidence:.2f} nats per datum" + (f", errors {by}" if by else "")
    return f"the fit is complete: {summary.get('epochs')} epochs, best epoch {summary.get('best_epoch')}{evidence}"
