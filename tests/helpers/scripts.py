"""Imports of the scripts that are in no package: the examples and the benchmarks."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def import_scripts(*paths: Path) -> list[ModuleType]:
    """Import files by location; later ones can import earlier ones by name, as neighbours in a folder do."""
    names = [path.stem for path in paths]
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    modules = []
    try:
        for path in paths:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            modules.append(module)
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
    return modules


def unknown_imports(source: str) -> list[str]:
    """Return the names that a script imports from the package and that the package does not have."""
    names: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [(node.module or "", alias.name) for alias in node.names]
    own = [(module, name) for module, name in names if module.split(".")[0] == "ppl_vae"]
    return [f"{module}.{name}" if name else module for module, name in own if not _exists(module, name)]


def _exists(module: str, name: str | None = None) -> bool:
    try:
        content = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    return name is None or hasattr(content, name) or _exists(f"{module}.{name}")
