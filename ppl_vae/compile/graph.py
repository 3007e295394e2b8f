"""Tracing: a function of tensors runs in Python once, and its tensor operations are recorded as a graph."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from ppl_vae.compile import private
from ppl_vae.compile.explain import Untraceable, explained
from ppl_vae.compile.products import mm
from ppl_vae.program.densities import tracing

Outputs = tuple[Tensor, ...]
TensorFunction = Callable[..., Outputs]
"""A function from tensors to a tuple of tensors. It may use other tensors and change those in place, not its inputs."""
MOST_OPERATIONS = 5000
"""Largest number of operations of a graph; for more, such as a long chain of latents, Inductor would take minutes."""


class Traced(NamedTuple):
    """A graph and the tensors that it uses beside its inputs: parameters, buffers, data. Each run reads them anew."""

    module: fx.GraphModule
    """The graph; it takes the inputs, followed by the captured tensors."""
    captured: list[Tensor]


def trace(function: TensorFunction, inputs: Sequence[Tensor], module: nn.Module | None = None) -> Traced:
    """Record the graph of a function, and find the tensors that it uses beside its inputs.

    Args:
        function: the function of the inputs.
        inputs: examples; only their shapes, strides and types matter.
        module: the module that the function runs, if there is one.

    Raises:
        Untraceable: if Python reads the value of a tensor, draws from Python's or NumPy's generators, or changes an
            attribute of the module.
    """
    detached = [tensor.detach() for tensor in inputs]
    mode = private.fake_mode(allow_non_fake_inputs=True)
    with explained(), _no_draws_by_python(), _no_memory(module), tracing(), mode, _Unchanged(mode) as unchanged:
        fakes = [mode.from_tensor(tensor, static_shapes=True) for tensor in detached]
        graph = private.make_fx(function)(*fakes)
    captured = _lifted(graph, unchanged.originals)
    with explained(), private.settings():
        functional = torch.func.functionalize(graph, remove="mutations")
        simpler = private.make_fx(functional, tracing_mode="fake", decomposition_table=_decompositions())
        graph = simpler(*detached, *(tensor.detach() for tensor in captured))
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return Traced(graph, captured)


@contextmanager
def _no_draws_by_python() -> Iterator[None]:
    """Leave the generators of Python and NumPy as they are, and refuse a function that draws from them."""
    python, numpy = random.getstate(), cast(tuple, np.random.get_state())  # noqa: NPY002
    try:
        yield
        _, keys, position, *_ = cast(tuple, np.random.get_state())  # noqa: NPY002
        if random.getstate() != python or position != numpy[2] or not np.array_equal(keys, numpy[1]):
            raise Untraceable("it draws from Python's or NumPy's random numbers, which a graph would freeze")
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _no_memory(module: nn.Module | None) -> Iterator[None]:
    """Leave the attributes of a module as they are, and refuse a function that sets one: its graph would not."""
    parts = list(module.modules()) if module is not None else []
    by_pytorch = vars(nn.Module()).keys()
    held: list[tuple[nn.Module, str | None, Any]] = [
        (part, None, values) for part in parts for values in (vars(part), part._buffers, part._parameters)
    ]
    held += [
        (part, name, value)
        for part in parts
        for name, value in vars(part).items()
        if type(value) in (list, dict) and name not in by_pytorch
    ]
    before = [copy(container) for _, _, container in held]
    try:
        yield
        for (part, name, container), old in zip(held, before, strict=True):
            for key in _changed(container, old):
                what = f"{type(part).__name__}.{name or key}"
                raise Untraceable(f"it changes {what}, which a graph would leave as it is")
    finally:
        for (_, _, container), old in zip(held, before, strict=True):
            container.clear()
            (container.update if isinstance(container, dict) else container.extend)(old)


def _changed(now: Any, before: Any) -> list[Any]:
    """Return the keys of a dictionary, or the places of a list, that were added, removed or assigned."""
    new, old = (items if isinstance(items, dict) else dict(enumerate(items)) for items in (now, before))
    return [key for key in {**old, **new} if key not in new or key not in old or new[key] is not old[key]]


class _Unchanged(private.TorchDispatchMode):
    """A mode that protects the tensors that a traced function changes in place: the function changes stand-ins.

    Attributes:
        originals: the original tensors, by the identity of their stand-ins.
    """

    def __init__(self, mode: Any) -> None:
        super().__init__()
        self.mode = mode
        self.operations = 0
        self.originals: dict[int, Tensor] = {}
        self._stand_ins: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.operations += 1
        if self.operations > MOST_OPERATIONS:
            raise Untraceable(
                f"it is a graph of more than {MOST_OPERATIONS} operations, which takes too long to compile"
            )
        if private.reads_a_value(func) and not private.is_fake(args[0]):
            raise RuntimeError("data-dependent: the value of a tensor that may change")
        if func._schema.is_mutable:
            args, kwargs = private.tree_map_only(Tensor, self._stand_in, (args, kwargs))
        return func(*args, **kwargs)

    def _stand_in(self, tensor: Tensor) -> Tensor:
        if private.is_fake(tensor):
            return tensor
        if id(tensor) not in self._stand_ins:
            stand_in = self.mode.from_tensor(tensor.detach(), static_shapes=True)
            self._stand_ins[id(tensor)], self.originals[id(stand_in)] = stand_in, tensor
        return self._stand_ins[id(tensor)]


def _lifted(module: fx.GraphModule, originals: Mapping[int, Tensor]) -> list[Tensor]:
    """Turn the tensors that a graph uses, itself or through their stand-ins, into further inputs, and return them."""
    captured: list[Tensor] = []
    nodes: dict[int, fx.Node] = {}
    last = [node for node in module.graph.nodes if node.op == "placeholder"][-1:]
    for node in list(module.graph.nodes):
        if node.op != "get_attr":
            continue
        tensor = getattr(module, str(node.target))
        tensor = originals.get(id(tensor), tensor)
        if id(tensor) not in nodes:
            with module.graph.inserting_after(last[0]) if last else module.graph.inserting_before():
                last = [module.graph.placeholder(f"captured_{len(captured)}")]
            captured.append(tensor)
            nodes[id(tensor)] = last[0]
        node.replace_all_uses_with(nodes[id(tensor)])
        module.graph.erase_node(node)
    module.recompile()
    return captured


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Return the operations that are replaced by others, so that the graph draws the numbers of the function."""

    def normal(x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: None = None) -> Tensor:
        noise = torch.randn(x.shape, dtype=x.dtype, device=x.device)
        return noise if (mean, std) == (0, 1) else noise * std + mean

    def bernoulli(p: Tensor, *, generator: None = None) -> Tensor:  # Inductor draws in single precision for doubles too
        return (torch.rand_like(p) < p).to(p.dtype)

    def addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """Add the bias in the kernel that reads the product; in three dimensions, or else Inductor would undo it."""
        if (beta, alpha) != (1, 1):
            return NotImplemented
        return ((a @ b)[None] + bias)[0]

    aten = torch.ops.aten
    own: dict[Any, Callable[..., Any]] = {
        aten.normal_functional.default: normal,
        aten.bernoulli.default: bernoulli,
        aten.addmm.default: addmm,
        aten.mm.default: mm,
    }
    return {**private.decompositions(), **own}
