"""The verb ``check``."""

from __future__ import annotations

import shlex
from functools import partial

from ppl_vae.check import check_fit, choose_checks
from ppl_vae.check.subject import CheckSettings
from ppl_vae.cli.opened import OpenRun, Outcome
from ppl_vae.display.lists import split_list
from ppl_vae.estimator.refit import refit


def check(
    run: OpenRun, only: str | None = None, skip: str | None = None, settings: CheckSettings = CheckSettings()
) -> Outcome:
    """Check the inference and the model, with a verdict and a remedy for each question.

    The run folder gets ``check.json`` and ``figures/check_*.png``. The exit status is 1 if a verdict fails.

    Args:
        run: the run.
        only: checks to make, such as training,weights. By default all checks are made.
        skip: checks to leave out.
        settings: settings of the checks.

    Returns:
        Outcome: with a ``CheckPage``.
    """
    names = choose_checks(split_list(only), split_list(skip))
    page = check_fit(
        run.vi.fitted,
        (run.data.part("test"),),
        (run.data.part("train"),),
        history=run.run.metrics(),
        settings=settings,
        only=names,
        refit=partial(refit, run.vi),
    )
    run.run.write_json("check.json", page.numbers())
    earlier = {path.stem for path in (run.run.path / "figures").glob("check_*")}
    files = run.write_figures({f"check_{name}": figure.drawn() for name, figure in page.figures.items()}, earlier)
    lines = [page.text(), ""]
    if page.failures:
        lines += [f"what to do in detail: docs/how-to/my-check-fails.md; python -m ppl_vae report "
                  f"{shlex.quote(str(run.run.path))} shows it all"]  # fmt: skip
    return Outcome(page, lines, [run.run.path / "check.json", *files], status=int(not page.holds))
