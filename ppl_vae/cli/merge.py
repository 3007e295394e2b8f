"""The verb ``merge``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ppl_vae.cli.command import call
from ppl_vae.cli.jobs import Job, merge_shards
from ppl_vae.cli.opened import OpenRun, Outcome


def merge(run: OpenRun, verb: str | None = None) -> Outcome:
    """Merge the shards of a run into the results of all data.

    The shards were written by evaluate, gap, impute, embed or outliers with --shard. The results are those of the verb
    without it. The shards stay, so that a lost one can be computed again.

    Args:
        run: the run.
        verb: verb whose shards are merged. By default those of every verb are merged.

    Returns:
        Outcome: with a list of the results of the verbs.
    """

    def make(name: str, options: Mapping[str, Any]) -> Job:
        prepare = import_module(f"ppl_vae.cli.{name}").prepare
        job: Job = call(prepare, {"run": run, **options})  # type: ignore[assignment]
        return job

    outcomes = merge_shards(run, make, verb)
    lines = [line for outcome in outcomes for line in outcome.lines]
    return Outcome([outcome.result for outcome in outcomes], lines, [f for outcome in outcomes for f in outcome.files])
