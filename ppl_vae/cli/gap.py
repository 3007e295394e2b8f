"""The verb ``gap``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from ppl_vae.cli.jobs import Content, Job, choose_rows, do
from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.estimator import VariationalInference
from ppl_vae.evaluation.measure_gap import (
    GapPortion,
    GapSettings,
    check_gap_settings,
    conclude_gap,
    measure_gap_of,
    rows_of_gap,
)


def gap(
    run: OpenRun,
    selection: Selection = Selection(num_data=1000),
    settings: GapSettings = GapSettings(),
    shard: str | None = None,
) -> Outcome:
    """Measure the amortization and approximation gaps.

    The posterior of every datum is optimised by itself and compared with that of the encoder. The run folder gets
    ``gap.json`` and a figure.

    Args:
        run: the run.
        selection: the data.
        settings: settings of the optimisation and of the estimates.
        shard: share of the data to process, such as 3/16. The verb merge joins the shares. The default is all data.

    Returns:
        Outcome: with a ``Gap``.
    """
    return do(prepare(run, selection, settings), shard)


def prepare(
    run: OpenRun, selection: Selection = Selection(num_data=1000), settings: GapSettings = GapSettings()
) -> Job:
    """Return the job of ``gap``, which has its options but the shard."""
    check_gap_settings(settings)

    def compute(vi: VariationalInference, arrays: dict[str, np.ndarray]) -> Content:
        vi.check_data(arrays)
        return measure_gap_of(vi.fitted, arrays, settings).content()

    def finish(portions: Iterator[Content]) -> Outcome:
        gap = conclude_gap(run.vi.fitted, [GapPortion.of(content) for content in portions])
        run.run.write_json("gap.json", {"part": selection.part, **gap.numbers(), "settings": asdict(settings)})
        run.write_figures({"gap": gap.plot()})
        lines = [gap.table(selection.part), *gap.warnings(), f"\nwritten to {run.run.path}: gap.json, figures/gap.png"]
        return Outcome(gap, lines)

    options, block_rows = {**asdict(selection), **asdict(settings)}, rows_of_gap(run.vi.fitted, settings)
    return Job("gap", run, choose_rows(run, selection), options, compute, finish, block_rows)
