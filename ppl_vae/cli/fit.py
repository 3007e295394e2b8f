"""``python -m ppl_vae.fit``: fit a program to data, learn how good it is, and write a run folder."""

from __future__ import annotations

import ppl_vae.cli.process

# isort: split
import argparse
import json
import platform
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from ppl_vae.cli.figures import write_figures, write_posterior_draws
from ppl_vae.cli.parser import Parser, command, underscored
from ppl_vae.data import DATASETS, Dataset, load_dataset
from ppl_vae.errors import InputError, reason
from ppl_vae.estimator import VariationalInference, check_options
from ppl_vae.runs import Run, build_program, file_and_class, known_models, program_class, read_config

CHECKPOINT_SECONDS = 5.0
"""A checkpoint is written at most this often, and at the end; it syncs to disk, which can cost more than an epoch."""


class Options(NamedTuple):
    """What a fit was asked for."""

    data: dict[str, Any]
    """Arguments of ``load_dataset`` but the seed."""
    settings: dict[str, Any]
    """Arguments of ``VariationalInference``."""
    model: str
    """As given to ``--model``."""
    init_args: dict[str, Any]
    """Arguments of the program's constructor."""
    given: frozenset[str]
    """Names of those that were asked for; the others are defaults."""
    output: Path
    overwrite: bool
    resume: bool


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return command(fit, args)


def fit(args: Sequence[str]) -> None:
    """Fit a program; nothing is written before everything that was asked for has been checked."""
    started = time.perf_counter()
    options = parse(args)
    run = Run(options.output)
    if not options.resume:
        run.free(overwrite=options.overwrite)
    vi = VariationalInference(program=None, **options.settings)
    check_options(vi)
    data = load_dataset(**options.data, seed=vi.seed)
    init_args = fill_in_data_dim(options, data)
    torch.manual_seed(vi.seed)  # the parameters that the program starts from
    vi.set_params(program=build_program(program_class(options.model), init_args))
    config = make_config(options, init_args)
    if options.resume:
        refuse_changes(run, config)
    vi.prepare(
        data.train,
        data.valid,
        dynamic=("x",) if data.binarize == "dynamic" else (),
        resume=run.checkpoint if options.resume else None,
    )
    vi.check_data(data.test)
    if options.resume:
        run.write_config(config)
        row = vi.training_.last_row
        run.rewind(row._asdict() if row else None)
    else:
        run.create(config, overwrite=options.overwrite)
    print(f"data   {data.describe()}")
    print(f"model  {options.model}, {options.settings['guide']} guide, on {vi.fitted.device}, {vi.compiles()}")
    train(vi, run)

    evaluation = vi.evaluate(data.test)
    training = vi.training_
    run.write_summary(
        {
            "test": evaluation.score(),
            "epochs": training.epoch,
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
    )
    write_posterior_draws(run, vi, data)
    write_figures(run, vi, data)
    print(
        f"trained {training.epoch} epochs in {vi.train_seconds_:.1f} s, best epoch {training.best_epoch}; "
        f"{time.perf_counter() - started:.1f} s in all\n\n{evaluation.table('test')}\n\nwritten to {run.path}"
    )
    if "iwae" in evaluation.rows:
        command = f"python -m ppl_vae.evaluate {shlex.quote(str(run.path))} --estimators iwae,ais,bdmc"
        print(f"how far to believe it: {command}")


def train(vi: VariationalInference, run: Run) -> None:
    """Train with a progress bar on a terminal; a line of metrics an epoch, checkpoints on the way and at any end."""
    vi.save(run.checkpoint)
    saved, last = vi.training_.epoch, time.perf_counter()
    bar = tqdm(total=vi.max_epochs, initial=saved, unit="epoch", disable=not sys.stderr.isatty(), leave=False)
    try:
        with bar, sigterm_interrupts():
            for epoch in vi.epochs():
                run.log(epoch._asdict() | {"train_seconds": vi.train_seconds_})
                bar.update()
                bar.set_postfix_str(f"ELBO train {epoch.elbo_train:.2f}, valid {epoch.elbo_valid:.2f} nats per datum")
                if time.perf_counter() - last > CHECKPOINT_SECONDS:
                    vi.save(run.checkpoint)
                    saved, last = epoch.epoch, time.perf_counter()
    finally:
        if vi.training_.epoch > saved:
            vi.save(run.checkpoint)


def parse(args: Sequence[str]) -> Options:
    """Options from the command line, over those of ``--config``, or of the run that ``--resume`` goes on with."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--config", "--model", "--output"):
        first.add_argument(option)
    for flag in ("--resume", "--overwrite"):
        first.add_argument(flag, action="store_true")
    try:
        run_options, rest = first.parse_known_args(underscored(args))
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from error
    if run_options.resume and (run_options.overwrite or run_options.config):
        raise InputError("--resume goes on with a run and its options: leave out --overwrite and --config")
    config = read_config(Path(run_options.config)) if run_options.config else {}
    options = _parse(run_options, rest, config)
    if options.resume:
        options = _parse(run_options, rest, Run.open(options.output).config())
    return options


def _parse(run_options: argparse.Namespace, rest: Sequence[str], config: Mapping[str, Any]) -> Options:
    """A configuration is options that stand before those of the command line."""
    earlier = dict(config)
    model = earlier.pop("model", {})
    if not isinstance(model, Mapping):
        raise InputError(f"the configuration's model is {model!r}: expected class_path and init_args")
    spec = model.get("class_path", "vae") if run_options.model is None else run_options.model
    init_args = model.get("init_args", {})
    if not isinstance(spec, str) or not isinstance(init_args, Mapping):
        raise InputError(
            f"the configuration's model is {model!r}: expected a name as class_path, a mapping as init_args"
        )
    if spec == model.get("class_path"):
        earlier |= {f"model.{name}": value for name, value in init_args.items()}
    parser = make_parser(program_class(spec), spec)
    if "--model.help" in rest:
        rest = ["--help"]
    tokens = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in earlier.items()]
    values = parser.parse_args([*tokens, *rest]).as_dict()
    init_args = values.pop("model", {})
    data = {name: values.pop(name) for name in ("data", "data_root", "binarize", "image_shape")}
    settings = {name: value for name, value in values.items() if name in VariationalInference._get_param_names()}
    name = "-".join((Path(data["data"]).stem, _short(spec), settings["guide"]))
    return Options(
        data=data,
        settings=settings,
        model=spec,
        init_args=init_args,
        given=frozenset(re.findall(r"--model\.(\w+)", " ".join([*tokens, *rest]))),
        output=Path(run_options.output or Path("runs") / name),
        overwrite=run_options.overwrite,
        resume=run_options.resume,
    )


def make_parser(cls: type, spec: str) -> Parser:
    """The parser of all options, those of the program's constructor among them."""
    known = ", ".join(known_models())
    parser = Parser(
        prog="python -m ppl_vae.fit",
        description="Fit a Pyro program to data, learn how good it is, and write a run folder.",
        model_help=f"the program: {known}, path/to/file.py:Class or package.module.Class (default: vae); --model.help",
    )
    run = parser.add_argument_group("Run")
    run.add_argument("--config", help="options from this file, such as a run's config.yaml")
    run.add_argument("--output", help="the run folder; runs/<data>-<model>-<guide> by default")
    run.add_argument("--overwrite", action="store_true", help="replace a run that is there")
    run.add_argument("--resume", action="store_true", help="go on from the last epoch of the run that is there")
    parser.add_function_arguments(load_dataset, skip={"seed"})
    parser.add_class_arguments(VariationalInference, skip={"program", "validation_fraction"})
    try:
        parser.add_class_arguments(cls, "model")
    except Exception as error:
        raise InputError(
            f"--model {spec}: the arguments of {cls.__name__}.__init__ cannot become options ({reason(error)}): give "
            f"each a type, such as latent_dim: int = 10"
        ) from error
    return parser


def fill_in_data_dim(options: Options, data: Dataset) -> dict[str, Any]:
    """The constructor's arguments; ``data_dim`` is the size of a datum unless it was asked for."""
    init_args = dict(options.init_args)
    if "data_dim" in init_args and "data_dim" not in options.given:
        x = data.train.get("x", next(iter(data.train.values())))
        init_args["data_dim"] = x[0].size
    return init_args


def make_config(options: Options, init_args: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config.yaml`` holds: enough to repeat the run with ``--config``, from any folder."""
    data = dict(options.data)
    for name in ("data", "data_root"):
        named = name == "data" and str(data[name]) in DATASETS  # whatever else of that name lies in the folder
        if data[name] is not None and not named and Path(data[name]).expanduser().exists():
            data[name] = str(Path(data[name]).expanduser().resolve())
    path, name = file_and_class(options.model)
    spec = options.model if path is None else f"{path}:{name}".rstrip(":")
    model = {"class_path": spec, "init_args": {k: _plain(v) for k, v in init_args.items()}}
    return {**{k: _plain(v) for k, v in data.items()}, "model": model, **options.settings}


def refuse_changes(run: Run, config: Mapping[str, Any]) -> None:
    """A resumed run is the same experiment: how long and how fast it is trained may change, what is fitted may not."""
    for name in ("data", "binarize", "image_shape", "seed", "model", "guide", "family", "warm_start"):
        if (was := run.option(name)) != config[name]:
            raise InputError(
                f"--resume with another {name}: the run in {run.path} has {was}, asked for is {config[name]}; fit "
                f"another run with --output DIR"
            )


def _short(spec: str) -> str:
    """A model's name in a folder's: ``vae``; ``Class`` of ``package.module.Class`` or ``file.py:Class``; ``file``."""
    path, name = file_and_class(spec)
    return spec.rpartition(".")[2] if path is None else name or path.stem


def _plain(value: Any) -> Any:
    """A value that YAML can hold."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, bool | int | float | str | dict | type(None)) else str(value)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM, which a cluster's scheduler sends before it kills, stops a run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
