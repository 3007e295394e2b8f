"""The verb ``gap``."""

from __future__ import annotations

from dataclasses import asdict

from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.evaluation.measure_gap import GapSettings, check_gap_settings, measure_gap
from ppl_vae.plots import gaps


def gap(
    run: OpenRun,
    selection: Selection = Selection(num_data=1000),
    settings: GapSettings = GapSettings(),
) -> Outcome:
    """Measure what amortization costs, and what the family of the posterior costs.

    The posterior of every datum is optimised by itself and compared with that of the encoder. The run folder gets
    ``gap.json`` and a figure.

    Args:
        run: the run.
        selection: the data.
        settings: settings of the optimisation and of the estimates.

    Returns:
        Outcome: with a ``Gap``.
    """
    check_gap_settings(settings)
    arrays = run.select(selection)
    run.vi.check_data(arrays)
    gap = measure_gap(run.vi.fitted, arrays, settings)
    run.run.write_json("gap.json", {"part": selection.part, **gap.numbers(), "settings": asdict(settings)})
    families = {name: fit.elbo.numpy() for name, fit in gap.families.items()}
    amortized = None if gap.amortized is None else gap.amortized.numpy()
    by = gap.by if gap.of is None else f"{gap.of}, {gap.by}"
    run.write_figures({"gap": gaps(gap.log_evidence.numpy(), families, amortized=amortized, by=by)})
    lines = [gap.table(selection.part), *gap.warnings(), f"\nwritten to {run.run.path}: gap.json, figures/gap.png"]
    return Outcome(gap, lines)
