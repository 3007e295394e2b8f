"""Options as the sources of functions and dataclasses state them, read without importing them.

The help of a command needs neither PyTorch nor the program that it describes: the files are parsed, not executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ppl_vae.display.docstrings import split_arguments

PACKAGE = Path(__file__).parents[1]
REQUIRED = object()
"""The default of an option that must be given."""
METAVARS = {"int": "N", "float": "X", "str": "TEXT", "bool": "", "Path": "PATH", "Sequence": "LIST", "list": "LIST"}
METAVARS |= {"tuple": "LIST", "Likelihood": "", "Mapping": "LIST"}


class StatedOption(NamedTuple):
    """An option as its source states it."""

    name: str
    metavar: str
    """The kind of its value in a word; empty for an option that is true or false."""
    choices: tuple[str, ...]
    """The values that it may have, if these are few."""
    default: Any
    """The default; ``REQUIRED`` if there is none."""
    help: str
    group: str = ""
    """The group of its source, such as ``optimiser``; empty if none is stated."""

    @property
    def is_positional(self) -> bool:
        """True if its value is given without a name; an argument of the program, ``model.NAME``, always has one."""
        return self.default is REQUIRED and not self.name.startswith("model.")


class Definition(NamedTuple):
    """A definition in a file: of a class, of a function, or of a value."""

    node: Any
    path: Path

    def find(self, name: str) -> Definition | None:
        """Return the definition of a name as this file sees it."""
        return find(name, self.path)


def definition(name: str, file: str) -> Definition:
    """Return the definition of a name in a file of this package, such as ``cli/opened.py``."""
    source = find(name, PACKAGE / file)
    assert source is not None, f"{file} defines no {name}"
    return source


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def find(name: str, path: Path) -> Definition | None:
    """Return the definition of a name as a file sees it, in the file or in another one of this package.

    Args:
        name: the name of a class, a function or a value.
        path: the file.
    """
    module, dot, attribute = name.rpartition(".")
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return Definition(node, path)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return Definition(node.value, path)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            return Definition(node.value, path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ppl_vae"):
            for alias in node.names:
                as_name = alias.asname or alias.name
                if as_name == name and (other := _file_of(node.module or "")) not in (None, path):
                    return find(alias.name, other)
                if dot and as_name == module and (inside := _file_of(f"{node.module}.{alias.name}")):
                    return find(attribute, inside)
    return None


def _file_of(module: str) -> Path | None:
    """Return the file of a module of this package."""
    stem = PACKAGE.joinpath(*module.split(".")[1:])
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def options_of_function(source: Definition) -> list[StatedOption]:
    """Return an option for each parameter of a function, or of the constructor of a class."""
    help_texts, function = _help_texts(source), source
    if isinstance(source.node, ast.ClassDef):
        constructor = next((part for part in source.node.body if _is_constructor(part)), None)
        if constructor is None:
            return next((options_of_function(base) for base in _bases(source)), [])
        function = Definition(constructor, source.path)
    options = []
    for argument, default in parameters(function.node):
        if argument.arg not in ("self", "cls"):
            metavar, choices = _kind(argument.annotation, source, default)
            text = help_texts.get(argument.arg, "")
            options.append(StatedOption(argument.arg, metavar, choices, _value(default, source), text))
    return options


def _help_texts(source: Definition) -> dict[str, str]:
    """Return the help of arguments, those of the bases of a class too."""
    own = split_arguments(ast.get_docstring(source.node) or "")
    for name, text in own.items():
        if (see := re.fullmatch(r"see ``(\w+)``\.?", text)) and (other := find(see[1], PACKAGE / "models/__init__.py")):
            own[name] = _help_texts(other).get(name, text)
    return {name: text for base in _bases(source) for name, text in _help_texts(base).items()} | own


def _bases(source: Definition) -> Iterator[Definition]:
    """Yield the bases of a class that are defined in this package; nothing for a function."""
    for name in getattr(source.node, "bases", ()):
        if (base := source.find(ast.unparse(name))) is not None and isinstance(base.node, ast.ClassDef):
            yield base


def _is_constructor(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def parameters(node: ast.FunctionDef) -> Iterator[tuple[Any, Any]]:
    """Yield the nodes of the parameters of a function and of their defaults, ``REQUIRED`` for those without one."""
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args]
    defaults = [REQUIRED] * (len(named) - len(arguments.defaults)) + list(arguments.defaults)
    yield from zip(named, defaults, strict=True)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield argument, REQUIRED if default is None else default


def options_of_class(source: Definition) -> list[StatedOption]:
    """Return an option for each field of a dataclass or a named tuple, those of its bases first.

    The class may state the ``group`` of its options, and the metadata of a field may state its own.
    """
    options: dict[str, StatedOption] = {}
    for base in _bases(source):
        options |= {option.name: option for option in options_of_class(base)}
    help_texts, group = split_arguments(ast.get_docstring(source.node) or ""), _group(source)
    for node in source.node.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(node.annotation):
            continue
        name, default, own_group = node.target.id, node.value or REQUIRED, group
        if isinstance(default, ast.Call) and ast.unparse(default.func) == "field":
            keywords = {keyword.arg: keyword.value for keyword in default.keywords}
            metadata = _value(keywords["metadata"], source) if "metadata" in keywords else None
            own_group = (metadata or {}).get("group", group)
            default = keywords["default"]
        metavar, choices = _kind(node.annotation, source, default)
        options[name] = StatedOption(
            name, metavar, choices, _value(default, source), help_texts.get(name, ""), own_group
        )
    return list(options.values())


def _group(source: Definition) -> str:
    """Return the group that a class or the nearest of its bases states; empty if none does."""
    for node in source.node.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "group":
            return str(_value(node.value, source))
    return next((group for base in _bases(source) if (group := _group(base))), "")


def _value(node: Any, source: Definition) -> Any:
    """Return the value of an expression that is a constant, or the name of one."""
    if node is REQUIRED:
        return REQUIRED
    try:
        return ast.literal_eval(node)
    except ValueError:
        if isinstance(node, ast.Name) and (constant := source.find(node.id)):
            return _value(constant.node, constant)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):  # Annealing().num_chains
            kind = source.find(ast.unparse(node.value.func))
            fields = options_of_class(kind) if kind else []
            return next((field.default for field in fields if field.name == node.attr), None)
    return None


def _kind(node: Any, source: Definition, default: Any) -> tuple[str, tuple[str, ...]]:
    """Return the metavariable of an annotation, and the values that it allows if these are few."""
    if node is None:  # without an annotation, the default has the type
        value = _value(default, source)
        return METAVARS.get(type(value).__name__, "TEXT"), ()
    metavars, choices = [], []
    for part in _alternatives(node, source):
        name = ast.unparse(part.value if isinstance(part, ast.Subscript) else part)
        if name == "Literal":
            values = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
            choices += [str(value.value) for value in values if isinstance(value, ast.Constant)]
            metavars += ["NAME"]
        else:
            metavars += [METAVARS.get(name, "TEXT")]
    return next(iter(metavars), "TEXT") if len(set(metavars)) < 2 else _joined(metavars), tuple(choices)


def _joined(metavars: list[str]) -> str:
    kinds = [kind for kind in dict.fromkeys(metavars) if kind]
    return kinds[0] if len(kinds) == 1 else "PATH" if set(kinds) == {"TEXT", "PATH"} else "VALUE"


def _alternatives(node: Any, source: Definition) -> Iterator[Any]:
    """Yield the parts of a union but for None, with aliases of this package resolved."""
    if isinstance(node, ast.BinOp):
        yield from _alternatives(node.left, source)
        yield from _alternatives(node.right, source)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated":
        yield from _alternatives(node.slice.elts[0], source)  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield from _alternatives(ast.parse(node.value, mode="eval").body, source)
    elif isinstance(node, ast.Name | ast.Attribute) and (alias := source.find(ast.unparse(node))):
        if isinstance(alias.node, ast.Subscript | ast.BinOp):
            yield from _alternatives(alias.node, alias)
    else:
        yield node
