"""The modules of a program: those that its objects hold, and those that a run registers or calls, wherever they are."""

from __future__ import annotations

import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

REGISTERED = "registered"
"""The part of a state's names for what modules hold that only a run has shown."""


def owned_modules(model: Callable[..., Any], guide: Callable[..., Any] | None) -> nn.Module:
    """Return the modules of model and guide that are found without a run of them.

    They are the object whose methods model and guide are, or the modules that it holds, or those to which a function
    refers by name.
    """
    owners = {id(owner): owner for owner in (getattr(part, "__self__", part) for part in (model, guide) if part)}
    modules: dict[str, nn.Module] = {}
    for role, owner in zip(("model", "guide"), owners.values(), strict=False):
        if isinstance(owner, nn.Module):
            if len(owners) == 1:
                return owner
            modules[role] = owner
        elif inspect.isfunction(owner):
            names = inspect.getclosurevars(owner)
            modules |= {k: v for k, v in {**names.globals, **names.nonlocals}.items() if isinstance(v, nn.Module)}
        else:
            modules |= {k: v for k, v in getattr(owner, "__dict__", {}).items() if isinstance(v, nn.Module)}
    return nn.ModuleDict(modules)


class ProgramModules(nn.Module):
    """The modules that the objects of a program hold, and beside them those that only a run of it has shown.

    The state has the former under the names that they have by themselves. It has the latter without the parameters
    that ``pyro.module`` registers, which the parameter store has.

    Args:
        own: the modules that the objects of the program hold.
        shown: the others, by name; a name of ``registered`` is that of ``pyro.module``.
        registered: the names of those that ``pyro.module`` registers.
    """

    def __init__(self, own: nn.Module, shown: Mapping[str, nn.Module], registered: frozenset[str]) -> None:
        super().__init__()
        self.own, self.shown, self.registered = own, nn.ModuleDict(shown), registered

    def state_dict(  # type: ignore[override]
        self, *args: Any, prefix: str = "", **options: Any
    ) -> dict[str, Any]:
        """Return the tensors of the modules by name, see the class."""
        state: dict[str, Any] = self.own.state_dict(*args, prefix=prefix, **options)
        for name, module in self.shown.items():
            trained = {n for n, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
            for path, value in module.state_dict(keep_vars=options.get("keep_vars", False)).items():
                if not (name in self.registered and path in trained):
                    state[f"{prefix}{REGISTERED}.{name}.{path}"] = value
        return state


def with_shown(modules: nn.Module, recorder: ModuleRecorder) -> nn.Module:
    """Return the modules of a program with those that a run has shown; the same object if there are no others."""
    known = {id(part) for part in modules.modules()}
    shown = {name: module for name, module in recorder.modules().items() if id(module) not in known}
    for name, module in list(shown.items()):
        if any(module in set(other.modules()) for other in shown.values() if other is not module):
            del shown[name]
    if not shown:
        return modules
    before = modules if isinstance(modules, ProgramModules) else ProgramModules(modules, {}, frozenset())
    together: dict[str, nn.Module] = dict(before.shown.items())
    registered = set(before.registered)
    for name, module in shown.items():
        free = name
        while free in together:
            free += "_"
        together[free] = module
        if name in recorder.registered:
            registered.add(free)
    return ProgramModules(before.own, together, frozenset(registered))


class ModuleRecorder:
    """The modules that ``pyro.module`` registers, and those that are called, while ``recorded_modules`` is open.

    Registered modules are recorded under whatever name the caller has imported ``pyro.module``.

    Attributes:
        registered: modules by the name of ``pyro.module``, with ``_`` in place of dots.
    """

    def __init__(self) -> None:
        self.registered: dict[str, nn.Module] = {}
        self._called: list[weakref.ref[nn.Module]] = []
        self._training: list[weakref.ref[nn.Module]] = []
        self._thread = threading.get_ident()

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules by name; a called module that was made in the run and is gone does not count."""
        modules, held = dict(self.registered), {id(m) for m in self.registered.values()}
        for called in self._called:
            module = called()
            if module is not None and id(module) not in held:
                held.add(id(module))
                kind = type(module).__name__
                modules[next(n for i in range(len(held)) if (n := f"{kind}_{i}") not in modules)] = module
        return modules

    def register(self, candidate: Any) -> bool:
        """Stand for ``isclass`` in ``pyro.module``, which is called once with every module that it registers."""
        caller = sys._getframe(1)
        if caller.f_code is pyro.primitives.module.__code__ and isinstance(candidate, nn.Module) and self._is_mine():
            name = str(caller.f_locals["name"]).replace(".", "_")
            while self.registered.get(name, candidate) is not candidate:
                name += "_"
            self.registered[name] = candidate
            self._evaluate(candidate)
        return inspect.isclass(candidate)

    def call(self, module: nn.Module, _: Any) -> None:
        """Note a module that is about to be called."""
        if self._is_mine() and not any(called() is module for called in self._called):
            self._called.append(weakref.ref(module))
            self._evaluate(module)

    def _is_mine(self) -> bool:
        return threading.get_ident() == self._thread

    def _evaluate(self, module: nn.Module) -> None:
        """Keep a module from changing its statistics in a run that only looks at it."""
        for part in module.modules():
            if part.training:
                self._training.append(weakref.ref(part))
                part.training = False

    def restore(self) -> None:
        """Set the modules back to their modes."""
        for part in self._training:
            if (module := part()) is not None:
                module.training = True


@contextmanager
def recorded_modules() -> Iterator[ModuleRecorder]:
    """Record which modules are registered or called in the block, where they are in evaluation mode.

    The caller holds the lock of the process. ``pyro.module`` is no effect that a handler could see, and a user may have
    imported it under any name, so that a function that it calls is replaced.

    Example:
        >>> nets = {"decoder": nn.Sequential(nn.Linear(2, 3), nn.Dropout())}
        >>> with recorded_modules() as recorder:
        ...     _ = pyro.module("decoder", nets["decoder"])
        >>> recorder.modules() == nets
        True
    """
    recorder = ModuleRecorder()
    before = pyro.primitives.isclass
    hook = register_module_forward_pre_hook(recorder.call)
    pyro.primitives.isclass = recorder.register  # type: ignore[assignment]
    try:
        yield recorder
    finally:
        pyro.primitives.isclass = before
        hook.remove()
        recorder.restore()
