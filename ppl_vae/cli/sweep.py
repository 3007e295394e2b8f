"""The verb ``sweep``."""

from __future__ import annotations

import io
import json
import math
import shlex
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_vae import plots
from ppl_vae.cli.configuration import parse_options
from ppl_vae.cli.fit import finish, trained
from ppl_vae.cli.opened import Outcome
from ppl_vae.cli.space import Space, read_space
from ppl_vae.cli.trials import TRAINED, search, short, write
from ppl_vae.errors import InputError, reason
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.table import Column, ResultTable
from ppl_vae.imports import by_need, import_extra
from ppl_vae.runs import Run
from ppl_vae.runs.files import digest

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure
else:
    optuna = by_need("optuna")

STARTUP_TRIALS = 5
"""The number of trials that are trained to their end before any is stopped early."""
WARMUP_EPOCHS = 3
"""The number of validations after which a trial may be stopped."""
DATABASE = "sweep.db"


def sweep(
    config: str | None = None,
    trials: int = 50,
    output: str | None = None,
    storage: str | None = None,
    prune: bool = True,
    trust: bool = False,
) -> Outcome:
    """Search for the options of a fit with the best validation bound.

    Each trial is a run folder. The same command goes on with a sweep that was interrupted, and given several times at
    once it is as many workers of one sweep. At the end the best trial is evaluated on the test data.

    Args:
        config: YAML file of options of fit. A value may be a range or a list of choices: {low: 1, high: 9} or
            {choices: [a, b]}.
        trials: number of trials, with those of earlier commands and of other workers.
        output: folder of the sweep. By default it is runs/sweep-NAME, after the file of the space.
        storage: URL of a database, such as postgresql://HOST/NAME. By default it is a SQLite file in the folder.
        prune: stop a trial whose best bound so far is below the median of the others.
        trust: execute a program file from outside the working tree.

    Returns:
        Outcome: with the ``Evaluation`` of the best trial, or None if other workers are still at work.

    Raises:
        InputError: the space is wrong, Optuna is not installed, or a trial cannot be begun.
    """
    if config is None:
        raise InputError("no space is given: --config space.yaml names a file of options of fit, some with ranges")
    if trials < 1:
        raise InputError(f"--trials is {trials}: expected 1 or more")
    require_optuna()
    path = Path(config).expanduser()
    space = read_space(path, trust=trust)
    folder = Path(output or Path("runs") / f"sweep-{path.stem}").expanduser()
    check_folder(folder)
    try:
        with opened(folder, storage, space, prune=prune) as study:
            search(study, space, folder, path, trials, trust=trust)
            return conclude(study, space, folder, trust=trust)
    except KeyboardInterrupt as error:
        error.args = ("stopped; the same command goes on with the sweep",)
        raise


def require_optuna() -> None:
    """Raise ``InputError`` if Optuna is not installed."""
    import_extra("optuna", "sweep", "sweep").logging.set_verbosity(optuna.logging.WARNING)


def check_folder(folder: Path) -> None:
    """Make the folder of a sweep; refuse one that holds something else."""
    if folder.is_file():
        raise InputError(f"--output {folder} is a file: name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not any(folder.glob(f"{DATABASE}*")):
        raise InputError(f"{folder} is not empty and holds no sweep: choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DATABASE).touch()  # an empty file is an empty database


@contextmanager
def opened(folder: Path, url: str | None, space: Space, *, prune: bool) -> Iterator[optuna.Study]:
    """Open the study of a sweep in its database, or begin it.

    Raises:
        InputError: the database cannot be opened, or the study has another space.
    """
    url = url or f"sqlite:///{(folder / DATABASE).resolve()}"
    wait = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    quick = optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_EPOCHS)
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=wait)
        study = optuna.create_study(
            storage=storage,
            pruner=quick if prune else optuna.pruners.NopPruner(),
            study_name=folder.resolve().name,
            direction="maximize",
            load_if_exists=True,
        )
    except (KeyboardInterrupt, InputError):
        raise
    except Exception as error:  # those of the driver of a database, which may not be installed
        raise InputError(f"the storage of the sweep cannot be opened: {reason(error)}") from error
    try:
        stated = study.user_attrs.get("space")
        if stated is None:
            study.set_user_attr("space", digest(space.config))
        elif stated != digest(space.config):
            raise InputError(f"the sweep in {folder} was begun with another space: choose another --output")
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def conclude(study: optuna.Study, space: Space, folder: Path, *, trust: bool) -> Outcome:
    """Return the table of the trials, write their figure, and evaluate the best one, unless other workers still run."""
    rows = [read_trial(trial, space) for trial in study.get_trials(False) if "ending" in trial.user_attrs]
    known = sorted((row for row in rows if row["elbo_valid"] is not None), key=lambda row: -row["elbo_valid"])
    best = next((row for row in known if row["ending"] == TRAINED), None)
    lines = ["", trials_table([*known, *(row for row in rows if row not in known)], space).text()]
    running = len(study.get_trials(False, states=(optuna.trial.TrialState.RUNNING,)))
    if running:
        others = f"{running} other trial{'s are' if running > 1 else ' is'} still running"
        return Outcome(None, [*lines, "", f"{others}: the worker that ends last evaluates the best trial"])
    if best is None:
        return Outcome(None, [*lines, "", "no trial was trained to its end: more --trials, or another space"])
    with ExitStack() as held:
        try:
            held.enter_context(Run(folder).locked())
        except InputError:
            return Outcome(None, [*lines, "", "another worker evaluates the best trial"])
        evaluation = evaluate_best(best["folder"], trust=trust)
        Run(folder).write_json("sweep.json", {"trials": rows, "best": best["trial"], "test": evaluation.score()})
        (figure,) = Run(folder).write_figure("sweep", draw(rows, space))
    shown = folder / Path(best["folder"]).name
    bias = (
        f"Report the test evidence. The validation bound {best['elbo_valid']:.2f} is the highest of {len(known)}, and "
        f"a highest value is too high on average; the test data had no part in the choice."
    )
    lines += [
        "",
        f"the best trial is {best['trial']}, in {shown}",
        str(evaluation.table("test")),
        textwrap.fill(bias, 80),
        f"Check this estimate: python -m ppl_vae evaluate {shlex.quote(str(shown))} --estimators iwae,ais,bdmc",
    ]
    return Outcome(evaluation, lines, [folder / "sweep.json", figure])


def read_trial(trial: optuna.trial.FrozenTrial, space: Space) -> dict[str, Any]:
    """Return what ``sweep.json`` has about a trial."""
    chosen = {dimension.name for dimension in space.dimensions if dimension.choices}
    bounds = trial.intermediate_values.values()
    return {
        "trial": trial.number,
        "values": {k: json.loads(value) if k in chosen else value for k, value in trial.params.items()},
        "elbo_valid": max(bounds) if bounds else None,
        "epochs": trial.user_attrs["epochs"],
        "ending": trial.user_attrs["ending"],
        "folder": trial.user_attrs["folder"],
    }


def evaluate_best(folder: str, *, trust: bool) -> Evaluation:
    """Evaluate a trial on its test data, and write its results and figures, as the end of ``fit`` does."""
    options = parse_options(["--resume", "--output", folder, *(["--trust"] if trust else [])])
    started = time.perf_counter()
    with redirect_stdout(io.StringIO()), trained(options) as (vi, run, data, log):
        return finish(vi, run, data, started, options.num_data, log).result


def trials_table(rows: Sequence[Mapping[str, Any]], space: Space) -> ResultTable:
    """Return the table of the trials, in their order."""
    names = [dimension.name for dimension in space.dimensions]
    columns = (
        Column("trial", "trial"),
        Column("elbo_valid", "valid bound", ".2f"),
        *(Column(name, short(name), rank=2 + place) for place, name in enumerate(names)),
        Column("epochs", "epochs", "d", rank=1),
        Column("ending", "state"),
    )
    named = {str(row["trial"]): row for row in rows}
    texts = {
        name: {key: write(value) for key, value in row["values"].items()}
        | {"ending": row["ending"] if len(row["ending"]) <= 18 else "refused"}
        for name, row in named.items()
    }
    caption = "Trials by their best validation bound (ELBO, nats per datum)"
    numbers = {
        name: {k: row[k] for k in ("elbo_valid", "epochs", "ending") if row[k] is not None} | row["values"]
        for name, row in named.items()
    }
    return ResultTable(caption, columns, numbers, texts)


def draw(rows: Sequence[Mapping[str, Any]], space: Space) -> Figure:
    """Return the figure of the trials."""
    bounds = [math.nan if row["elbo_valid"] is None else row["elbo_valid"] for row in rows]
    values = {dimension.name: [row["values"][dimension.name] for row in rows] for dimension in space.dimensions}
    return plots.bound_over_trials(
        bounds,
        {short(name): of_trials for name, of_trials in values.items()},
        pruned=[row["ending"] != TRAINED for row in rows],
        log=[short(dimension.name) for dimension in space.dimensions if dimension.log],
    )
