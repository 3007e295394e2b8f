"""Run folders in tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ppl_vae.cli.command import run_verb


def run_without_figures(verb: str, args: Sequence[str], *, with_posterior: bool = False) -> int:
    """Run a verb as ``run_verb`` does, but draw nothing: figures take three quarters of the time of a short fit.

    Draws from the posterior, and netCDF files, take a third of what is left; ``posterior.nc`` and ``evidence.nc`` are
    written only ``with_posterior``.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not with_posterior:
            patch.setattr("ppl_vae.cli.fit._write_posterior_draws", lambda fitted: None)
            patch.setattr("ppl_vae.cli.evaluate.write_evidence", lambda *columns, **options: None)
        patch.setattr("ppl_vae.cli.fit._write_figures", lambda fitted: None)
        patch.setattr("ppl_vae.cli.evaluate._draw", lambda run, rows, evaluation: {})
        patch.setattr("ppl_vae.plots.sheet", lambda cells, **options: None)
        patch.setattr("ppl_vae.cli.opened.OpenRun.write_figures", lambda run, figures, among=(): [])
        return run_verb(verb, args)


@contextmanager
def unwritten_figures() -> Iterator[set[str]]:
    """Collect the names of the figures that verbs draw, and write none: files take most of the time of a figure."""
    names: set[str] = set()

    def collect(run: Any, figures: Mapping[str, Any], among: Sequence[str] = ()) -> list[Path]:
        names.update(figures)
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ppl_vae.cli.opened.OpenRun.write_figures", collect)
        yield names


def read_numbers(folder: Path) -> dict[str, Any]:
    """Return the numbers of a run, its summary and its metrics, without its times and the digests of these."""
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = {"train_seconds": 0, "digest": "", "crc32": 0}
    return summary | timeless | {"metrics": [row | timeless for row in rows]}
