"""Program files as modules, each with the files beside it and apart from those of other programs.

The folder of a program file is a package with a name of its own in ``sys.modules``. What the file imports from beside
it becomes a module of that package, so that two programs may have helpers of one name.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from ppl_vae.runs.sources import is_beside, source_files

PREFIX = "ppl_vae_program_"


def import_file(path: Path) -> ModuleType:
    """Execute a program file, and return its module.

    Each call executes the file anew. Files that have changed become modules of another name, so that programs that
    were imported before keep their own.
    """
    contents = [file.read_bytes() for file in source_files(path, path.parent).values()]
    package = PREFIX + hashlib.sha256(b"\0".join([os.fsencode(path), *contents])).hexdigest()[:16]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    sys.modules[package] = folder = ModuleType(package, "The folder of a program file.")
    folder.__path__ = [str(path.parent)]
    if not any(isinstance(finder, _FinderBeside) for finder in sys.meta_path):
        sys.meta_path.insert(0, _FinderBeside())
    importlib.invalidate_caches()
    name = f"{package}.{path.stem.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_LoaderBeside(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _FinderBeside(MetaPathFinder):
    """A finder of the modules in the package of a program file."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(PREFIX):
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _LoaderBeside(spec.loader.name, spec.loader.path)
        return spec


class _LoaderBeside(SourceFileLoader):
    """A loader of modules whose import statements look beside the program file first."""

    def get_code(self, fullname: str) -> Any:
        """Compile the source; a compiled file beside it may be that of an earlier source of the same second."""
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(package)}
        super().exec_module(module)


def _importer(package: str) -> Callable[..., Any]:
    """Return the function that import statements in the package of a program file call."""
    folder = Path(sys.modules[package].__path__[0])

    def import_beside(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top = name.partition(".")[0]
        importing = (globals or {}).get("__name__")
        if level or f"{package}.{top}" == importing or not is_beside(folder, top):
            return builtins.__import__(name, globals, locals, fromlist, level)
        if fromlist:
            return builtins.__import__(f"{package}.{name}", globals, locals, fromlist, 0)
        importlib.import_module(f"{package}.{name}")
        return sys.modules[f"{package}.{top}"]

    return import_beside
