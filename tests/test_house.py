"""Laws about the tree: rooms, names, first lines of docstrings, and who touches PyTorch's private interfaces."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, TESTS = ROOT / "ppl_vae", ROOT / "tests"

PRIVATE = "ppl_vae/compile/private.py"
MOST_LINES, MOST_MODULES = 350, 8


def parsed(folder: Path) -> dict[str, ast.Module]:
    """Return the trees of the files of a folder by their names."""
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Return the trees of the package, which are not parsed by processes that run other tests."""
    return parsed(PACKAGE)


def docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the full names of what a file imports, at its top or in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def defined(tree: ast.Module) -> Iterator[str]:
    """Yield the names of classes, wherever they are, and of type aliases, such as ``Outputs = tuple[Tensor, ...]``."""
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.Name | ast.BinOp):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (name for name in names if re.match(r"_?[A-Z]\w*[a-z]", name))


def test_few_modules_lie_at_the_top_of_the_package() -> None:
    modules = [path.name for path in PACKAGE.glob("*.py")]
    assert len(modules) <= MOST_MODULES, modules


def test_no_file_is_long() -> None:
    long = [path for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > MOST_LINES]
    assert not long


def test_no_class_or_alias_has_a_name_that_another_has(trees: dict[str, ast.Module]) -> None:
    counts = Counter(name for tree in trees.values() for name in defined(tree))
    assert {name for name, count in counts.items() if count > 1} == set()


def test_nothing_shadows_path(trees: dict[str, ast.Module]) -> None:
    assert not [name for name, tree in trees.items() if "Path" in defined(tree)]


def is_path_of_python(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "path" and ast.unparse(node) == "sys.path"


def test_a_test_imports_no_other_and_leaves_the_path_alone() -> None:
    faults = []
    for path in sorted(TESTS.rglob("*.py")):
        name, text = path.relative_to(ROOT).as_posix(), path.read_text()
        of_the_drill = r"|drill\b" if name.startswith("tests/drill/") else ""  # one program in several files
        others = rf"tests\.(?!helpers\b{of_the_drill})"
        if not re.search(rf"{others}|from tests import|sys\.path", text):
            continue  # it cannot do either, and is not parsed
        tree = ast.parse(text)
        faults += [(name, module) for module in imported(tree) if re.match(others, module)]
        faults += [(name, "sys.path") for node in ast.walk(tree) if is_path_of_python(node)]
    assert not faults


UNREADABLE = ("Of ", "So many ", "So often ", "Whether ", "How ", "What ")


def test_docstrings_begin_with_a_word_that_says_what_follows(trees: dict[str, ast.Module]) -> None:
    lines = [(name, text.partition("\n")[0]) for name, tree in trees.items() for text in docstrings(tree)]
    assert not [(name, line) for name, line in lines if line.startswith(UNREADABLE)]


def private_names(tree: ast.Module) -> set[str]:
    names = {*imported(tree), *(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))}
    return {name for name in names if re.match(r"torch(\.\w+)*\._(?!_)|torch\.fx\.experimental", name)}


def test_private_interfaces_of_pytorch_are_used_in_one_file(trees: dict[str, ast.Module]) -> None:
    users = {name for name, tree in trees.items() if private_names(tree)}
    assert users == {PRIVATE}
