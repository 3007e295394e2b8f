"""The trials of a sweep: each is a fit in a folder of its own, whose options Optuna suggests."""

from __future__ import annotations

import io
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae.cli.command import is_out_of_memory
from ppl_vae.cli.configuration import Options, options_of_config
from ppl_vae.cli.fit import trained
from ppl_vae.cli.space import Dimension, Space
from ppl_vae.errors import Diverged, InputError, reason
from ppl_vae.imports import by_need
from ppl_vae.inference import Epoch
from ppl_vae.runs import Run

if TYPE_CHECKING:
    import optuna
else:
    optuna = by_need("optuna")

STALE_SECONDS = 10.0
"""The age from which a trial is taken for interrupted if no process fits its run."""
TRAINED = "trained"
"""How a trial ended that was not stopped."""


def search(study: optuna.Study, space: Space, folder: Path, source: Path, trials: int, *, trust: bool) -> None:
    """Run trials until their number is reached, those of other workers included."""
    while True:
        is_waiting = repeat_interrupted(study)
        if sum(trial.state.name in ("COMPLETE", "PRUNED", "RUNNING") for trial in study.get_trials(False)) >= trials:
            if not is_waiting:
                return
            time.sleep(STALE_SECONDS)  # a trial that was just begun may be that of a process that has been killed
            continue
        trial = study.ask()
        earlier = sum(t.state.name != "FAIL" and t.number < trial.number for t in study.get_trials(False))
        if earlier >= trials:  # another worker took the last one at the same time
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        # The draws depend on the number of the trial and not on the process, so that one that resumes draws others.
        seed = np.random.SeedSequence([int(space.config.get("seed", 0)), trial.number]).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(seed), multivariate=False)
        run_trial(study, trial, space, folder, source, trust=trust)


def repeat_interrupted(study: optuna.Study) -> bool:
    """Mark the trials of this machine as failed whose process has ended, and queue their values again.

    Returns:
        True if a trial was begun so recently that its process may not have the lock of its folder yet.
    """
    is_waiting = False
    for trial in study.get_trials(False, states=(optuna.trial.TrialState.RUNNING,)):
        begun, folder = trial.datetime_start, Path(trial.user_attrs.get("folder", ""))
        if trial.user_attrs.get("host", platform.node()) != platform.node():
            continue
        if begun is not None and (datetime.now() - begun).total_seconds() < STALE_SECONDS:
            is_waiting = True
        elif not trial.user_attrs.get("folder") or not folder.is_dir():
            interrupt(study, trial.number, trial.params)
        else:
            with suppress(InputError), Run(folder).locked():  # else a process trains it
                interrupt(study, trial.number, trial.params)
    return is_waiting


def interrupt(study: optuna.Study, number: int, params: Mapping[str, Any]) -> None:
    """Mark a trial as failed, and queue its values for another."""
    study.tell(number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
    study.enqueue_trial(dict(params))


def run_trial(
    study: optuna.Study, trial: optuna.Trial, space: Space, folder: Path, source: Path, *, trust: bool
) -> None:
    """Train with the values of a trial in a folder of its own, tell the study how it ended, and print a line."""
    states = optuna.trial.TrialState
    output = folder.resolve() / f"trial-{trial.number:03d}"
    output.mkdir(parents=True, exist_ok=True)  # so that the fit has its lock from the beginning
    trial.set_user_attr("host", platform.node())
    trial.set_user_attr("folder", str(output))
    values = {dimension.name: suggest(trial, dimension) for dimension in space.dimensions}
    bounds: list[float] = []
    epochs = 0

    def note(row: Epoch) -> None:
        nonlocal epochs
        epochs = row.epoch
        if not math.isfinite(row.elbo_valid):
            raise InputError("a sweep compares validation bounds, and the data have no validation part: give them one")
        bounds.append(row.elbo_valid)
        trial.report(row.elbo_valid, len(bounds))
        if trial.should_prune():
            raise optuna.TrialPruned

    def end(state: optuna.trial.TrialState, ending: str) -> None:
        trial.set_user_attr("epochs", epochs)
        trial.set_user_attr("ending", ending)
        study.tell(trial, max(bounds) if state == states.COMPLETE else None, state)

    named = ", ".join(f"{short(name)} {write(value)}" for name, value in values.items())
    try:
        train(options_of_config(space.configuration(values), source, output, trust=trust), note)
        end(states.COMPLETE, TRAINED)
    except optuna.TrialPruned:
        end(states.PRUNED, "stopped early")
    except KeyboardInterrupt:
        interrupt(study, trial.number, trial.params)
        raise
    except Exception as error:
        is_own = isinstance(error, InputError | Diverged) or is_out_of_memory(error)
        if not is_own or not study.get_trials(False, states=(states.COMPLETE, states.PRUNED)):
            study.tell(trial, state=states.FAIL)
            if isinstance(error, InputError):
                raise InputError(*(f"trial {trial.number} ({named}): {text}" for text in error.messages)) from error
            raise
        end(states.PRUNED, "diverged" if isinstance(error, Diverged) else reason(error))
    done = study.get_trials(False)[trial.number]
    bound = f"validation bound {max(bounds):.2f}" if bounds else "no validation bound"
    print(f"trial {trial.number}: {named}: {bound}, {done.user_attrs['ending']}, {epochs} epochs", flush=True)


def train(options: Options, note: Callable[[Epoch], object]) -> None:
    """Train in the folder of a trial without the lines that ``fit`` prints, and without its evaluation."""
    with redirect_stdout(io.StringIO()), trained(options, note):
        pass


def suggest(trial: optuna.Trial, dimension: Dimension) -> Any:
    """Return the value of a dimension that the sampler chooses; a choice is stored as JSON, for it may be a list."""
    if dimension.choices:
        texts = [json.dumps(choice) for choice in dimension.choices]
        return json.loads(trial.suggest_categorical(dimension.name, texts))
    if dimension.is_whole:
        low, high = int(dimension.low), int(dimension.high)
        return trial.suggest_int(dimension.name, low, high, step=int(dimension.step or 1), log=dimension.log)
    return trial.suggest_float(dimension.name, dimension.low, dimension.high, step=dimension.step, log=dimension.log)


def short(name: str) -> str:
    """Return the name of a dimension in a table."""
    return name.removeprefix("model.")


def write(value: Any) -> str:
    """Return a value of a dimension in a table."""
    return f"{value:.3g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
