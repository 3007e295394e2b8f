"""Imports of another kind: by need, of extras, and of torchvision beside a PyTorch for which it was not built."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

from ppl_vae.errors import InputError

# A schema exists as long as its Library object.
_library: torch.library.Library | None = None


def lacks_operators(error: BaseException) -> bool:
    """Check if an error is that of an import of torchvision whose operators cannot be loaded."""
    return isinstance(error, RuntimeError) and "torchvision::nms does not exist" in str(error)


def import_torchvision() -> ModuleType:
    """Import torchvision, even if its compiled operators cannot be loaded.

    PyPI's torchvision is built for CUDA. Beside a CPU-only PyTorch its operators do not load, and the import
    fails with "operator torchvision::nms does not exist". In that case the schemas of ``nms`` and ``qnms`` are
    declared, and the import is tried again. The data sets need no operator.

    Raises:
        InputError: if torchvision is not installed.
    """
    global _library
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise InputError("torchvision is not installed: run `pip install torchvision`") from None
    except RuntimeError as error:
        if not lacks_operators(error):
            raise
    # A failed import leaves behind the submodules that it finished.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    if _library is None:
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            _library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision")


def import_extra(module: str, extra: str, what: str) -> Any:
    """Import a module that an extra of this package installs.

    Args:
        module: the full name of the module.
        extra: the extra.
        what: what needs the module, for the message.

    Raises:
        InputError: the module, or one that it imports, is not installed.

    Example:
        >>> import_extra("pyarrow.parquets", "tables", "own.parquet")
        Traceback (most recent call last):
        ...
        ppl_vae.errors.InputError: own.parquet needs pyarrow: pip install 'ppl-vae[tables]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0]
        raise InputError(f"{what} needs {package}: pip install 'ppl-vae[{extra}]'") from None


class _ImportedLater(ModuleType):
    """A stand-in of a module that imports it when an attribute is read."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what inspection asks of any object
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def by_need(name: str) -> Any:
    """Return a stand-in of a module, which imports it at the first use of an attribute.

    A type checker should see the plain import: ``if TYPE_CHECKING: import pandas as pd``.

    Args:
        name: the full name of the module.

    Example:
        >>> by_need("fractions").Fraction(2, 4)
        Fraction(1, 2)
    """
    return _ImportedLater(name)
