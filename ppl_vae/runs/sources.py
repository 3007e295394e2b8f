"""The source files of a program: its own, and those beside it that it imports."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

OWN_PACKAGE = __name__.partition(".")[0]


def sources_of(cls: type) -> dict[str, list[str]]:
    """Return two digests of each source file of a program's class, by the name of the file.

    The first digest is that of the file, the second that of its code without comments, docstrings and spaces. A class
    of a package has the files of that package that it imports; one that was typed in has none.
    """
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or module.__name__ == "__main__":
        return {}
    path, top = Path(file), module.__name__.partition(".")[0]
    parents = module.__name__.count(".")
    is_packaged = parents and (package := getattr(sys.modules.get(top), "__file__", None)) is not None
    root = Path(package).parents[1] if is_packaged and package is not None else path.parent
    files = source_files(path, root, top if is_packaged else None)
    return {name: list(_digests(file.read_bytes())) for name, file in files.items()}


def source_files(path: Path, root: Path, package: str | None = None) -> dict[str, Path]:
    """Return a source file and all that it imports, and that these import, by their names from the root.

    Args:
        path: the first file.
        root: the folder in which absolute imports are looked for.
        package: the only package whose files count; by default all beside the first file.
    """
    files, waiting = [path], [path]
    while waiting:
        for target in _targets(waiting.pop(), root, package):
            if target not in files:
                files.append(target)
                waiting.append(target)
    return {_name(file, root): file for file in files}


def is_beside(folder: Path, name: str) -> bool:
    """Return True if a folder has a module of this name, to which an import in a program file of the folder refers."""
    if name in sys.stdlib_module_names or name == OWN_PACKAGE:
        return False
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def _targets(file: Path, root: Path, package: str | None) -> Iterator[Path]:
    """Yield the files that a file imports, of the package or beside it."""
    for name in _imported(file, root):
        top = name.partition(".")[0]
        if top == package or (package is None and is_beside(root, top)):
            at = root.joinpath(*name.split("."))
            yield from (path for path in (at.with_name(f"{at.name}.py"), at / "__init__.py") if path.is_file())


def _imported(file: Path, root: Path) -> Iterator[str]:
    """Yield the absolute names of modules that a file may import, also in its functions."""
    try:
        imports = _imports(file.read_bytes())
    except OSError:
        return
    for level, base, names in imports:
        if level:
            try:
                folder = file.parents[level - 1].relative_to(root)
            except (IndexError, ValueError):
                continue
            base = ".".join([*folder.parts, *([base] if base else [])])
        if base:
            yield base
        yield from (f"{base}.{name}" if base else name for name in names)


@lru_cache(maxsize=1000)
def _imports(content: bytes) -> list[tuple[int, str, list[str]]]:
    """Return the level, the module and the names of each import in the content of a file."""
    tree, imports = _parse(content), []
    for node in _executed(tree) if tree is not None else ():
        if isinstance(node, ast.Import | ast.ImportFrom):
            level, base = (node.level, node.module or "") if isinstance(node, ast.ImportFrom) else (0, "")
            imports.append((level, base, [alias.name for alias in node.names]))
    return imports


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree but for what is imported only to check types."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from _executed(child)


def _parse(content: bytes) -> ast.Module | None:
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=1000)
def _digests(content: bytes) -> tuple[str, str]:
    """Return the digest of the content of a file, and that of its code."""
    return _digest(content), _digest(_code(content))


def _code(content: bytes) -> bytes:
    """Return the code of a file in one form, without comments and docstrings."""
    tree = _parse(content)
    if tree is None:
        return content
    for node in ast.walk(tree):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree).encode()


def _name(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
