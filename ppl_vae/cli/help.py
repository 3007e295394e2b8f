"""The help of a verb, its options in groups and in 80 columns, read from the sources, so that it needs no PyTorch."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl_vae import cli
from ppl_vae.cli import describe_verb, first_line
from ppl_vae.cli.signatures import (
    PACKAGE,
    REQUIRED,
    Definition,
    StatedOption,
    definition,
    find,
    options_of_class,
    options_of_function,
    parameters,
)
from ppl_vae.cli.spelling import hyphenated
from ppl_vae.display.docstrings import first_sentence
from ppl_vae.errors import InputError, nearest

WIDTH, LEFT = 80, 29
GROUPS = {
    "options": "Options",
    "run": "Run",
    "data": "Data",
    "model": "Model",
    "objective": "Objective",
    "local inference": "Local inference",
    "optimiser": "Optimiser",
    "hardware": "Hardware",
    "settings": "Settings",
    "opened": "Figures and device",
}
"""The titles of the groups of options, in their order."""
KINDS = ("TrainingOptions", "FitOptions", "HardwareOptions")
"""The dataclasses of the estimator's options beside those of the methods."""
NOT_SHOWN = {"validation_fraction"}
"""Fields of the estimator's options that are no options of ``fit``: a run's data have parts."""

Groups = dict[str, list[StatedOption]]


def write_help(verb: str, args: Sequence[str]) -> str:
    """Return the help of a verb.

    Args:
        verb: the verb.
        args: the arguments of the command line. The one behind ``--help`` may be the name of a group or of an option,
            whose whole text is returned then, or ``all``.

    Raises:
        InputError: there is no such group or option.
    """
    groups = groups_of(verb, args)
    topic = _topic(args)
    if topic:
        return "\n".join(_lines(_chosen(groups, topic), is_full=True))
    positional = [option.name for group in groups.values() for option in group if option.is_positional]
    shown = "".join(f" {name.upper()}" for name in positional)
    head = textwrap.fill(describe(verb), WIDTH)
    more = f"python -m ppl_vae {verb} --help OPTION, or --help all."
    foot = textwrap.fill(f"Defaults are in parentheses. For the whole text: {more}", WIDTH)
    lines = [f"usage: python -m ppl_vae {verb}{shown} [options]", head, *_lines(groups), "", foot]
    return "\n".join(lines)


def describe(verb: str) -> str:
    """Return the sentence about a verb, and that of its function if it differs."""
    sentences = describe_verb(verb), first_line(_function(verb).node)
    return " ".join(dict.fromkeys(sentences)).replace("``", "")


def groups_of(verb: str, args: Sequence[str] = ()) -> Groups:
    """Return the options of a verb in groups, in the order of the help."""
    options = list(_of_fit(args) if verb == "fit" else _of_verb(verb))
    groups: Groups = {}
    for option in options:
        groups.setdefault(option.group or "options", []).append(option)
    return {name: groups[name] for name in GROUPS if name in groups}


def _of_verb(verb: str) -> Iterator[StatedOption]:
    """Yield the options of a verb's function; a parameter that is a dataclass stands for all options of that class."""
    function = _function(verb)
    left_out = function.find("LEFT_OUT")
    skip = ast.literal_eval(left_out.node) if left_out else ()
    for option, (argument, default) in zip(options_of_function(function), parameters(function.node), strict=True):
        annotation = ast.unparse(argument.annotation)
        kind = function.find(annotation)
        if annotation == "OpenRun":
            for stated in options_of_function(definition("open_run", "cli/opened.py")):
                yield stated._replace(group="options" if stated.default is REQUIRED else "opened")
        elif kind is not None and isinstance(kind.node, ast.ClassDef):
            given = _given(default, kind)
            for field in options_of_class(kind):
                if field.name not in skip:
                    yield field._replace(default=given.get(field.name, field.default), group=field.group or "settings")
        else:
            yield option
    if verb in ast.literal_eval(definition("IN_SHARDS", "cli/launching.py").node):
        yield from _of_processes()


def _function(verb: str) -> Definition:
    """Return the function of a verb."""
    file = next(path for folder in cli.__path__ if (path := Path(folder) / f"{verb}.py").is_file())
    function = find(verb, file)
    assert function is not None, f"{file} defines no {verb}"
    return function


def _given(call: Any, kind: Definition) -> dict[str, Any]:
    """Return the fields that the default of a parameter gives, such as ``Selection(num_data=1000)``."""
    if not isinstance(call, ast.Call):
        return {}
    names = [field.name for field in options_of_class(kind)]
    values = dict(zip(names, map(ast.literal_eval, call.args), strict=False))
    return values | {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}


def _of_processes() -> Iterator[StatedOption]:
    processes = options_of_class(definition("Processes", "cli/launching.py"))
    yield from (option._replace(group="hardware") for option in processes)


def _of_fit(args: Sequence[str]) -> Iterator[StatedOption]:
    """Yield the options of ``fit``: those of the run, of data, of every method, of training, and of the model."""
    yield from options_of_class(definition("RunOptions", "cli/configuration.py"))
    data = options_of_function(definition("load_dataset", "data/load.py"))
    yield from (option._replace(group="data") for option in data if option.name != "seed")
    estimator = definition("VariationalInference", "estimator/variational_inference.py")
    methods = definition("METHODS", "inference/methods.py")
    by_name = dict(zip(map(ast.literal_eval, methods.node.keys), methods.node.values, strict=True))
    guide = next(option for option in options_of_function(estimator) if option.name == "guide")
    yield guide._replace(metavar="NAME", choices=tuple(by_name), group="objective")
    yield from _of_model(args)
    kinds = [_options_class(methods.find(ast.unparse(method))) for method in by_name.values()]
    kinds += [definition(name, "estimator/options.py") for name in KINDS]
    options: dict[str, StatedOption] = {}
    for kind in kinds:
        options = {option.name: option for option in options_of_class(kind)} | options
    yield from (option for name, option in options.items() if name not in NOT_SHOWN)
    yield from _of_processes()


def _options_class(method: Definition | None) -> Definition:
    """Return the class of the options of a method of inference."""
    assert method is not None
    stated = (node for node in method.node.body if isinstance(node, ast.Assign))
    name = next(ast.unparse(node.value) for node in stated if ast.unparse(node.targets[0]) == "Options")
    source = method.find(name)
    assert source is not None
    return source


def _of_model(args: Sequence[str]) -> Iterator[StatedOption]:
    """Yield ``--model`` and the options of the program's constructor, if its file can be read without executing it."""
    spec = _model_of(args)
    known = sorted(path.stem for path in (PACKAGE / "models").glob("*.py") if path.stem != "__init__")
    forms = "program: file.py:Class, package.module.Class, or a model of the gallery, such as vae or hmm"
    text = f"{forms}. Its own options follow. The gallery has {', '.join(known)}."
    yield StatedOption("model", "NAME", (), "vae", text, "model")
    if (source := _program(spec, known)) is not None:
        for option in options_of_function(source):
            yield option._replace(name=f"model.{option.name}", group="model")


def _program(spec: str, known: Sequence[str]) -> Definition | None:
    file, _, name = spec.partition(":")
    path = PACKAGE / "models" / f"{spec}.py" if spec in known else Path(file).expanduser()
    if not (path.suffix == ".py" and path.is_file()):
        return None
    try:
        if name:
            return find(name, path.resolve())
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"--model {spec}: {path} cannot be read: {error}") from error
    programs = [node.name for node in nodes if isinstance(node, ast.ClassDef) and _has_model(node)]
    return find(programs[0], path.resolve()) if len(programs) == 1 else None


def _has_model(node: ast.ClassDef) -> bool:
    return any(isinstance(part, ast.FunctionDef) and part.name == "model" for part in node.body)


def _model_of(args: Sequence[str]) -> str:
    for place, arg in enumerate(args):
        if arg == "--model" and place + 1 < len(args):
            return args[place + 1]
        if arg.startswith("--model="):
            return arg.partition("=")[2]
    return "vae"


def _topic(args: Sequence[str]) -> str:
    """Return the argument behind ``--help``, as a name; empty if there is none."""
    places = [place for place, arg in enumerate(args) if arg in ("-h", "--help")]
    behind = args[places[0] + 1 : places[0] + 2] if places else []
    return "" if not behind or behind[0].startswith("--model") else behind[0].strip("-").lower()


def _chosen(groups: Groups, topic: str) -> Groups:
    """Return the options that a topic names: those of a group, a single one, or all."""
    if topic == "all":
        return groups
    if topic.replace("-", " ") in groups:
        return {topic.replace("-", " "): groups[topic.replace("-", " ")]}
    by_name = {written(option).strip("-"): (group, option) for group, part in groups.items() for option in part}
    if topic not in by_name:
        raise InputError(f"no option or group {topic!r}; {nearest(topic, [*by_name, *groups])}")
    group, option = by_name[topic]
    return {group: [option]}


def written(option: StatedOption) -> str:
    """Return the name of an option as a user writes it."""
    return option.name.upper() if option.is_positional else hyphenated(f"--{option.name}")


def _lines(groups: Mapping[str, Iterable[StatedOption]], *, is_full: bool = False) -> Iterator[str]:
    for number, (group, options) in enumerate(groups.items()):
        if number or not is_full:
            yield ""
        yield f"{GROUPS[group]}:"
        for option in options:
            yield from _entry(option, is_full=is_full)


def _entry(option: StatedOption, *, is_full: bool) -> Iterator[str]:
    """Yield the lines of an option: its name, and beside it its text and its default."""
    text = option.help.replace("``", "")
    text = text if is_full else first_sentence(text)
    if option.choices and not all(choice in text for choice in option.choices):
        text += f": {', '.join(option.choices[:-1])} or {option.choices[-1]}" if not is_full else ""
        text += f" ({', '.join(option.choices)})" if is_full else ""
    if option.default not in (REQUIRED, None, False):
        text = re.sub(r" \(default: \w+\)", "", text)  # that of most verbs, which is not that of this one
        text += "" if "default" in text else f" ({write_value(option.default)})"
    name = f"  {written(option)} {'' if option.is_positional else option.metavar}".rstrip()
    lines = textwrap.wrap(text, WIDTH - LEFT, break_on_hyphens=False, break_long_words=False) or [""]
    if len(name) > LEFT - 2:
        yield name
        name = ""
    yield f"{name:<{LEFT}}{lines[0]}"
    yield from (f"{'':<{LEFT}}{line}" for line in lines[1:])


def write_value(value: Any) -> str:
    """Return a value as a user writes it on the command line or in a configuration file.

    Example:
        >>> write_value(None), write_value(False), write_value((256, 64)), write_value("vae")
        ('null', 'false', '[256,64]', 'vae')
    """
    plain = list(value) if isinstance(value, tuple) else value
    return value if isinstance(value, str) else json.dumps(plain, separators=(",", ":"), default=str)
