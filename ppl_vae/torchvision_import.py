"""Importing torchvision beside a PyTorch for which it was not built."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

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
