"""Which modules are a program's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn


def owned_modules(model: Callable[..., Any], guide: Callable[..., Any] | None) -> nn.Module:
    """The modules that a program's model and guide use: their mode, device and buffers follow the program.

    They are the object whose methods model and guide are, or the modules that it holds, or those that a function refers
    to by name.
    """
    owners = {id(owner): owner for owner in (getattr(part, "__self__", part) for part in (model, guide) if part)}
    found: dict[str, nn.Module] = {}
    for role, owner in zip(("model", "guide"), owners.values(), strict=False):
        if isinstance(owner, nn.Module):
            if len(owners) == 1:
                return owner
            found[role] = owner
        elif inspect.isfunction(owner):
            names = inspect.getclosurevars(owner)
            found |= {k: v for k, v in {**names.globals, **names.nonlocals}.items() if isinstance(v, nn.Module)}
        else:
            found |= {k: v for k, v in getattr(owner, "__dict__", {}).items() if isinstance(v, nn.Module)}
    return nn.ModuleDict(found)
