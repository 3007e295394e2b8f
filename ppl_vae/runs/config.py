"""The configuration of a run, with which it can be repeated, and the program that it names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from ppl_vae.errors import InputError, nearest, reason
from ppl_vae.imports import import_torchvision, lacks_operators
from ppl_vae.runs.files import read_text
from ppl_vae.runs.modules import import_file

GALLERY = "ppl_vae.models"
MOST_BYTES, MOST_PARTS = 2**20, 20_000
"""The largest size of a configuration, and number of values in it."""


def known_models() -> list[str]:
    """Return the names of the programs in the gallery, which are the files in ``ppl_vae/models``."""
    gallery = importlib.util.find_spec(GALLERY)
    assert gallery is not None
    return sorted(m.name for m in pkgutil.iter_modules(gallery.submodule_search_locations))


def program_class(spec: str) -> Callable[..., Any]:
    """Return the class that ``--model`` names, or the function that builds a program.

    Args:
        spec: name in the gallery (``vae``), ``package.module.Class``, or ``path/to/file.py:Class``, or a function in
            place of a class; a class may be left out if its file has only one program.

    Raises:
        InputError: if there is no such name, file, class or function, or the class has no ``model``.

    Example:
        >>> program_class("vae")
        <class 'ppl_vae.models.vae.VAE'>
    """
    path, name = file_and_class(spec)
    if path is not None:
        if not path.is_file():
            raise InputError(f"no file {path} for --model {spec}")
        module, where = _import_file(path), str(path)
    elif "." in spec:
        where, _, name = spec.rpartition(".")
        if not where or not name:
            raise InputError(f"--model {spec!r} is no name, no package.module.Class and no path/to/file.py:Class")
        module = _import(where, spec)
    elif spec in known_models():
        where, name = f"{GALLERY}.{spec}", ""
        module = _import(where, spec)
    else:
        raise InputError(
            f"unknown model {spec!r}; {nearest(spec, known_models())}; or file.py:Class, or package.module.Class"
        )
    programs = {
        n: c
        for n, c in vars(module).items()
        if inspect.isclass(c) and c.__module__ == module.__name__ and callable(getattr(c, "model", None))
    }
    if not name and len(programs) == 1:
        return next(iter(programs.values()))
    named: Any = getattr(module, name, None)
    if name in programs or callable(getattr(named, "model", None)) or inspect.isfunction(named):
        return named
    if not name and programs:
        raise InputError(f"{where} has {len(programs)} programs; name one: {spec}:Class ({', '.join(programs)})")
    if not name:
        raise InputError(
            f"{where} has no program: put model(self, x) and guide(self, x) into a class, or name a function that "
            f"builds one, {spec}:function"
        )
    if inspect.isclass(named):
        raise InputError(f"the class {name!r} in {where} is no program: it needs a method model(self, x)")
    raise InputError(f"no class {name!r} in {where}; {nearest(name, programs) if programs else 'it has no program'}")


def file_and_class(spec: str) -> tuple[Path | None, str]:
    """Split ``path/to/file.py:Class`` into an absolute path and a name, which may be empty; other specs have no path.

    Example:
        >>> path, name = file_and_class("models.py/mine.py:Mine")
        >>> path.name, name, file_and_class("vae")
        ('mine.py', 'Mine', (None, ''))
    """
    if match := re.fullmatch(r"(.+\.py)(?::(\w+))?", spec):
        return Path(match.group(1)).expanduser().resolve(), match.group(2) or ""
    return None, ""


def check_trust(spec: str, folder: Path | None) -> None:
    """Check that a program file that a configuration names may be executed without a question.

    It may, if it lies in the working tree, which is the folder of the process or the repository around it, and outside
    the folder of the run: somebody else's folder with a program of its own is not executed by accident.

    Args:
        spec: the program, as in ``program_class``.
        folder: the run folder that names it.

    Raises:
        InputError: the file is in the run folder, or outside the working tree.
    """
    path, _ = file_and_class(spec)
    if path is None:
        return
    tree = working_tree()
    if folder is not None and path.is_relative_to(folder.resolve()):
        where = f"in the run folder {folder}"
    elif not path.is_relative_to(tree):
        where = f"outside the working tree {tree}"
    else:
        return
    raise InputError(
        f"the run's program {path} lies {where}, and would be executed: read it first, then add --trust "
        f"(trust=True in Python)"
    )


def working_tree() -> Path:
    """Return the folder of the process, or that of the repository around it."""
    here = Path.cwd().resolve()
    home = Path(os.environ.get("HOME", "/")).resolve()
    for folder in (here, *here.parents):
        if (folder / ".git").exists() and folder not in (home, *home.parents):
            return folder
    return here


def build_program(make: Callable[..., Any], init_args: Mapping[str, Any]) -> Any:
    """Construct a program.

    Args:
        make: the class of the program, or a function that builds one.
        init_args: its arguments by name.

    Raises:
        InputError: if the arguments are refused, or a function builds something else.
    """
    try:
        program = make(**as_annotated(make, init_args))
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{make.__name__} cannot be made with {dict(init_args)}, {reason(error)}; --model.help lists its options"
        ) from error
    if not callable(getattr(program, "model", None)):
        raise InputError(
            f"{make.__name__} builds an object of type {type(program).__name__}, which has no model(x): it must build "
            f"a program"
        )
    return program


def as_annotated(make: Callable[..., Any], init_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a program with tuples where they are expected; a configuration file has lists alone.

    A list becomes a tuple if the argument is annotated as one, or if it is annotated otherwise and the list has the
    values of a default that is a tuple. Without an annotation it stays a list, as it was given.

    Example:
        >>> from collections.abc import Sequence
        >>> def make(first: tuple[int, ...] = (1,), second: Sequence[int] = (2,), third=(3,)): ...
        >>> as_annotated(make, {"first": [1, 2], "second": [2], "third": [3]})
        {'first': (1, 2), 'second': (2,), 'third': [3]}
    """
    arguments = dict(init_args)
    try:
        parameters = inspect.signature(make, eval_str=True).parameters
    except (ValueError, NameError, TypeError):  # no signature, or an annotation that cannot be read
        return arguments
    for name, value in init_args.items():
        if isinstance(value, list) and name in parameters:
            kind, default = parameters[name].annotation, parameters[name].default
            kinds = {kind, get_origin(kind), *map(get_origin, get_args(kind)), *get_args(kind)}
            is_default = isinstance(default, tuple) and value == _as_list(default)
            if tuple in kinds or (is_default and kind is not inspect.Parameter.empty):
                arguments[name] = tuple(value)
    return arguments


def _as_list(value: Any) -> Any:
    return [_as_list(part) for part in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class NamedProgram:
    """A program by its name and its arguments; a call builds it.

    A pickle holds the name and the arguments, so that the program may be one of a file.

    Args:
        name: the name, as ``--model`` takes it.
        init_args: arguments of the class, or of the function that builds the program.
    """

    name: str
    init_args: Mapping[str, Any]

    def __call__(self) -> Any:
        """Build the program."""
        return build_program(program_class(self.name), self.init_args)


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file as a dictionary.

    Raises:
        InputError: if there is no file, or it is not a YAML mapping.
    """
    text = read_text(path, "a configuration", "name a YAML file of options", most=MOST_BYTES)
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"the configuration {path} is no YAML: {' '.join(str(error).split())[:300]}") from error
    if _count_parts(config, MOST_PARTS) > MOST_PARTS:
        raise InputError(f"the configuration {path} has more than {MOST_PARTS} values: name a file of options")
    if not isinstance(config, dict):
        raise InputError(f"the configuration {path} is no mapping of options to values")
    for name in config:
        if not isinstance(name, str):
            raise InputError(f"the configuration {path} has the option {name!r}: expected a name")
    return config


def _count_parts(value: Any, most: int) -> int:
    """Return the number of values in a value, or a number above ``most``; aliases of YAML can multiply without end."""
    count, waiting = 0, [value]
    while waiting and count <= most:
        part = waiting.pop()
        count += 1
        if isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set):
            waiting += part
    return count


def _import(module: str, spec: str) -> Any:
    try:
        return _importing(lambda: importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise InputError(f"no module {module!r} for --model {spec}; {nearest(spec, known_models())}") from error
        raise _cannot_import(module, error) from error
    except Exception as error:
        raise _cannot_import(module, error) from error


def _import_file(path: Path) -> Any:
    try:
        return _importing(lambda: import_file(path))
    except (Exception, SystemExit) as error:
        raise _cannot_import(str(path), error) from error


def _importing(load: Callable[[], Any]) -> Any:
    """Import a program, and again if it imports torchvision beside a PyTorch for which that was not built."""
    try:
        return load()
    except RuntimeError as error:
        if not lacks_operators(error):
            raise
    import_torchvision()
    return load()


def _cannot_import(where: str, error: BaseException) -> InputError:
    line = getattr(error, "lineno", None)
    reason = " ".join(str(error).split())
    return InputError(f"{where}{f':{line}' if line else ''} cannot be imported: {type(error).__name__}: {reason}")
