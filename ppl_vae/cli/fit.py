"""The verb ``fit``."""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

import ppl_vae
from ppl_vae import plots
from ppl_vae.cli.configuration import Options, fill_in, make_config, name_arguments, parse_options, refuse_changes
from ppl_vae.cli.opened import OpenRun, Outcome, Selection
from ppl_vae.data import Dataset, describe_columns, is_table, load_dataset
from ppl_vae.errors import Diverged, InputError
from ppl_vae.estimator import VariationalInference, check_options
from ppl_vae.estimator.preparation import Watch
from ppl_vae.estimator.progress import FitProgress
from ppl_vae.estimator.warrant import check_resumed, fingerprint, resumed, take_fingerprints, warn_of_seen_data
from ppl_vae.evaluation.conditional import conditional_log_likelihood
from ppl_vae.evaluation.estimators import estimators_to_check
from ppl_vae.inference import Epoch
from ppl_vae.inference.plateau import more_epochs
from ppl_vae.inference.training_options import parse_interval
from ppl_vae.networks import ImageEncoder
from ppl_vae.parallel import Ranks, present
from ppl_vae.runs import Fingerprints, NamedProgram, Run, program_class, write_posterior
from ppl_vae.runs.files import digest
from ppl_vae.runs.loggers import Loggers
from ppl_vae.runs.tables import digest_array
from ppl_vae.uses.pictures import picture_reconstructions, picture_sites

CHECKPOINT_SECONDS = 5.0
"""The least time between two checkpoints, but for the last; one syncs to disk, which can cost more than an epoch."""
FOLDER = "the folder of the fit"
"""What a process remembers: "begun" or "made", so that after a restart it goes on with the folder that it had made."""
POSTERIOR_DATA, POSTERIOR_DRAWS = 256, 32
RECONSTRUCTIONS, PRIOR_DRAWS, LATENT_DATA = 20, 64, 5000


def parse(args: Sequence[str]) -> dict[str, Any]:
    """Return the options of ``fit``."""
    return {"options": parse_options(args)}


def fit(options: Options) -> Outcome:
    """Fit a Pyro program to data, and estimate its log evidence.

    Nothing is written before all options have been checked.
    """
    started = time.perf_counter()
    with trained(options) as (vi, run, data, log):
        is_first = vi.training_.ranks.is_first
        return finish(vi, run, data, started, options.num_data, log) if is_first else Outcome(None)


@contextmanager
def trained(
    options: Options, note: Callable[[Epoch], object] | None = None
) -> Iterator[tuple[VariationalInference, Run, Dataset, Loggers]]:
    """Train in a run folder under its lock, and yield the estimator, the folder, the data and the loggers.

    Args:
        options: the options of the fit.
        note: a function that is called with each row of metrics. An error that it raises ends the training, whose
            state is saved.
    """
    run, ranks = Run(options.output), present()
    options = after_restart(options, run, ranks)
    log = Loggers(options.logger if ranks.is_first else None, run.path / "logs", run.path.name)
    with ExitStack() as held:
        if ranks.is_first:
            if not options.resume:
                run.free(overwrite=options.overwrite)
            if is_locked := run.path.is_dir():
                held.enter_context(run.locked())
        vi, data, config, fingerprints = prepare(options, run)
        check_same_start(vi, config, fingerprints, ranks)
        if not ranks.is_first:
            train(vi, run, log)
            yield vi, run, data, log
            return
        if options.resume:
            row = vi.training_.last_row
            run.rewind(row._asdict() if row else None)
            run.write_config(config)
            fingerprints.write(run.path)
        else:
            if not is_locked:  # even if the folder is there by now: another fit may have made it in the meantime
                held.enter_context(run.locked())
            ranks.remember(FOLDER, "begun")
            run.create(config, fingerprints, overwrite=options.overwrite)
        ranks.remember(FOLDER, "made")
        held.enter_context(log).start(config, vi.training_.place.taken)
        print(f"data   {data.describe()}")
        for line in [*(describe_columns(data.arrays_columns) if data.arrays_columns else []), *data.notes]:
            print(f"       {line}")
        for line in vi.describe_data():
            print(f"       {line}")
        print(f"model  {options.model}, {options.settings['guide']} guide, on {on_devices(vi, ranks)}, {vi.compiles()}")
        for remark in vi.remarks_:
            print(remark)
        train(vi, run, log, note)
        yield vi, run, data, log


def after_restart(options: Options, run: Run, ranks: Ranks) -> Options:
    """Return the options of a fit; a fit that the launcher starts again continues its run."""
    state = ranks.recall(FOLDER)
    if state is None:
        return options
    resume = state == "made" and run.checkpoint.is_file()  # else a checkpoint there may be that of an earlier fit
    return options._replace(resume=resume, overwrite=not resume)


def check_same_start(
    vi: VariationalInference, config: Mapping[str, Any], fingerprints: Fingerprints, ranks: Ranks
) -> None:
    """Check that all processes start from the same data, options, parameters and state of the optimiser."""
    if ranks.size > 1:
        tensors, numbers = vi.training_.state()
        written = digest({"numbers": numbers, "config": config, "data": fingerprints.data, "sites": vi.sites_})
        ranks.check_equal("the options or the data", written, "give all processes the same files")
        state = {name: digest_array(tensor.cpu().numpy()) for name, tensor in tensors.items()}
        remedy = "a program draws its first parameters from torch's generator alone, so that the seed decides them"
        ranks.check_equal("the first parameters", digest(state), remedy)


def on_devices(vi: VariationalInference, ranks: Ranks) -> str:
    """Return the device of a fit, and the number of processes if there are several."""
    return f"{vi.fitted.device}" if ranks.size == 1 else f"{ranks.size} processes ({vi.fitted.device.type})"


def prepare(options: Options, run: Run) -> tuple[VariationalInference, Dataset, dict[str, Any], Fingerprints]:
    """Do all that can fail before training, and return the estimator, the data, the configuration and fingerprints."""
    vi = VariationalInference(program=None, **options.settings)
    check_options(vi)
    program = program_class(options.model)
    if is_table(options.data["data"]):
        options.data["arguments"] = name_arguments(program, options.data["arguments"])
    data = load_dataset(**options.data, seed=vi.seed)
    init_args = fill_in(options, data)
    vi.set_params(program=NamedProgram(options.model, init_args))
    program = vi.origin.program
    check_layout(program, data)
    dynamic = ("x",) if data.binarize == "dynamic" else ()
    first = None if options.start_from is None or options.resume else Run.open(options.start_from)
    start = None if first is None else first.checkpoint
    if options.find_learning_rate and not options.resume:
        search = vi.find_learning_rate(data.train, dynamic=dynamic)
        if present().is_first:
            print(search)
        vi.set_params(learning_rate=search.suggestion)
        options.settings["learning_rate"] = search.suggestion
    config = make_config(options, init_args)
    before = None
    if options.resume:
        if not options.accept_changes:
            refuse_changes(run, config)
        before = check_resumed(run, program, config, data, accept_changes=options.accept_changes)
        vi.fingerprints_ = before
    vi.prepare(
        data.train,
        data.valid,
        others=(data.test,),
        dynamic=dynamic,
        start=start,
        resume=run.checkpoint if options.resume else None,
    )
    vi.check_data(data.test)
    of_data = fingerprint(data) if before is None else before.data  # a resumed fit has the same, as was checked
    if first is not None:
        warn_of_seen_data(first, of_data)
    fingerprints = take_fingerprints(program, vi.program_, config, of_data)
    vi.fingerprints_ = resumed(before, fingerprints, accept_changes=options.accept_changes)
    return vi, data, config, vi.fingerprints_


def check_layout(program: object, data: Dataset) -> None:
    """Refuse vectors of pixels whose channels come last, if convolutions would read them with the channels first."""
    reads_images = isinstance(program, nn.Module) and any(isinstance(m, ImageEncoder) for m in program.modules())
    if reads_images and len(data.image_shape or ()) == 3 and data.train["x"].ndim == 2:
        height, width, channels = data.image_shape or ()
        raise InputError(
            f"{data.name}: a datum of x is a vector whose channels come last, image_shape {data.image_shape}, and "
            f"convolutions read the channels first: save x with shape (N, {channels}, {height}, {width})"
        )


def finish(
    vi: VariationalInference, run: Run, data: Dataset, started: float, num_data: int | None, log: Loggers
) -> Outcome:
    """Estimate the evidence of some test data, or of all, and write the results into the run folder and the logs."""
    fitted, given = OpenRun(run, vi, data, ("png",)), len(next(iter(data.test.values())))
    is_part = num_data is not None and num_data < given
    evaluation = vi.evaluate(fitted.select(Selection(num_data=num_data)) if is_part else data.test)
    training, row = vi.training_, vi.training_.last_row
    summary = {
        "test": evaluation.score(),
        "epochs": row.epoch if row else 0,
        "best_epoch": training.best_epoch,
        "valid_elbo": training.best_elbo,
        "train_seconds": vi.train_seconds_,
        "num_train": len(next(iter(data.train.values()))),
        "device": str(vi.fitted.device),
        "versions": {
            "ppl_vae": ppl_vae.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pyro": version("pyro-ppl"),
        },
    }
    run.write_summary(summary)
    _write_posterior_draws(fitted)
    _write_figures(fitted)
    log.end(summary, {path.stem: path for path in sorted(run.path.glob("figures/*.png"))})
    place = training.place
    length = f"{place.epochs} epochs" + (f" and {place.steps:,} steps" if place.steps else "")
    course = _course(vi)
    sample = f"\n{num_data:,} of {given:,} test data, drawn by the seed; --num-data takes more" if is_part else ""
    lines = [
        f"trained {length} in {vi.train_seconds_:.1f} s, best epoch {training.best_epoch}; "
        f"{time.perf_counter() - started:.1f} s in all\n{course}\n{evaluation.table('test')}{sample}\n\n"
        f"written to {run.path}"
    ]
    if "iwae" in evaluation.rows:
        options = f"{shlex.quote(str(run.path))} --estimators {','.join(estimators_to_check(vi.inference_.posterior))}"
        lines += [f"Check this estimate: python -m ppl_vae evaluate {options}"]
    return Outcome(evaluation, lines)


def _course(vi: VariationalInference) -> str:
    """Report in a line if the validation bound still rises, with a remedy if it does; empty without validations."""
    if not vi.history_:
        return ""
    state = vi.convergence_
    if state.has_converged or not state.is_known:
        return f"{state}\n"
    return f"{state}; go on with --resume --stop plateau --max-epochs {more_epochs(vi.history_)}\n"


def train(vi: VariationalInference, run: Run, log: Loggers, note: Callable[[Epoch], object] | None = None) -> None:
    """Train, and show the progress; log the metrics of every validation, and save checkpoints and the final state.

    The loggers get the same numbers, and the number of steps per second. The first of several processes logs and saves.
    If they own lambda, they send it for a checkpoint, which therefore is not written when one of them stops.
    """
    training, ranks = vi.training_, vi.training_.ranks
    together, done = ranks.size > 1 and bool(vi.inference_.tables), False
    every = parse_interval("checkpoint_every", training.options.checkpoint_every)
    vi.save_checkpoint(run.checkpoint)
    saved, last = training.place, time.perf_counter()
    logged, logged_at = saved.taken, vi.train_seconds_
    try:
        with FitProgress(vi, is_shown=ranks.is_first) as progress:
            for row in _noted_stretches(vi, run, progress.watched if progress.is_shown else None):
                if row is not None:
                    if ranks.is_first:
                        numbers = row._asdict() | {"train_seconds": vi.train_seconds_}
                        run.log(numbers)
                        rate = (row.step - logged) / max(vi.train_seconds_ - logged_at, 1e-9)
                        log.row(row.step, numbers | {"steps_per_second": rate})
                        logged, logged_at = row.step, vi.train_seconds_
                    progress.note(row)
                    if note is not None:
                        note(row)
                steps, seconds = training.place.taken - saved.taken, time.perf_counter() - last
                is_due = every.has_passed(steps, seconds) if every else seconds > CHECKPOINT_SECONDS
                if ranks.decide(is_due) if together else is_due:
                    vi.save_checkpoint(run.checkpoint)
                    saved, last = training.place, time.perf_counter()
        done = True
    except KeyboardInterrupt as error:
        if ranks.is_first:
            resume = f"python -m ppl_vae fit --resume --output {shlex.quote(str(run.path))}"
            error.args = (f"stopped in epoch {training.epoch + 1}; {resume} continues the run",)
        raise
    finally:
        if training.place.taken > saved.taken and (done or not together):
            vi.save_checkpoint(run.checkpoint)


def _noted_stretches(vi: VariationalInference, run: Run, watch: Watch | None) -> Iterator[Epoch | None]:
    """Train by stretches; an error of the program gets a note below its traceback about what is saved."""
    try:
        yield from vi.stretches(watch)
    except (InputError, Diverged):
        raise
    except Exception as error:
        place = vi.training_.place
        after = f"step {place.steps} of epoch {place.epochs + 1}" if place.steps else f"epoch {place.epochs}"
        error.add_note(
            f"The program {vi.program_.name} raised this error in epoch {place.epochs + 1} of its training. The state "
            f"after {after} is in {run.checkpoint}: mend the program, and python -m ppl_vae fit --resume --output "
            f"{shlex.quote(str(run.path))} --accept-changes goes on from there."
        )
        raise


def _write_posterior_draws(fitted: OpenRun) -> None:
    """Write ``posterior.nc``: posterior and posterior-predictive draws of some test data."""
    arrays = fitted.select(Selection(num_data=POSTERIOR_DATA))
    draws = fitted.vi.posterior(arrays, num_samples=POSTERIOR_DRAWS)
    write_posterior(
        fitted.run.path / "posterior.nc",
        posterior=draws.latents,
        posterior_predictive={name: _compact(array) for name, array in draws.observed.items()},
        observed_data={name: _compact(array) for name, array in draws.data.items()},
        rows=arrays["_row"],
        shared=draws.shared,
        log_likelihood=conditional_log_likelihood(fitted.vi.fitted, draws, arrays),
    )


def _write_figures(fitted: OpenRun) -> None:
    """Write ``figures/``: the ELBO over epochs, reconstructions, draws from the prior, the latent space."""
    vi = fitted.vi
    arrays = fitted.select(Selection(num_data=RECONSTRUCTIONS))
    *data_and_means, look = picture_reconstructions(
        vi.fitted, vi.posterior(arrays, num_samples=32), fitted.data, arrays.get("lengths")
    )
    figures = {
        "elbo": plots.elbo_over_epochs(fitted.run.metrics()),
        "reconstructions": plots.reconstructions(*data_and_means, **look),
    }
    if vi.generates:
        lengths = fitted.new_lengths(PRIOR_DRAWS)
        means = vi.fitted.most_probable(vi.prior(PRIOR_DRAWS, **lengths).means)
        picture = picture_sites(means, fitted.data, lengths.get("lengths"))
        title = f"Draws from the prior: {vi.fitted.name_of_means} of x given z"
        look = {"image_shape": picture.shape, "light": picture.light}
        figures["prior"] = plots.prior_samples(picture.array, **look, title=title)
    if vi.has_latents:
        arrays = fitted.select(Selection(num_data=LATENT_DATA))
        labels = arrays.get("y")
        plane = vi.transform(arrays)
        figures["latents"] = plots.latent_space(plane, labels if labels is not None and labels.ndim == 1 else None)
    fitted.write_figures(figures)


def _compact(array: np.ndarray) -> np.ndarray:
    """Return bits as bytes, which take a quarter of the memory."""
    return array.astype(np.int8) if np.isin(array, (0, 1)).all() else array
