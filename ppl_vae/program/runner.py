"""The parts that are needed to run a program: model, guide, their modules and a parameter store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pyro
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program.factor_term import SharedFactors
from ppl_vae.program.global_posterior import SharedLatents
from ppl_vae.program.modules import REGISTERED
from ppl_vae.program.process import LOCK, Precision, at_precision, seeded

Batch = tuple[Tensor, ...]


class Store:
    """A parameter store of Pyro's, apart from the global one, for a program and all that are derived from it.

    Attributes:
        precision: the precision at which these programs run.
    """

    def __init__(self) -> None:
        self.precision: Precision = "32-true"
        self._state: dict[str, Any] = {"params": {}, "constraints": {}}
        self._entered = False

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make ``pyro.param`` and ``pyro.module`` use this store; a scope within a scope changes nothing."""
        if self._entered:
            yield
            return
        self._entered = True
        try:
            with pyro.get_param_store().scope(self._state):  # type: ignore[arg-type]
                yield
        finally:
            self._entered = False

    def adopt(self) -> set[str]:
        """Take over the values of the parameters of this store that Pyro's global store has, as plain SVI leaves them.

        Returns:
            set: the names of these parameters; those of modules, which hold their values, are not among them.

        Raises:
            InputError: a value has another shape than the program gives it.
        """
        with LOCK:
            given, own = pyro.get_param_store().get_state(), self._state
        names = {name for name in own["params"].keys() & given["params"].keys() if "$$$" not in name}
        for name in sorted(names):
            value, expected = given["params"][name], own["params"][name]
            if value.shape != expected.shape:
                raise InputError(
                    f"the parameter {name!r} has shape {tuple(value.shape)} in Pyro's parameter store, and the program "
                    f"gives it {tuple(expected.shape)}: give the data of the fit, or clear the store"
                )
            own["params"][name] = value.detach().to(expected).clone().requires_grad_()
            own["constraints"][name] = given["constraints"][name]
        return names


@dataclass(frozen=True, kw_only=True, eq=False)
class Runner:
    """Model and guide with all that they need to be run, before anything is known about them.

    Attributes:
        name: the program's name, for messages.
        argument_names: the names of the arguments that the model was written with.
        model: the model, a function of the batch.
        guide: the guide, a function of the batch, if there is one.
        module: the modules that model and guide use.
        store: the parameter store.
        data_plate: the name of the data plate, if the user gave one.
        closed_form: the program's own ``log_evidence``, if it has one.
        global_posterior: the posterior of the latents that all data share, if there are any.
        left_out: the user's own guide, if the program is used without it.
        shared_factors: the factors that all data share, if there are any.
    """

    name: str
    argument_names: tuple[str, ...]
    model: Callable[..., Any]
    guide: Callable[..., Any] | None
    module: nn.Module
    store: Store
    data_plate: str | None = None
    closed_form: Callable[..., Tensor] | None = None
    global_posterior: SharedLatents | None = None
    left_out: Callable[..., Any] | None = None
    shared_factors: SharedFactors | None = None

    @property
    def precision(self) -> Precision:
        """The precision at which the program and all that are derived from it run."""
        return self.store.precision

    @contextmanager
    def running(self, *, seed: int | Literal["current"] | None = None, training: bool | None = None) -> Iterator[None]:
        """Hold the lock of the process, and run in this program's parameter store and at its precision.

        The global state is restored afterwards.

        Args:
            seed: the seed of torch's generator, which is restored afterwards. ``"current"`` draws from its present
                state and restores it too; None draws from its present state and does not restore it.
            training: if given, the modules are in this mode (dropout, batch norm) and Pyro's validation is off. Matrix
                products are in bfloat16 only in training.
        """
        with ExitStack() as stack:
            stack.enter_context(LOCK)
            if seed is not None:
                stack.enter_context(seeded(None if seed == "current" else seed))
            stack.enter_context(self.store.scope())
            stack.enter_context(at_precision(self.precision, training=training))
            if training is not None:
                for module in self.module.modules():
                    stack.callback(setattr, module, "training", module.training)
                stack.enter_context(pyro.validation_enabled(False))
                self.module.train(training)
            yield

    def refuse_globals(self, why: str) -> None:
        """Raise ``InputError`` for what cannot be done with latents that all data share."""
        if self.global_posterior is not None:
            raise InputError(
                f"the latent {self.global_posterior.names[0]!r} of {self.name} is shared by all data, and {why}: "
                f"estimate the evidence by iwae"
            )

    def parameters(self) -> dict[str, Tensor]:
        """Return what training moves: names to leaf tensors in unconstrained space, each the module's own tensor."""
        with self.running():
            first: dict[int, tuple[str, Tensor]] = {}  # a module may be registered twice, under two names
            for name, tensor in pyro.get_param_store().named_parameters():
                first.setdefault(id(tensor), (name.replace("$$$", "."), tensor))
            return dict(first.values())

    def state(self) -> dict[str, Tensor]:
        """Return all that a fit changes: parameters and buffers of the modules, and values of ``pyro.param``."""
        modules = self.module.state_dict(keep_vars=True)
        held = {id(tensor) for tensor in modules.values()}
        free = {f"param.{name}": value for name, value in self.parameters().items() if id(value) not in held}
        return {f"module.{name}": value.detach() for name, value in modules.items()} | {
            name: value.detach() for name, value in free.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy a ``state`` back in place.

        Raises:
            InputError: a name or a shape differs: it is the state of another program. Nothing is changed then.
        """
        own = self.state()
        if differing := sorted(own.keys() ^ state.keys()):
            name = differing[0]
            if all(name in own and f".{REGISTERED}." in name for name in differing):
                raise InputError(
                    f"the file was written by an earlier version, which did not save {name!r} of {self.name}, a tensor "
                    f"of a module that is no attribute of the program: fit it again"
                )
            whose = "lacks" if name in own else "has"
            raise InputError(f"the parameters belong to another model than {self.name}: the file {whose} {name!r}")
        for name, tensor in own.items():
            if tensor.is_floating_point() != state[name].is_floating_point():
                raise InputError(
                    f"the parameters belong to another model than {self.name}: {name!r} holds {state[name].dtype}, "
                    f"expected {tensor.dtype}"
                )
            if tensor.shape != state[name].shape:
                raise InputError(
                    f"the parameters belong to another model than {self.name}: {name!r} has shape "
                    f"{tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
                )
        for name, tensor in own.items():
            tensor.copy_(state[name])
