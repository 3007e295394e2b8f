"""The configuration of a fit: from a command line and a run's ``config.yaml`` to options, and back to a file."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import yaml
from jsonargparse import ActionConfigFile

from ppl_vae.cli.parser import Parser
from ppl_vae.cli.spelling import underscored
from ppl_vae.data import DATASETS, PARTS, Dataset, load_dataset
from ppl_vae.data.columns import size_arguments
from ppl_vae.errors import InputError, raise_together, reason
from ppl_vae.estimator import VariationalInference
from ppl_vae.estimator.options import check_each_option
from ppl_vae.inference.options import Count, check_value
from ppl_vae.recipes import find_configuration
from ppl_vae.runs import Run, check_trust, file_and_class, program_class, read_config
from ppl_vae.runs.folder import NUM_DATA
from ppl_vae.runs.loggers import logger_names


@dataclass(frozen=True)
class RunOptions:
    """The options of a fit that concern its folder. Their values are read first, because they decide about the others.

    Args:
        config: YAML file of options, or the name of a recipe. Options of the command line override it. The config.yaml
            of a run is such a file; a recipe, such as static-mnist-vae, repeats a published result.
        output: run folder to write. By default it is runs/DATA-MODEL-GUIDE.
        overwrite: replace the run in the folder.
        resume: continue the run in the folder. With the value "auto", a run that does not exist yet is started.
        accept_changes: continue although the program has changed. Changed data are always refused.
        start_from: run folder whose parameters are the first ones. The two runs have the same model and guide, and may
            differ in everything else, such as the bound, the data, the learning rate and the seed. The optimiser starts
            anew.
        find_learning_rate: search for a learning rate before training. It takes 200 gradient steps at rising rates
            with a copy of the program; the rate that is found is written into the run's config.yaml.
        trust: execute a program file from elsewhere. These are files that a configuration names inside its run folder,
            or outside the working tree.
        num_data: largest number of test data to evaluate. This is the evaluation at the end of a fit. If there are more
            data, they are drawn by the seed; null takes all.
        logger: further logs, such as csv or csv,wandb. The names are csv, tensorboard, mlflow and wandb. The logs get
            the settings, the bounds of each validation, the figures and the evidence. Their files are in logs/ of the
            run folder; MLflow and W&B write where their own environment variables say.
    """

    group: ClassVar[str] = "run"

    config: str | None = None
    output: str | None = None
    overwrite: bool = False
    resume: bool = False
    accept_changes: bool = False
    start_from: str | None = None
    find_learning_rate: bool = False
    trust: bool = False
    num_data: int | None = NUM_DATA
    logger: str | None = None


class Options(NamedTuple):
    """The options of a fit."""

    data: dict[str, Any]
    """Arguments of ``load_dataset`` but the seed."""
    settings: dict[str, Any]
    """Arguments of ``VariationalInference``."""
    model: str
    """The value of ``--model``."""
    init_args: dict[str, Any]
    """Arguments of the program's constructor."""
    given: frozenset[str]
    """Names of those arguments that are not defaults."""
    num_data: int | None
    """The largest number of test data in the evaluation at the end."""
    logger: str | None
    """The names of the loggers, separated by commas."""
    start_from: str | None
    """The run folder whose parameters are the first ones."""
    output: Path
    overwrite: bool
    resume: bool
    accept_changes: bool
    find_learning_rate: bool


def parse_options(args: Sequence[str]) -> Options:
    """Parse a command line; its options override those of ``--config``, or of the run that ``--resume`` continues."""
    # The constructor of the program decides which options there are, so that --model is parsed before the others.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--config", "--model", "--output"):
        first.add_argument(option)
    for flag in ("--overwrite", "--accept_changes", "--find_learning_rate", "--trust"):
        first.add_argument(flag, action="store_true")
    first.add_argument("--resume", nargs="?", const="always", default="never")
    try:
        run_options, rest = first.parse_known_args(underscored(args))
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from error
    if run_options.resume not in ("always", "auto", "never"):
        raise InputError(f"--resume {run_options.resume}: expected auto, or nothing behind --resume")
    is_auto, run_options.resume = run_options.resume == "auto", run_options.resume == "always"
    if ((run_options.resume or is_auto) and run_options.overwrite) or (run_options.resume and run_options.config):
        raise InputError("--resume goes on with a run and its options: leave out --overwrite and --config")
    if run_options.resume and run_options.find_learning_rate:
        raise InputError("--resume goes on with the learning rate of the run: leave out --find-learning-rate")
    source = find_configuration(run_options.config) if run_options.config else Path()
    config = read_config(source) if run_options.config else {}
    options = _parse(run_options, rest, config, source)
    if options.start_from and options.find_learning_rate:
        raise InputError("--find-learning-rate searches from new parameters: leave out --start-from, or give the rate")
    if is_auto:
        run = Run(options.output)
        run_options.resume = run.checkpoint.is_file()  # it may have been stopped before it had one
        options = options._replace(overwrite=(run.path / "config.yaml").is_file())
    if run_options.resume:
        run = Run.open(options.output)
        options = _parse(run_options, rest, run.config(), run.path)
    return options


def options_of_config(config: Mapping[str, Any], source: Path, output: Path, *, trust: bool = False) -> Options:
    """Return the options of a fit into the folder ``output`` with a configuration, which was read from ``source``."""
    flags = dict.fromkeys(("overwrite", "resume", "accept_changes", "find_learning_rate"), False)
    return _parse(argparse.Namespace(model=None, output=output, trust=trust, **flags), [], config, source)


def _parse(run_options: argparse.Namespace, rest: Sequence[str], config: Mapping[str, Any], source: Path) -> Options:
    """Parse the options over those of a configuration, which comes from a file or a run folder."""
    model = config.get("model", {})
    model = {"class_path": model} if isinstance(model, str) else model  # model: vae
    if not isinstance(model, Mapping):
        raise InputError(f"the configuration's model is {model!r}: expected a name, or class_path and init_args")
    spec = model.get("class_path", "vae") if run_options.model is None else run_options.model
    init_args = model.get("init_args", {})
    if not isinstance(spec, str) or not isinstance(init_args, Mapping):
        raise InputError(
            f"the configuration's model is {model!r}: expected a name as class_path, a mapping as init_args"
        )
    if spec != model.get("class_path", spec):
        init_args = {}  # those of another program
    if run_options.model is None and not run_options.trust:
        check_trust(spec, source if source.is_dir() and config else None)
    make = program_class(spec)
    parser = make_parser(make, spec)
    values, given = _parse_over(parser, rest, {k: v for k, v in config.items() if k != "model"}, init_args)
    data = {name: values.pop(name) for name in inspect.signature(load_dataset).parameters if name != "seed"}
    num_data, logger, start_from = (values.pop(name) for name in ("num_data", "logger", "start_from"))
    settings = {name: value for name, value in values.items() if name in VariationalInference.option_names()}
    name = "-".join((Path(data["data"]).stem, _short_name(spec), settings["guide"]))
    return Options(
        data=data,
        settings=settings,
        model=spec,
        init_args={
            name: _to_plain(value)
            for name, value in values.get("model", {}).items()
            if name in given or not has_bare_tuple(make, name)  # which stays the tuple that it is
        },
        given=frozenset(given),
        num_data=num_data,
        logger=logger,
        start_from=start_from,
        output=Path(run_options.output or Path("runs") / name),
        overwrite=run_options.overwrite,
        resume=run_options.resume,
        accept_changes=run_options.accept_changes,
        find_learning_rate=run_options.find_learning_rate,
    )


def _parse_over(
    parser: Parser, args: Sequence[str], config: Mapping[str, Any], init_args: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse options over those of a configuration; return all values, and the given arguments of the program.

    Raises:
        InputError: options are unknown, or their values are not of their type or out of range; it has a message for
            each of them.
    """
    unknown = parser.unknown([*config, *(f"model.{name}" for name in init_args)])
    config = {name: value for name, value in config.items() if name not in unknown}
    init_args = {name: value for name, value in init_args.items() if f"model.{name}" not in unknown}
    faults, given = list(unknown.values()), list(args)
    args = _after_config(config, init_args, given)
    parsed, messages = parser.parse_all(args)
    if messages:  # the parser stops at the first option of a file that is wrong: each by itself reports all
        required = parser.parse_all([])[1]  # arguments of the program, which are not missing but elsewhere
        wrong = []
        for name, value in config.items():
            _, reported = parser.parse_all(["--config", yaml.safe_dump({name: value})])
            own = [message for message in reported if message not in required]
            faults += own
            wrong += [name] if own else []
        args = _after_config({k: v for k, v in config.items() if k not in wrong}, init_args, given)
        parsed, messages = parser.parse_all(args)
        faults += messages
    if parsed is not None:
        values = parsed.as_dict()
        settings = {name: value for name, value in values.items() if name in VariationalInference.option_names()}
        try:
            number = partial(check_value, "num_data", values["num_data"], Count | None)
            loggers = partial(logger_names, values["logger"])
            raise_together([number, loggers, partial(check_each_option, VariationalInference(None, **settings))])
        except InputError as error:
            faults += error.messages
    if faults:
        raise InputError(*faults)
    return values, parser.parse_args(args, defaults=False).as_dict().get("model", {})


def _after_config(config: Mapping[str, Any], init_args: Mapping[str, Any], args: list[str]) -> list[str]:
    """Return the arguments of a command line behind those of a configuration, which they override."""
    if not config and not init_args:
        return args
    return ["--config", yaml.safe_dump({**config, "model": dict(init_args)}), *args]


def make_parser(make: Callable[..., Any], spec: str) -> Parser:
    """Return the parser of all options, with those of the program's constructor.

    Args:
        make: the class of the program, or a function that builds it.
        spec: the value of ``--model``, for messages.

    Raises:
        InputError: the constructor has an argument that cannot become an option.
    """
    parser = Parser("fit")
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--output", default=argparse.SUPPRESS)
    for flag in ("overwrite", "resume", "accept_changes", "find_learning_rate", "trust"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_function_arguments(load_dataset, skip={"seed"}, as_group=False)
    parser.add_class_arguments(VariationalInference, skip={"program", "validation_fraction"}, as_group=False)
    parser.add_argument("--num_data", type=int | None, default=NUM_DATA)
    parser.add_argument("--logger", type=str | None, default=None)
    parser.add_argument("--start_from", type=str | None, default=None)
    try:
        if inspect.isclass(make):
            parser.add_class_arguments(make, "model")
        else:
            parser.add_function_arguments(make, "model")
    except Exception as error:
        raise InputError(
            f"--model {spec}: the arguments of {make.__name__}{'.__init__' if inspect.isclass(make) else ''} cannot "
            f"become options ({reason(error)}): give each a type, such as latent_dim: int = 10; a function must be one "
            f"that builds a program"
        ) from error
    return parser


def name_arguments(program: Any, asked: str | None) -> str | None:
    """Return the names of the arguments of a class's model, which take the columns of a table that have these names."""
    model = getattr(program, "model", None)
    if asked is not None or model is None:
        return asked
    return ",".join(name for name in inspect.signature(model).parameters if name != "self")


def has_bare_tuple(make: Callable[..., Any], name: str) -> bool:
    """Return True if an argument has no annotation and a default that is a tuple: a list may be given for it."""
    argument = inspect.signature(make).parameters.get(name)
    return argument is not None and argument.annotation is argument.empty and isinstance(argument.default, tuple)


def fill_in(options: Options, data: Dataset) -> dict[str, Any]:
    """Return the constructor's arguments; the data decide some of them, unless they were given.

    These are ``data_dim``, ``columns``, and the number of categories of an array, such as ``num_batches`` of ``batch``.

    Raises:
        InputError: a column of x is texts, and the program takes no ``columns``.
    """
    init_args = dict(options.init_args)
    if "columns" not in init_args:
        data.check_numbers()
    free = init_args.keys() - options.given
    init_args |= size_arguments(free, data.train, standardize=bool(options.settings.get("standardize")))
    for array, columns in data.arrays_columns.items():
        for name in {f"num_{array}s", f"num_{array}es"} & free:
            largest = max(int(np.max(data.part(part)[array])) for part in PARTS)
            init_args[name] = max(len(columns[0].categories), largest + 1)
    return init_args


def make_config(options: Options, init_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``config.yaml`` holds: enough to repeat the run with ``--config``, from any folder."""
    data = dict(options.data)
    for name in ("data", "data_root", "kinds"):
        named = name == "data" and str(data[name]) in DATASETS  # even if the folder has a file of that name
        if data[name] is not None and not named and Path(data[name]).expanduser().exists():
            data[name] = str(Path(data[name]).expanduser().resolve())
    start = None if options.start_from is None else str(Path(options.start_from).expanduser().resolve())
    path, name = file_and_class(options.model)
    spec = options.model if path is None else f"{path}:{name}".rstrip(":")
    model = {"class_path": spec, "init_args": {k: _to_plain(v) for k, v in init_args.items()}}
    return {
        **{k: _to_plain(v) for k, v in data.items()},
        "model": model,
        "num_data": options.num_data,
        "logger": options.logger,
        "start_from": start,
        **options.settings,
    }


def refuse_changes(run: Run, config: Mapping[str, Any]) -> None:
    """Check that a resumed run is the same experiment: only its length and speed may change."""
    fitted = run.options("data", "binarize", "image_shape", "seed", "model", "guide", "family", "warm_start")
    earlier = {"standardize": False, "extra_missing": 0.0, "optimizer": "adam"}  # the values before there were options
    earlier |= {"cut_sequences": None, "start_from": None}
    fitted |= {name: run.config().get(name, value) for name, value in earlier.items()}
    fitted["model"] = _with_defaults(fitted["model"], config["model"]["init_args"])
    for name, was in fitted.items():
        if was != config[name]:
            raise InputError(
                f"--resume with another {name}: the run in {run.path} has {was}, asked for is {config[name]}; fit "
                f"another run with --output DIR"
            )


def _with_defaults(model: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return a configuration of a program with the defaults of arguments that its class did not have at that time."""
    arguments = inspect.signature(program_class(model["class_path"])).parameters
    later = {name: arguments[name].default for name in names if name in arguments and name not in model["init_args"]}
    return {**model, "init_args": {**model["init_args"], **{name: _to_plain(value) for name, value in later.items()}}}


def _short_name(spec: str) -> str:
    """Return a model's name in that of a folder: ``vae``, ``Class`` of ``package.module.Class``, or a file's name."""
    path, name = file_and_class(spec)
    return spec.rpartition(".")[2] if path is None else name or path.stem


def _to_plain(value: Any) -> Any:
    """Return a value that YAML can hold."""
    if isinstance(value, list | tuple):
        return [_to_plain(v) for v in value]
    return value if isinstance(value, bool | int | float | str | dict | type(None)) else str(value)
