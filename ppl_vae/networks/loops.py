"""The operations of a cell, cut into what its loops repeat and what is computed for all steps at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from functorch import make_fx
from torch import Tensor, fx, nn

ROWS = (13, 17, 19, 23, 29, 31, 37, 41, 43, 47)
"""Numbers of rows of an example; the first that is no other size is taken, so that rows are told from columns."""

Function = Callable[..., Sequence[Any]]


class Loops(NamedTuple):
    """A recurrence as functions of the rows of a step, and of those of all steps together.

    The rows of a step are its state, inputs and, on the way back, the next state and what was saved. Behind the rows,
    every function takes what is fixed and the number of rows.
    """

    num_inputs: int
    fixed: Function
    """From the weights to what depends on them alone, which no loop repeats."""
    forward: Function
    """From state and inputs to the next state."""
    saving: Function
    """The same, with the numbers that the way back needs."""
    backward: Function
    """From the adjoint of a state and the rows of its step to the adjoint before it, and the numbers that the
    gradients need."""
    gradients: Function
    """From adjoints, the rows of all steps, and those numbers to the gradients of inputs and weights."""


class TensorKind(NamedTuple):
    """The part of a tensor that a trace depends on."""

    shape: tuple[int, ...]
    """The shape of a row, or of a weight."""
    dtype: torch.dtype
    device: torch.device


def trace_loops(step: Callable[..., Tensor], rows: Sequence[TensorKind], weights: Sequence[TensorKind]) -> Loops:
    """Trace a step and its gradient, and cut the operations.

    Args:
        step: a function of the rows and the weights that returns the next state.
        rows: the state and the inputs of a step.
        weights: the weights.

    Raises:
        ValueError: the step draws random numbers or changes a tensor in place, or the next state has another shape or
            does not depend on the state.
    """
    kinds = (*rows, *weights)
    n = next(n for n in ROWS if n not in {size for kind in kinds for size in kind.shape})
    shapes = [(n, *kind.shape) if i < len(rows) else kind.shape for i, kind in enumerate(kinds)]
    examples = [torch.empty(s, dtype=k.dtype, device=k.device) for s, k in zip(shapes, kinds, strict=True)]
    wanted = [kind.dtype.is_floating_point for kind in kinds]

    def joint(adjoint: Tensor, *tensors: Tensor) -> list[Any]:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(wants) for t, wants in zip(tensors, wanted, strict=True)]
            new = step(*leaves)
            if new.shape != tensors[0].shape or new.dtype != tensors[0].dtype:
                raise ValueError(f"the next state has shape {tuple(new.shape)} and type {new.dtype}")
            of = [leaf for leaf, wants in zip(leaves, wanted, strict=True) if wants]
            gradients = iter(torch.autograd.grad(new, of, adjoint, allow_unused=True))
            return [new, *(next(gradients) if wants else None for wants in wanted)]

    examples = [torch.empty_like(examples[0]), *examples]
    traced = make_fx(joint, tracing_mode="symbolic")(*examples)
    if any(_schema(node).is_mutable for node in traced.graph.nodes if _schema(node) is not None):
        functional = torch.func.functionalize(traced, remove="mutations")
        traced = make_fx(functional, tracing_mode="symbolic")(*examples)
    return _cut(traced.graph, len(rows), n)


def _schema(node: fx.Node) -> Any:
    """Return the schema of an operation of PyTorch; None for another node."""
    return getattr(node.target, "_schema", None)


class _Ops(NamedTuple):
    """The nodes of a traced step by what they depend on, each in the order of the trace."""

    scalars: list[fx.Node]
    """Numbers that depend on the number of rows."""
    fixed: list[fx.Node]
    forward: list[fx.Node]
    """What depends on rows and not on the adjoint."""
    adjoint: list[fx.Node]


def _cut(graph: fx.Graph, num_rows: int, n: int) -> Loops:
    places = [node for node in graph.nodes if node.op == "placeholder"]
    number = _simplify(graph, places, n)
    adjoint, rows, weights = places[0], places[1 : 1 + num_rows], places[1 + num_rows :]
    (results,) = next(node for node in graph.nodes if node.op == "output").args
    new, *gradients = results
    if gradients[0] is None:
        raise ValueError("the next state does not depend on the state")
    ops = _sorted(graph, adjoint, rows, number)
    on_the_way = _ancestors(gradients[:1])
    loop = [node for node in ops.adjoint if node in on_the_way]
    after = [node for node in ops.adjoint if node not in on_the_way]
    wanted = [node for node in gradients[1:] if node is not None]
    used_after, used_back = _used_by(after, wanted), _used_by([*loop, *after], wanted)
    used = _used_by([*ops.forward, *loop, *after], [*wanted, new])
    fixed = [node for node in (*weights, *ops.fixed) if node in used]
    saved = [node for node in ops.forward if node in used_back and node is not new]
    kept = [node for node in loop if node in used_after]
    behind, stored = [*fixed, number], [*rows, new, *saved]
    forward = [*ops.scalars, *ops.forward]
    return Loops(
        num_inputs=num_rows - 1,
        fixed=_function(ops.fixed, weights, fixed),
        forward=_function(forward, [*rows, *behind], [new]),
        saving=_function(forward, [*rows, *behind], [new, *saved]),
        backward=_function([*ops.scalars, *loop], [adjoint, *stored, *behind], [gradients[0], *kept]),
        gradients=_function([*ops.scalars, *after], [adjoint, *stored, *kept, *behind], gradients[1:]),
    )


def _simplify(graph: fx.Graph, places: Sequence[fx.Node], n: int) -> fx.Node:
    """Write sizes as numbers, but for the number of rows, which becomes an input that is returned; drop ``detach``."""
    with graph.inserting_after(places[-1]):
        number = graph.placeholder("num_rows")
    sizes: dict[fx.Node, Any] = {}
    for node in list(graph.nodes):
        if node.op == "call_function":
            node.args = fx.node.map_arg(node.args, lambda arg: sizes.get(arg, arg))
            node.kwargs = fx.node.map_arg(node.kwargs, lambda arg: sizes.get(arg, arg))
            if node.target is torch.ops.aten.sym_size.int:
                size = node.meta["val"]
                size = size if isinstance(size, int) else size.node.hint
                if size == n or size % n:
                    sizes[node] = number if size == n else size
            elif node.target in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
                node.replace_all_uses_with(node.args[0])
            elif getattr(node.target, "__module__", "") == "_operator" and not node.all_input_nodes:
                sizes[node] = node.target(*node.args)
            elif (schema := _schema(node)) is not None and (
                schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags
            ):
                raise ValueError(f"{node.target} draws a random number or changes a tensor")
        elif node.op == "output":
            node.args = fx.node.map_arg(node.args, lambda arg: sizes.get(arg, arg))
    graph.eliminate_dead_code()
    return number


def _sorted(graph: fx.Graph, adjoint: fx.Node, rows: Sequence[fx.Node], number: fx.Node) -> _Ops:
    ops, kinds = _Ops([], [], [], []), {adjoint: 3, number: 0, **dict.fromkeys(rows, 2)}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        before = [kinds.get(source, 1) for source in node.all_input_nodes]
        is_scalar = node.target is not operator.getitem and getattr(node.target, "__module__", "") == "_operator"
        kinds[node] = 0 if is_scalar else max(max(before, default=1), 2 if 0 in before else 1)
        ops[kinds[node]].append(node)
    return ops


def _ancestors(nodes: Iterable[fx.Node | None]) -> set[fx.Node]:
    left, before = [node for node in nodes if node is not None], set[fx.Node]()
    while left:
        node = left.pop()
        if node not in before:
            before.add(node)
            left += node.all_input_nodes
    return before


def _used_by(nodes: Iterable[fx.Node], outputs: Collection[fx.Node]) -> set[fx.Node]:
    return {*outputs, *chain.from_iterable(node.all_input_nodes for node in nodes)}


def _function(nodes: Sequence[fx.Node], inputs: Sequence[fx.Node], outputs: Sequence[fx.Node | None]) -> Function:
    """Return some nodes as a function of the values of other nodes."""
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in inputs:
        copies[node] = graph.placeholder(node.name)
    for node in nodes:
        if node not in copies and all(source in copies for source in node.all_input_nodes):
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([None if node is None else copies[node] for node in outputs])
    graph.eliminate_dead_code()
    return fx.GraphModule(nn.Module(), graph).forward
