"""The optimiser of theta and phi: by name, or any class of ``torch.optim`` by its path."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ppl_vae.compile.collection import without_collection
from ppl_vae.errors import InputError, nearest, reason

NAMED: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "radam": torch.optim.RAdam,
    "sgd": torch.optim.SGD,
}
"""The optimisers that have a short name."""
FUSED = (torch.optim.Adam, torch.optim.AdamW)
"""The classes whose update PyTorch runs as one kernel, and whose update a graph can contain."""


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Return the class of an optimiser.

    Args:
        name: a name of ``NAMED``, or the path of a class, such as ``torch.optim.RMSprop``.

    Raises:
        InputError: there is no such class, it is no optimiser, or it needs more than a gradient for a step.

    Example:
        >>> optimizer_class("adamw").__name__, optimizer_class("torch.optim.RMSprop").__name__
        ('AdamW', 'RMSprop')
        >>> optimizer_class("adamm")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: optimizer='adamm' is unknown; did you mean 'adam'? (known: adam, adamax, ada...
    """
    if name in NAMED:
        return NAMED[name]
    module, _, own = str(name).rpartition(".")
    if not module:
        raise InputError(
            f"optimizer={name!r} is unknown; {nearest(str(name), list(NAMED))}, or the path of a class, such as "
            f"torch.optim.RMSprop"
        )
    try:
        kind = getattr(importlib.import_module(module), own)
    except (ImportError, AttributeError) as error:
        raise InputError(f"optimizer={name!r} cannot be imported: {reason(error)}") from error
    if not (inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)):
        raise InputError(f"optimizer={name!r} is no optimiser: expected a class such as torch.optim.RMSprop")
    needs_closure = inspect.signature(kind.step).parameters.get("closure")
    if (needs_closure and needs_closure.default is inspect.Parameter.empty) or kind is torch.optim.SparseAdam:
        raise InputError(f"optimizer={name!r} needs more than a gradient of all parameters for a step: take another")
    return kind


def make_optimizer(
    parameters: Mapping[str, Tensor],
    learning_rate: float,
    name: str = "adam",
    weight_decay: float = 0.0,
    arguments: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """Return an optimiser of parameters, whose weights alone decay.

    Weights are tensors of two or more dimensions, such as matrices and kernels of convolutions. Biases and scales have
    one dimension, and do not decay.

    Args:
        parameters: the leaf tensors, by name.
        learning_rate: the learning rate at first.
        name: see ``optimizer_class``.
        weight_decay: the argument of this name of the class, for the weights.
        arguments: further arguments of the class.

    Raises:
        InputError: the class does not take the arguments.

    Example:
        >>> tensors = dict(torch.nn.Linear(3, 2).named_parameters())
        >>> adam = make_optimizer(tensors, 1e-3, "adamw", weight_decay=0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in adam.param_groups]
        [(1, 0.1), (1, 0.0)]
        >>> make_optimizer(tensors, 1e-3, "sgd", arguments={"inertia": 0.9})
        Traceback (most recent call last):
        ppl_vae.errors.InputError: optimizer 'sgd' does not take the arguments {'inertia': 0.9}: ...
    """
    if not isinstance(arguments or {}, Mapping):
        raise InputError(f"optimizer_args is {arguments!r}: expected arguments by name, such as {{'momentum': 0.9}}")
    kind, given = optimizer_class(name), dict(arguments or {})
    if kind in FUSED and not given.keys() & {"fused", "foreach", "differentiable"}:
        given["fused"] = True
    groups: Any = list(parameters.values())
    if not weight_decay and "weight_decay" in inspect.signature(kind).parameters:
        given.setdefault("weight_decay", 0.0)  # AdamW has another default
    if weight_decay:
        weights = [tensor for tensor in parameters.values() if tensor.dim() > 1]
        others = [tensor for tensor in parameters.values() if tensor.dim() <= 1]
        decays = {"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}
        groups = [group for group in decays if group["params"]]
    try:
        with without_collection():  # the first optimiser imports PyTorch's compiler
            return kind(groups, lr=learning_rate, **given)  # type: ignore[call-arg]
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"optimizer {name!r} does not take the arguments {dict(arguments or {})}: {reason(error)}"
        ) from error


def in_graphs(optimizer: torch.optim.Optimizer) -> bool:
    """Return True if a graph can contain the steps of an optimiser: a plain Adam or AdamW at one rate.

    Example:
        >>> weight = [torch.nn.Parameter(torch.ones(2))]
        >>> in_graphs(torch.optim.AdamW(weight)), in_graphs(torch.optim.Adam(weight, amsgrad=True))
        (True, False)
    """
    first = optimizer.param_groups[0]
    return type(optimizer) in FUSED and not any(
        group["amsgrad"] or group["maximize"] or any(group[key] != first[key] for key in ("lr", "betas", "eps"))
        for group in optimizer.param_groups
    )


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an optimiser's state as ``PARAMETER.KEY``, in which numbers are tensors too."""
    tensors = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor | int | float):
                tensors[f"{name}.{key}"] = torch.as_tensor(value)
    return tensors


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Set an optimiser's state to one of ``optimizer_state``.

    Tensors that the optimiser has are changed in place, because a graph refers to them.

    Raises:
        InputError: a tensor of the state is missing.
    """
    for name, parameter in parameters.items():
        own, saved = optimizer.state[parameter], {k: v for k, v in group(tensors, name).items() if "." not in k}
        if not in_graphs(optimizer):  # its state begins with its first step, and no graph refers to it
            kept = {key: value for key, value in own.items() if not isinstance(value, Tensor | int | float)}
            fresh = {
                key: tensor.clone().to(_device(key, parameter, optimizer.defaults)) for key, tensor in saved.items()
            }
            optimizer.state[parameter] = kept | fresh
            continue
        for key, tensor in own.items():
            if key not in saved:
                raise InputError(f"the checkpoint has no optimiser state of {name!r}: train anew with --overwrite")
            tensor.copy_(saved[key])


def group(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint whose names begin with ``name`` and a dot, without it."""
    return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}


def _device(key: str, parameter: Tensor, of_class: Mapping[str, Any]) -> torch.device:
    """Return the device of a tensor of the state; the number of steps stays on the host unless a kernel reads it."""
    on_host = key == "step" and not (of_class.get("fused") or of_class.get("capturable"))
    return torch.device("cpu") if on_host else parameter.device
